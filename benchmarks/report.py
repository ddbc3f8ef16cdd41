"""What a part of the benchmark hands back: tables, aims, plots and notes, and how each looks as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.machine import MB


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
        measured = "not measured" if math.isnan(self.measured) else f"{figure(self.measured)}{self.unit}"
        return [self.what, aim, measured, "yes" if self.met else "**no**"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a plot: its points from left to right; `dashed` for what is not measured, such as a limit."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a plot's time that is shaded and named."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines over one axis, drawn as `figures/NAME.svg` beside the page."""

    name: str
    title: str
    x: str
    y: str
    lines: Sequence[Line]
    spans: Sequence[Span] = ()

    def as_markdown(self) -> str:
        """The picture, as a page beside the folder shows it."""
        return f"![{self.title}](figures/{self.name}.svg)"


@dataclass(frozen=True, slots=True)
class Section:
    """What one part has measured."""

    title: str
    about: str
    tables: Sequence[Table]
    bars: Sequence[Bar] = ()
    notes: Sequence[str] = ()
    plots: Sequence[Plot] = ()

    def as_markdown(self) -> str:
        """The section."""
        shown = [*(table.as_markdown() for table in self.tables), *(plot.as_markdown() for plot in self.plots)]
        notes = ["\n".join(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n\n".join([f"## {self.title}", self.about, *shown, *notes])


def fallen_short(bars: Iterable[Bar]) -> str:
    """What was aimed at and not reached, in words."""
    missed = [f"- {what}: {measured}, wanted {aim}" for what, aim, measured, _ in (b.row() for b in bars if not b.met)]
    return "\n".join(["Fell short:", "", *missed]) if missed else "Nothing fell short of what was aimed at."


def figure(value: float) -> str:
    """A figure as a person writes it: four digits, and whole from a thousand on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def middle(values: Iterable[float]) -> float:
    """The median."""
    return median(values)


def megabytes(count: float) -> str:
    """Bytes as MB."""
    return f"{count / MB:,.1f}" if count < 10 * MB else f"{count / MB:,.0f}"


def times(value: float, floor: float) -> str:
    """A ratio to the floor."""
    return f"{value / floor:.1f} x"
