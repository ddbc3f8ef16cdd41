"""Write the reference pages from the code itself: `python docs/generate.py`, or `make docs`.

What stands in a page above `MARK` is written by hand and kept; below it `docs/commands.md` has every command's own
help and `docs/settings.md` every setting with its default. A test compares the pages with what this would write.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

DOCS = Path(__file__).parent
MARK = "<!-- below this line: written by docs/generate.py -->\n"


def head(name: str) -> str:
    """What is written by hand at the top of a page, with the mark that ends it."""
    return (DOCS / name).read_text(encoding="utf-8").partition(MARK)[0] + MARK


def commands_page() -> str:
    """Every command's help, in the order in which `corpusmill --help` lists them."""
    os.environ["COLUMNS"] = "80"
    from corpusmill.cli.commands import COMMANDS

    parts = [head("commands.md"), _section("corpusmill", [], level=2)]
    for command in COMMANDS.values():
        parts.append(_section(f"corpusmill {command.name}", [command.name], level=2))
        parts += [
            _section(f"corpusmill {command.name} {member}", [command.name, member], level=3)
            for member in command.members
        ]
    return "\n".join(parts)


def _section(title: str, arguments: list[str], *, level: int) -> str:
    text = "\n".join(line.rstrip() for line in _help(arguments).strip().splitlines())
    return f"{'#' * level} `{title}`\n\n```text\n{text}\n```\n"


def _help(arguments: list[str]) -> str:
    from corpusmill.cli.main import outcome

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = outcome([*arguments, "--help"])
    if code != 0:
        raise RuntimeError(f"corpusmill {' '.join(arguments)} --help ended with {code}")
    return printed.getvalue()


def settings_page() -> str:
    """Every setting: its environment variable, its default, and what it means."""
    from corpusmill.model_options import ModelOptions
    from corpusmill.provider import Provider
    from corpusmill.settings import Settings

    rows = list(_rows(Settings, "CORPUSMILL_", skip={"providers", "openai_llm"}))
    parts = [
        head("settings.md"),
        _table("Settings", rows),
        _table("Providers", list(_rows(Provider, "CORPUSMILL_PROVIDERS__<NAME>__", skip=set()))),
        _table("Options for every completion", list(_rows(ModelOptions, "OPENAI_LLM_", skip=set()))),
    ]
    return "\n".join(parts)


def _rows(model: type[BaseModel], prefix: str, *, skip: set[str]) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        if name in skip:
            continue
        inner = _model_of(field.annotation)
        if inner is not None:
            yield from _rows(inner, f"{prefix}{name.upper()}__", skip=set())
        else:
            yield f"{prefix}{name.upper()}", _default(field), field.description or ""


def _model_of(annotation: Any) -> type[BaseModel] | None:
    candidates = get_args(annotation) if get_origin(annotation) is not None else (annotation,)
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _default(field: Any) -> str:
    value = field.default
    if value is PydanticUndefined or value is None or value == ():
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(title: str, rows: list[tuple[str, str, str]]) -> str:
    lines = [f"## {title}", "", "| name | default | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {f'`{default}`' if default else ''} | {meaning} |" for name, default, meaning in rows]
    return "\n".join(lines) + "\n"


PAGES = {"commands.md": commands_page, "settings.md": settings_page}


def main() -> None:
    """Write every generated page."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
