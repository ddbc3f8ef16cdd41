"""Other clients in the benchmark: each answers the work that it is given, and one that cannot be had is no failure."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from benchmarks.machine import Cores
from benchmarks.peers import environments
from benchmarks.peers.catalogue import PEERS, Peer
from benchmarks.peers.costs import installed
from benchmarks.peers.running import Failed, Given, carried_out
from tests.fixtures.simulator import StartSimulator

HERE = {peer.name: peer for peer in PEERS if not peer.environment}
ANYWHERE = Cores(None, None)


@pytest.mark.parametrize(
    ("name", "kind"), [("cookbook-style script", "chat"), ("AsyncOpenAI.create, aiohttp transport", "embeddings")]
)
def test_a_client_of_this_environment_answers_every_chunk(name: str, kind: str, simulator: StartSimulator) -> None:
    given = Given(kind, simulator().base_url, 6, 2, 4, 2)
    took = carried_out(HERE[name], Path(sys.executable), given, ANYWHERE)
    assert took.answered == 6
    assert took.cpu_s > 0
    assert took.rss > 1 << 20


def test_a_client_that_fails_is_told_apart_by_what_it_said(simulator: StartSimulator) -> None:
    broken = Peer("broken", ("benchmarks.peers.no_such_program",), "openai", {"chat": 1})
    with pytest.raises(Failed, match="no_such_program"):
        carried_out(broken, Path(sys.executable), Given("chat", simulator().base_url, 1, 0, 1), ANYWHERE)


def test_a_client_that_cannot_be_installed_is_skipped_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder can be made in here")
    monkeypatch.setattr(environments, "BENCH", tmp_path / "file")
    peer = Peer("nobody's client", ("x",), "no-such", {"chat": 1}, packages=("no-such-client==1.0",))
    here, notes = installed([peer])
    assert not here
    assert notes[0].startswith("nobody's client: not measured, it could not be installed: ")


def test_every_client_from_elsewhere_is_pinned_and_stays_out_of_our_dependencies() -> None:
    ours = (environments.ROOT / "requirements.lock").read_text()
    for peer in PEERS:
        if peer.environment:
            main = peer.unresolved or peer.packages[0]
            assert main.startswith(f"{peer.distribution}==")
            assert f"\n{peer.distribution}==" not in ours


def test_what_all_programs_share_needs_no_library() -> None:
    tree = ast.parse((environments.ROOT / "benchmarks" / "peers" / "work.py").read_text())
    names = {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert names <= set(sys.stdlib_module_names)
