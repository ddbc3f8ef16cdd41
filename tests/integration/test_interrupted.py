"""Ctrl-C before there is a job to speak of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

from corpusmill import _entry
from tests.fixtures.shell import PATIENCE_S


def test_ctrl_c_while_sources_are_read_exits_130_and_with_json_ends_with_an_object(tmp_path: Path) -> None:
    pipe = tmp_path / "records.jsonl"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        [*_entry.child_command("corpusmill"), "complete", str(pipe), "--prompt", "p", "--model", "m", "--json"],
        env={**_entry.bare_env(), "CORPUSMILL_HOME": str(tmp_path), "OPENAI_API_KEY": "sk-any"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Opening waits for the other end: from here on the command reads.
    writer = os.open(pipe, os.O_WRONLY)
    try:
        process.send_signal(signal.SIGINT)
        printed, told = process.communicate(timeout=PATIENCE_S)
    finally:
        os.close(writer)
    assert process.returncode == 130
    assert json.loads(printed.splitlines()[-1])["exit_code"] == 130
    assert "Traceback" not in told
