"""All measurements: `make bench`, or `python -m benchmarks [PART…] [--quick|--full]`.

Everything runs on this machine, against the bundled endpoint, and nothing is paid; other clients are installed from
PyPI into environments of their own under .bench/. Each part runs in a process of its own and its figures are kept
when it ends, so a run that was stopped goes on with --resume and one part can be measured anew.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks import page
from benchmarks.parts import FULL, PARTS, QUICK, USUAL, Sizes

# A part that hangs must not cost the others; the longest takes a third of this.
LONGEST_S = 3_600.0
# What --resume counts as measured by the same run.
SAME_RUN = timedelta(hours=12)


def main() -> None:
    """Measure what was asked for and write it into the page."""
    asked = _parser().parse_args()
    out = asked.out or (None if asked.quick else page.PAGE)
    if len(asked.parts) == 1:
        _measure(asked.parts[0], _sizes(asked), out)
        return
    names = asked.parts or list(PARTS)
    failed = [name for name in names if not (asked.resume and _is_fresh(name, out)) and not _in_a_process(name, asked)]
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}; see above, then: python -m benchmarks {' '.join(failed)}")


def _measure(part: str, sizes: Sizes, out: Path | None) -> None:
    began = time.monotonic()
    section = PARTS[part](sizes)
    print(section.as_markdown(), end="\n\n", flush=True)
    if out is not None:
        page.keep(part, section, command=_command(part, sizes), took_s=time.monotonic() - began, page=out)
        page.write(PARTS, out)


def _in_a_process(part: str, asked: argparse.Namespace) -> bool:
    """Measure a part; whether it went well."""
    flags = [f"--{name}" for name in ("quick", "full") if getattr(asked, name)]
    flags += ["--out", str(asked.out)] if asked.out else []
    print(f"measuring: {part}", file=sys.stderr, flush=True)
    began = time.monotonic()
    # A session of its own: what a part has started goes with it.
    with subprocess.Popen([sys.executable, "-m", "benchmarks", part, *flags], start_new_session=True) as child:
        try:
            code = child.wait(LONGEST_S)
        except BaseException as error:
            os.killpg(child.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            code = -signal.SIGKILL
    print(f"{part}: {'done' if code == 0 else 'FAILED'} after {time.monotonic() - began:.0f} s", file=sys.stderr)
    return code == 0


def _is_fresh(part: str, out: Path | None) -> bool:
    kept = page.kept(part, out) if out else None
    return kept is not None and datetime.now(UTC) - kept.at < SAME_RUN


def _sizes(asked: argparse.Namespace) -> Sizes:
    return QUICK if asked.quick else FULL if asked.full else USUAL


def _command(part: str, sizes: Sizes) -> str:
    return f"python -m benchmarks {part}" + (" --quick" * (sizes is QUICK)) + (" --full" * (sizes is FULL))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=f"any of {', '.join(PARTS)}; all unless said")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small sizes, one turn: for a look, not for the page")
    size.add_argument("--full", action="store_true", help="five turns, a million items, five million submitted")
    parser.add_argument("--resume", action="store_true", help="leave out parts measured within the last 12 hours")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=f"the page to write; docs/{page.PAGE.name}, with --quick none"
    )
    return parser


if __name__ == "__main__":
    main()
