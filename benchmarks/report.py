"""Figures as Markdown: tables, and what was reached of what was aimed at."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.machine import MB, described


@dataclass(frozen=True, slots=True)
class Table:
    """A title, a head, and rows of cells."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def as_markdown(self) -> str:
        """First column to the left, figures to the right."""
        lines = [self.head, ["---", *["---:"] * (len(self.head) - 1)], *self.rows]
        return f"**{self.title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True, slots=True)
class Bar:
    """Something aimed at, and what was measured: `met` when it is at most (or at least) that. NaN: not measured."""

    what: str
    aim: float
    measured: float
    unit: str = ""
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether it was reached; what was not measured was not."""
        return self.measured >= self.aim if self.at_least else self.measured <= self.aim

    def row(self) -> list[str]:
        """As a table has it."""
        aim = f"{'≥' if self.at_least else '≤'} {self.aim:,g}{self.unit}"
        measured = "not measured" if math.isnan(self.measured) else f"{self.measured:,.4g}{self.unit}"
        return [self.what, aim, measured, "yes" if self.met else "**no**"]


@dataclass(frozen=True, slots=True)
class Section:
    """What one part has measured."""

    title: str
    about: str
    tables: Sequence[Table]
    bars: Sequence[Bar] = ()
    notes: Sequence[str] = field(default_factory=tuple)

    def as_markdown(self) -> str:
        """The section."""
        parts = [f"## {self.title}", self.about, *(table.as_markdown() for table in self.tables)]
        parts += ["\n".join(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n\n".join(parts)


def page(sections: Iterable[Section], command: str) -> str:
    """The whole page: the machine, the aims with what fell short, then each part."""
    sections = list(sections)
    bars = [bar for section in sections for bar in section.bars]
    aims = Table("What was aimed at", ("aim", "wanted", "measured", "reached"), [bar.row() for bar in bars])
    head = (
        "# Benchmarks\n\n"
        "What corpusmill costs and how well it uses a limit, measured against the bundled endpoint. "
        "CPU is user and system time of the processes named; it hardly depends on what else the machine does, "
        f"rates do.\nWritten by `{command}` on {described()}; load average at the end {os.getloadavg()[2]:.0f}."
    )
    said = [aims.as_markdown(), fallen_short(bars)] if bars else []
    return "\n\n".join([head, *said, *(section.as_markdown() for section in sections)]) + "\n"


def fallen_short(bars: Iterable[Bar]) -> str:
    """What was aimed at and not reached, in words."""
    missed = [f"- {what}: {measured}, wanted {aim}" for what, aim, measured, _ in (b.row() for b in bars if not b.met)]
    return "\n".join(["Fell short:", "", *missed]) if missed else "Nothing fell short of what was aimed at."


def middle(values: Iterable[float]) -> float:
    """The median."""
    return median(values)


def megabytes(count: float) -> str:
    """Bytes as MB."""
    return f"{count / MB:,.1f}" if count < 10 * MB else f"{count / MB:,.0f}"


def times(value: float, floor: float) -> str:
    """A ratio to the floor."""
    return f"{value / floor:.1f} x"
