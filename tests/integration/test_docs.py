"""The documentation says what the code does: reference pages are generated, and what is printed runs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import create_engine, text

from corpusmill.ledger import Ledger

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md")])


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["commands.md", "settings.md"])
def test_a_reference_page_is_what_the_code_would_write(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert (DOCS / name).read_text() == generator().PAGES[name](), "run `make docs`"


def test_the_sql_in_the_docs_runs(database_url: str) -> None:
    statements = re.findall(r"```sql\n(.*?)```", (DOCS / "sql.md").read_text(), re.DOTALL)
    assert len(statements) >= 4
    Ledger.open(database_url).close()
    engine = create_engine(database_url)
    try:
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement)).all()
    finally:
        engine.dispose()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_docs_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing == []


def test_every_command_that_a_page_types_exists() -> None:
    from corpusmill.cli.commands import COMMANDS

    typed = {
        (page.name, name)
        for page in PAGES
        for block in re.findall(r"```(?:console|sh|bash)\n(.*?)```", page.read_text(), re.DOTALL)
        for name in re.findall(r"^\s*(?:\$ )?corpusmill ([a-z]+)", block, re.MULTILINE)
    }
    assert {(page, name) for page, name in typed if name not in COMMANDS} == set()
