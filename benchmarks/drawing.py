"""A plot as SVG: lines over one axis, shaded spans, and a name at each line. Text, so a change of it can be read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape

from benchmarks.report import Line, Plot, figure

WIDTH, HEIGHT = 860, 380
LEFT, RIGHT, TOP, BOTTOM = 84, 24, 74, 52
# Told apart by people who do not see all colours as well (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#333}.title{font-size:16px;font-weight:600}.grid{stroke:#e3e3e3}"
    ".axis{stroke:#999}.span{fill:#f3e3d3}.line{fill:none;stroke-width:2;stroke-linejoin:round}"
    ".dashed{stroke-dasharray:6 5;stroke-width:1.5}"
)


@dataclass(frozen=True, slots=True)
class _Scale:
    """From a plot's own units to the picture's."""

    x0: float
    x1: float
    y1: float

    def x(self, value: float) -> float:
        return LEFT + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - value / self.y1 * (HEIGHT - TOP - BOTTOM)


def svg(plot: Plot) -> str:
    """The whole picture; y begins at zero."""
    points = [point for line in plot.lines for point in line.points]
    xs, top = [x for x, _ in points], max(y for _, y in points) * 1.08
    scale = _Scale(min(xs), max(xs), top)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{escape(plot.title)}">',
        f'<style>{STYLE}</style><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text class="title" x="{LEFT}" y="26">{escape(plot.title)}</text>',
        *_spans(plot, scale),
        *_axes(plot, scale),
        *_lines(plot, scale),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _spans(plot: Plot, scale: _Scale) -> Iterator[str]:
    for span in plot.spans:
        left, right = scale.x(span.start), scale.x(span.end)
        height = HEIGHT - TOP - BOTTOM
        yield f'<rect class="span" x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" height="{height}"/>'
        yield f'<text x="{(left + right) / 2:.1f}" y="{TOP - 6}" text-anchor="middle">{escape(span.name)}</text>'


def _axes(plot: Plot, scale: _Scale) -> Iterator[str]:
    bottom = HEIGHT - BOTTOM
    for value in _ticks(0, scale.y1):
        y = scale.y(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{figure(value)}</text>'
    for value in _ticks(scale.x0, scale.x1):
        x = scale.x(value)
        yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 5}"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{figure(value)}</text>'
    yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>'
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{escape(plot.x)}</text>'
    middle = (TOP + bottom) / 2
    yield f'<text transform="translate(18 {middle}) rotate(-90)" text-anchor="middle">{escape(plot.y)}</text>'


def _lines(plot: Plot, scale: _Scale) -> Iterator[str]:
    key_x = float(LEFT)
    for line, colour in zip(plot.lines, _colours(plot), strict=True):
        path = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in line.points)
        shape = "line dashed" if line.dashed else "line"
        yield f'<polyline class="{shape}" stroke="{colour}" points="{path}"/>'
        yield f'<line class="{shape}" stroke="{colour}" x1="{key_x:.0f}" x2="{key_x + 26:.0f}" y1="48" y2="48"/>'
        yield f'<text x="{key_x + 33:.0f}" y="52">{escape(line.name)}</text>'
        key_x += 33 + 7.2 * len(line.name) + 24


def _colours(plot: Plot) -> list[str]:
    """Measured lines have a colour each; what is only drawn for comparison is grey."""
    measured: list[Line] = [line for line in plot.lines if not line.dashed]
    return ["#777" if line.dashed else COLOURS[measured.index(line) % len(COLOURS)] for line in plot.lines]


def _ticks(low: float, high: float, about: int = 6) -> Iterator[float]:
    """Round values between two others."""
    raw = (high - low) / about
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * times for times in (1, 2, 5, 10) if size * times >= raw)
    value = math.ceil(low / step) * step
    while value <= high:
        yield value
        value += step
