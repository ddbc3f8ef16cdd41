"""Live progress on stderr: drawn in a terminal, a plain line every five seconds elsewhere."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from corpusmill.cli.output import out
from corpusmill.cli.report import by_class
from corpusmill.cli.times import hour
from corpusmill.endpoint import Limits
from corpusmill.mill.sums import usd
from corpusmill.mill.watching import Look
from corpusmill.visible import in_one_line

Show = Callable[[Look], None]

_PLAIN_EVERY_S = 5.0
_RATE_OVER_S = 30.0


@contextmanager
def progress(limits: Limits | None) -> Iterator[Show]:
    """A function that shows each look at the job; `limits` are what the rate is set against."""
    if out.quiet or not out.progress:
        yield lambda look: None
    elif sys.stderr.isatty():
        with _drawn(Pace(limits)) as show:
            yield show
    else:
        yield _plain(Pace(limits))


class Pace:
    """How fast a job goes, over the last half minute."""

    def __init__(self, limits: Limits | None) -> None:
        self._limits = limits
        self._looks: deque[Look] = deque()

    def add(self, look: Look) -> None:
        """Take the newest look into account."""
        self._looks.append(look)
        while look.at_s - self._looks[0].at_s > _RATE_OVER_S and len(self._looks) > 2:
            self._looks.popleft()

    def facts(self, look: Look) -> list[str]:
        """What there is to say about the job now, in short parts."""
        counts = look.counts
        parts = [f"{counts.items - counts.open:,} of {counts.items:,}"]
        parts += [f"{counts.cached:,} cached"] if counts.cached else []
        parts += [f"{counts.failed:,} failed ({by_class(counts.failed_by_class)})"] if counts.failed else []
        parts.append(f"{short(counts.prompt_tokens + counts.completion_tokens)} tokens")
        if counts.parked_until is not None:
            parts.append(f"parked until {hour(counts.parked_until)}, the endpoint allows nothing before")
        parts.append("unpriced" if counts.usd is None else f"{usd(counts.usd)} USD")
        return [*parts, *self._speed(look)]

    def _speed(self, look: Look) -> Iterator[str]:
        first = self._looks[0]
        elapsed_s = look.at_s - first.at_s
        if elapsed_s < 1:
            return
        requests = (look.counts.requests - first.counts.requests) / elapsed_s * 60
        limit = self._limits.rpm if self._limits else None
        yield f"{requests:,.0f} requests/min" + (f" of {limit:,}" if limit else "")
        done = first.counts.open - look.counts.open
        if done > 0:
            yield f"ETA {span(look.counts.open * elapsed_s / done)}"


def _plain(pace: Pace) -> Show:
    told_s: float | None = None

    def show(look: Look) -> None:
        nonlocal told_s
        pace.add(look)
        # The first look is told as well: a log names the job from the start.
        if told_s is None or look.at_s - told_s >= _PLAIN_EVERY_S:
            told_s = look.at_s
            out.note(f"{look.job.public_id} {_percent(look):3.0f} %  " + " · ".join(pace.facts(look)))

    return show


@contextmanager
def _drawn(pace: Pace) -> Iterator[Show]:
    # Loaded only when something is drawn: it costs more than all the rest of a short command.
    from rich.console import Console, Group
    from rich.live import Live
    from rich.padding import Padding
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    with Live(console=Console(stderr=True), transient=True, auto_refresh=False) as live:

        def show(look: Look) -> None:
            pace.add(look)
            done = look.counts.items - look.counts.open
            # Padded, because a bare bar does not end its line: what follows it would be cut off.
            bar = Padding(ProgressBar(total=max(1, look.counts.items), completed=done), 0)
            head = Text(in_one_line(f"{look.job.public_id}  {look.job.kind} {look.job.model}  {look.job.state}"))
            live.update(Group(head, bar, Text(" · ".join(pace.facts(look)))), refresh=True)

        yield show


def _percent(look: Look) -> float:
    return 100 * (look.counts.items - look.counts.open) / max(1, look.counts.items)


def short(number: int) -> str:
    """`1.2M`, `340k`, `87`."""
    for size, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (10_000, "k")):
        if number >= size:
            return f"{number / (1_000 if letter == 'k' else size):.{0 if letter == 'k' else 1}f}{letter}"
    return f"{number:,}"


def span(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
