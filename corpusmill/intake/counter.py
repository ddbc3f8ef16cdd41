"""A process that checks, cuts and counts: batches go in by its standard input, what is made of them comes out.

It ends when its input does, so also when the process that started it is killed. Both ends are ours and the pipe is
private, hence pickle.
"""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, Generic, TypeVar, cast

from corpusmill.errors import CorpusmillError, SourceChanged, SourceError

B = TypeVar("B")
F = TypeVar("F")

# The child finds modules where this process does, whatever its folder and PYTHONPATH are.
_START = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from corpusmill.intake.counter import serve; serve()"
)
# Bytes that wait in the child, so that it goes on counting while another is being read.
_WAITING = 16 << 20


@dataclass(frozen=True, slots=True)
class _Failed:
    """A SourceError on its way through the pipe."""

    what: str
    path: str
    line: int | None
    next_step: str
    changed: bool

    @classmethod
    def of(cls, error: SourceError) -> _Failed:
        """The error as it travels."""
        return cls(error.what, error.path, error.line, error.next_step, isinstance(error, SourceChanged))

    def error(self) -> SourceError:
        """The error again."""
        kind = SourceChanged if self.changed else SourceError
        return kind(self.what, path=self.path, line=self.line, next_step=self.next_step)


class Counter(Generic[B, F]):
    """One such process, seen from the one that started it. Use as a context manager.

    Of each batch `work` makes frames: lists, tuples or the like, none empty unless nobody misses it.
    """

    def __init__(self, work: Callable[[B], Iterator[F]]) -> None:
        command = [sys.executable, "-P", "-c", _START]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._in, self._out = cast(BinaryIO, self._child.stdin), cast(BinaryIO, self._child.stdout)
        self._write(sys.path)
        self._write(work)

    def __enter__(self) -> Counter[B, F]:
        return self

    def __exit__(self, *_: object) -> None:
        # Killed, not asked: it holds nothing, and may be in the middle of a batch that nobody wants any more.
        self._child.kill()
        self._child.wait()
        self._out.close()
        with suppress(BrokenPipeError):
            self._in.close()

    def send(self, batch: B) -> None:
        """Give it a batch; the frames of the one before must have been read to the end."""
        self._write(batch)

    def frames(self) -> Iterator[F]:
        """What was made of the batch, in order. Raises the SourceError that ended it, if one did."""
        while frame := self._read():
            if isinstance(frame, _Failed):
                raise frame.error()
            yield frame

    def _write(self, value: Any) -> None:
        try:
            pickle.dump(value, self._in, protocol=5)
            self._in.flush()
        except BrokenPipeError:
            raise self._gone() from None

    def _read(self) -> Any:
        try:
            return pickle.load(self._out)  # noqa: S301
        except (EOFError, pickle.UnpicklingError):
            raise self._gone() from None

    def _gone(self) -> CorpusmillError:
        status = self._child.wait()
        return CorpusmillError(
            f"a counting process ended with status {status} before its work was done",
            next_step="run the command again; if memory was short, give it more",
        )


def serve() -> None:
    """What the process does: read a batch, write its frames, until there are no more batches."""
    # Ctrl-C reaches all processes of a terminal; ours ends by its pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    work = pickle.load(source)  # noqa: S301
    with suppress(EOFError, BrokenPipeError):
        while True:
            _answer(work(pickle.load(source)), sink)  # noqa: S301


def _answer(frames: Iterator[Any], sink: BinaryIO) -> None:
    waiting: list[bytes] = []
    held = 0
    try:
        for frame in filter(None, frames):
            waiting.append(pickle.dumps(frame, protocol=5))
            held += len(waiting[-1])
            if held > _WAITING:
                sink.writelines(waiting)
                waiting, held = [], 0
    except SourceError as error:
        waiting.append(pickle.dumps(_Failed.of(error)))
    sink.writelines([*waiting, pickle.dumps(())])
    sink.flush()
