"""All measurements in one run: `make bench`, or `python -m benchmarks [PART…] [--quick]`.

Everything runs on this machine, against the bundled endpoint; nothing is downloaded and nothing is paid. With the
usual sizes it takes about a quarter of an hour, with `--quick` two or three minutes, for a look and not for a page.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import growth, hot_path, intake, ledger_rates, lightrag, limit_share, report
from benchmarks import simulator as other_end
from benchmarks.report import Section

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of each part."""

    turns: int
    chats: int
    embeddings: int
    limit_s: float
    growth: Sequence[int]
    ledger_items: int
    simulator_s: float
    intake_mb: int
    lightrag_calls: int


USUAL = Sizes(3, 6_000, 15_000, 45, (10_000, 100_000), 50_000, 3, 200, 100)
QUICK = Sizes(1, 2_000, 6_000, 15, (1_000, 5_000), 10_000, 1, 30, 40)

PARTS: Mapping[str, Callable[[Sizes], Section]] = {
    "hot-path": lambda sizes: hot_path.measure(hot_path.tasks(sizes.chats, sizes.embeddings), sizes.turns),
    "limits": lambda sizes: limit_share.measure(limit_share.limits(), sizes.limit_s),
    "growth": lambda sizes: growth.measure(sizes.growth),
    "ledger": lambda sizes: ledger_rates.measure(sizes.ledger_items),
    "intake": lambda sizes: intake.measure(sizes.intake_mb),
    "lightrag": lambda sizes: lightrag.measure(sizes.lightrag_calls, sizes.turns),
    "simulator": lambda sizes: other_end.measure(sizes.simulator_s),
}


def main() -> None:
    """Measure what was asked for, print the page, and write it where it belongs when it is whole."""
    asked = _parser().parse_args()
    sections = []
    for name in asked.parts or PARTS:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        sections.append(PARTS[name](QUICK if asked.quick else USUAL))
        print(sections[-1].as_markdown(), file=sys.stderr, flush=True)  # a part that fails must not cost the others
    text = report.page(sections, "python -m benchmarks" + " --quick" * asked.quick)
    print(text)
    out = asked.out or (None if asked.quick or asked.parts else PAGE)
    if out is not None:
        out.write_text(text, encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=f"any of {', '.join(PARTS)}; all unless said")
    parser.add_argument("--quick", action="store_true", help="small sizes, one turn")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=f"write the page here; a whole run at usual sizes: {PAGE.name}"
    )
    return parser


if __name__ == "__main__":
    main()
