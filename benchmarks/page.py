"""The page of figures. Each part's figures are kept as data beside it, so that one part can be measured anew alone.

`docs/figures/PART.json` holds a part's section with its date, machine and command; `docs/benchmarks.md` is written
from all of them, and `docs/figures/NAME.svg` from their plots.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from benchmarks.drawing import svg
from benchmarks.machine import described, versions
from benchmarks.report import Bar, Section, Table, fallen_short

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
# More than the part's own: somebody else was at work on the machine.
BUSY = 3.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A part's section, and what it was measured with. `load`: the machine's load average over the last minutes."""

    section: Section
    command: str
    at: datetime
    machine: str
    versions: str
    load: float
    took_s: float

    def said(self) -> str:
        """When and how it was measured, in a line."""
        busy = ", so other work had its share of the cores: rates are too low" if self.load > BUSY else ""
        took = f"{self.took_s / 60:.0f} min" if self.took_s >= 90 else f"{self.took_s:.0f} s"
        return f"`{self.command}` · {self.at:%-d %B %Y, %H:%M} UTC · took {took} · load average {self.load:.1f}{busy}"


_AS_DATA: TypeAdapter[Kept] = TypeAdapter(Kept)


def keep(part: str, section: Section, *, command: str, took_s: float, page: Path) -> None:
    """Put away what `part` has measured just now, with its pictures."""
    figures = page.parent / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[1]
    now = Kept(section, command, datetime.now(UTC), described(), versions(), round(load, 1), round(took_s, 1))
    text = json.dumps(asdict(now), indent=1, ensure_ascii=False, default=datetime.isoformat)
    (figures / f"{part}.json").write_text(text + "\n", encoding="utf-8")
    for plot in section.plots:
        (figures / f"{plot.name}.svg").write_text(svg(plot), encoding="utf-8")


def kept(part: str, page: Path) -> Kept | None:
    """What was measured of `part` last."""
    file = page.parent / "figures" / f"{part}.json"
    if not file.exists():
        return None
    return _AS_DATA.validate_python(json.loads(file.read_text(encoding="utf-8")))


def write(parts: Iterable[str], page: Path) -> None:
    """The page, from all that is kept of `parts`; and the tables that another page beside it shows of them."""
    found = {part: each for part in parts if (each := kept(part, page))}
    page.write_text(as_markdown(list(found.values())), encoding="utf-8")
    for part, each in found.items():
        if (other := page.with_name(f"{part}.md")).exists():
            other.write_text(_with_tables(other.read_text(encoding="utf-8"), each), encoding="utf-8")


def _with_tables(text: str, each: Kept) -> str:
    """A page with the tables between its two marks made new."""
    before, begin, rest = text.partition("<!-- figures -->\n")
    _, end, after = rest.partition("<!-- end of figures -->")
    tables = "\n\n".join([each.said(), *(table.as_markdown() for table in each.section.tables)])
    return f"{before}{begin}\n{tables}\n\n{end}{after}" if end else text


def as_markdown(found: Sequence[Kept]) -> str:
    """The machine, the aims with what fell short, then each part."""
    bars = [bar for each in found for bar in each.section.bars]
    # None of something was wanted, and there was none: of 429s, of losses, in each of many cases.
    none = [bar for bar in bars if bar.met and bar.aim == bar.measured == 0]
    rows = [bar.row() for bar in bars if bar not in none]
    aims = Table("What was aimed at", ("aim", "wanted", "measured", "reached"), rows)
    said = [aims.as_markdown(), _told_none(none), fallen_short(bars)] if bars else []
    return "\n\n".join([_head(found), *said, *map(_section, found)]) + "\n"


def _told_none(bars: Sequence[Bar]) -> str:
    """One line for all of which none was wanted and none was found."""
    cases = Counter(bar.what.split(",")[0] for bar in bars)
    told = ", ".join(f"{what} ({count} cases)" for what, count in cases.items())
    return f"None wanted, and none found: {told or 'nothing was asked for so'}."


def _head(found: Sequence[Kept]) -> str:
    latest = max(found, key=lambda each: each.at)
    return (
        "# Benchmarks\n\n"
        "What corpusmill costs and how well it uses a limit, measured against the bundled endpoint. "
        "CPU is user and system time of the processes named; it hardly depends on what else the machine does, "
        "rates do.\n\n"
        f"Machine: {latest.machine}.\nWith {latest.versions}.\n\n"
        "Written by `make bench`, which measures every part (`python -m benchmarks PART` one of them, "
        "and keeps the others as they are)."
    )


def _section(each: Kept) -> str:
    title, rest = each.section.as_markdown().split("\n\n", 1)
    return f"{title}\n\n{each.said()}\n\n{rest}"
