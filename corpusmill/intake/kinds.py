"""What kind of file a name and its first bytes speak of."""

from __future__ import annotations

from pathlib import PurePath

from corpusmill.intake.shapes import Compression, Format

LINE_FORMATS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
COMPRESSIONS: dict[str, Compression] = {".gz": "gz", ".zst": "zst"}

TEXT_SUFFIXES = frozenset(
    """
    .txt .text .md .markdown .mdx .mkd .rst .adoc .asciidoc .org .tex .bib .wiki .mediawiki .textile .pod .log .srt .vtt
    .html .htm .xhtml .xml .xsl .xsd .dtd .rss .atom .css .scss .sass .less .svelte .vue .astro
    .json .json5 .yaml .yml .toml .ini .cfg .conf .properties .editorconfig .graphql .proto .thrift .avsc
    .py .pyi .pyx .pxd .ipy .js .mjs .cjs .jsx .ts .mts .cts .tsx .java .kt .kts .scala .groovy .gradle .clj .cljs .edn
    .c .h .cc .cpp .cxx .hh .hpp .hxx .inl .m .mm .cu .cuh .go .rs .zig .nim .d .swift .cs .fs .fsx .vb .dart
    .rb .erb .rake .gemspec .php .pl .pm .t .lua .tcl .r .rmd .qmd .jl .ex .exs .erl .hrl .hs .lhs .ml .mli .elm
    .lisp .el .scm .rkt .f .for .f90 .f95 .f03 .f08 .pas .ada .adb .ads .cob .cbl .asm .s .v .sv .vhd .vhdl
    .sh .bash .zsh .fish .ps1 .psm1 .bat .cmd .awk .sed .sql .ddl .dml .hql .cypher
    .cmake .mk .make .am .in .ac .m4 .bazel .bzl .nix .tf .tfvars .hcl .dockerfile .patch .diff
    .po .pot .strings .eml .mbox .ics .vcf .man .1 .2 .3 .4 .5 .6 .7 .8 .info .texi .texinfo .inc .tmpl .tpl .j2 .jinja
    """.split()  # noqa: SIM905
)
TEXT_NAMES = frozenset(
    """
    readme license licence copying notice authors contributors contributing maintainers changelog changes history news
    todo install faq makefile gnumakefile dockerfile containerfile jenkinsfile vagrantfile rakefile gemfile procfile
    justfile codeowners version
    """.split()  # noqa: SIM905
)
CONVERTERS = {
    ".pdf": "markitdown",
    ".docx": "markitdown",
    ".pptx": "markitdown",
    ".xlsx": "markitdown",
    ".xls": "markitdown",
    ".epub": "markitdown",
    ".msg": "markitdown",
    ".doc": "libreoffice --headless --convert-to txt",
    ".odt": "pandoc",
    ".rtf": "pandoc",
}
# Share of NUL and other control bytes above which the start of a file is no text; a few are bad text.
_BINARY_SHARE = 0.1
_A_FEW = 4
_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n\r\f\b\x1b\0")


def line_format(path: PurePath) -> tuple[Format, Compression | None] | None:
    """The format and compression of a line file by its name, or None."""
    compression = COMPRESSIONS.get(path.suffix.lower())
    inner = PurePath(path.stem) if compression else path
    found = LINE_FORMATS.get(inner.suffix.lower())
    if found is None or (found == "parquet" and compression):
        return None
    return found, compression


def is_text_name(path: PurePath) -> bool:
    """Whether a file of that name is read as text when a folder is read."""
    return path.suffix.lower() in TEXT_SUFFIXES or path.name.lower() in TEXT_NAMES or path.stem.lower() in TEXT_NAMES


def advice(path: PurePath) -> str | None:
    """For a document that needs a converter: the one line that says which."""
    converter = CONVERTERS.get(path.suffix.lower())
    if converter is None:
        return None
    kind = path.suffix[1:].upper()
    if converter.startswith("libreoffice"):
        return f"{kind} is not read; convert it to text first: {converter} '{path.name}'"
    install = "pip install 'markitdown[all]'; " if converter == "markitdown" else ""
    return f"{kind} is not read; convert it to text first: {install}{converter} '{path.name}' -o '{path.stem}.md'"


def why_binary(head: bytes) -> str | None:
    """Why the first bytes of a file are those of no UTF-8 text, or None if they may be."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16, not UTF-8"
    if head.startswith(b"%PDF-"):
        return "PDF"
    if head.startswith((b"PK\x03\x04", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x7fELF", b"\x89PNG", b"SQLite format 3")):
        return "binary"
    controls = head.count(b"\0") + len(head) - len(head.translate(None, _CONTROLS))
    return "binary" if controls > _A_FEW + len(head) * _BINARY_SHARE else None
