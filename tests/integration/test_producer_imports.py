"""What a producer does not load: it may live in somebody else's web server or Celery worker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.fixtures.shell import PATIENCE_S

PROGRAM = """
import sys
from pathlib import Path
import corpusmill.app, corpusmill.feed, corpusmill.embedded.client
from corpusmill import Mill, Settings
from corpusmill.mill.ask import Ask
from corpusmill.mill.listening import Silent
from corpusmill.mill.place import Place
from corpusmill.mill.submit import submit
from corpusmill.provider import Provider

home = Path(sys.argv[1])
(home / "a.md").write_text("Some words.")
settings = Settings(home=home / "home", providers={"openai": Provider(base_url="http://127.0.0.1:9/v1")})
with Place(settings) as place:
    submitted = submit(place, Ask(kind="embedding", sources=[home / "a.md"], model="text-embedding-3-small"), Silent())
    assert submitted.job.state == "queued"
    assert list(place.ledger.results(submitted.job.id)) == []
print(sorted({"openai", "numpy", "aiohttp", "rich", "typer", "pyarrow"} & set(sys.modules)))
"""


def test_a_producer_imports_neither_openai_nor_numpy(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
