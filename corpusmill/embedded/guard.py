"""Runs Valkey, and sees to it that it does not outlive the supervisor. A script of its own, standard library only.

Valkey does not look at its standard input, so this small process does: when the supervisor's pipe closes, however
the supervisor ended, Valkey is stopped and the socket folder removed. Dies this process itself, Linux kills Valkey.

    guard.py LOCK FOLDER COMMAND...
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

STOP_WITHIN_S = 5.0


def main(lock: str, folder: str, command: list[str]) -> int:
    """Run `command` until it ends or standard input closes; return its exit status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Told apart by the pipe alone: a signal to the whole group must not take the queue from a draining worker.
        signal.signal(number, signal.SIG_IGN)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    # The append-only file has one writer: a Valkey of a supervisor killed a moment ago may still be going down.
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        # Held by Valkey too: killed alone, this process must not let a second Valkey in beside the first.
        pass_fds=(descriptor,),
        preexec_fn=_die_with_parent,
    )
    ending = threading.Event()
    watch = threading.Thread(target=_stop_at_end_of_input, args=(child, folder, ending), daemon=True)
    watch.start()
    status = child.wait()
    if ending.is_set():
        watch.join()
    return status


def _die_with_parent() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        # PR_SET_PDEATHSIG; it survives exec. macOS has no such thing: there the pipe alone has to do.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _stop_at_end_of_input(child: subprocess.Popen[bytes], folder: str, ending: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    ending.set()
    child.terminate()
    try:
        child.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if Path(folder).name.startswith("cm-"):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
