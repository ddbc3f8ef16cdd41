"""Which files an export writes, and writing them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from corpusmill.errors import UsageError
from corpusmill.export import batch, lines, parquet
from corpusmill.export.files import Ready, replacing
from corpusmill.export.rows import Row
from corpusmill.export.vectors import write_array
from corpusmill.extras import need_pyarrow
from corpusmill.spec import Kind

_SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "completion": (".jsonl", ".parquet"),
    "embedding": (".npy", ".jsonl", ".parquet"),
    "request": (".jsonl",),
}


@dataclass(frozen=True, slots=True)
class Job:
    """What an export needs to know of a job; `dimensions` is the vectors' length when one was asked for."""

    public_id: str
    kind: Kind
    dimensions: int | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """The files an export wrote, the main one first, and how many items are in them."""

    paths: tuple[Path, ...]
    succeeded: int
    failed: int = 0


def targets(kind: Kind, out: Path, errors_out: Path | None = None) -> tuple[Path, ...]:
    """The files that an export to `out` writes, the main one first.

    Raises:
        UsageError: that kind of job is not written to such a file, or a package for it is missing.
    """
    if out.suffix not in _SUFFIXES[kind]:
        allowed = " or ".join(_SUFFIXES[kind])
        raise UsageError(
            f"--out {out} must end in {allowed}", next_step=f"for example --out {out.stem}{_SUFFIXES[kind][0]}"
        )
    if out.suffix == ".parquet":
        need_pyarrow(f"--out {out}")
    if kind == "request":
        return out, errors_out or out.with_suffix(".errors.jsonl")
    return (out, out.with_suffix(".jsonl")) if out.suffix == ".npy" else (out,)


def write(
    job: Job,
    out: Path,
    *,
    succeeded: Iterable[Row],
    failed: Iterable[Row] = (),
    errors_out: Path | None = None,
    ready: Ready,
) -> Written:
    """Write a job's results to `out`.

    Args:
        job: whose results they are.
        out: the main file; its ending says the format.
        succeeded: the items that have an answer, in source order; read once, never held.
        failed: the items that failed; only Batch error lines are made of them.
        errors_out: where those go; by default beside `out`.
        ready: told each file's place and digest before it takes that place.

    Raises:
        UsageError: that kind of job is not written to such a file, or it cannot be written there.
        DiskFull: there is no room left.
    """
    paths = targets(job.kind, out, errors_out)
    if job.kind == "request":
        return _write_batch(job, paths, succeeded, failed, ready)
    if out.suffix == ".npy":
        with replacing(paths[0], ready) as vectors, replacing(paths[1], ready) as index:
            return Written(paths, write_array(vectors, index, succeeded, dimensions=job.dimensions))
    with replacing(out, ready) as file:
        return Written(paths, _single(job, out)(file, succeeded))


def _single(job: Job, out: Path) -> Callable[..., int]:
    if out.suffix == ".parquet":
        if job.kind == "completion":
            return parquet.write_completions
        return lambda file, rows: parquet.write_embeddings(file, rows, dimensions=job.dimensions)
    return lines.write_completions if job.kind == "completion" else lines.write_embeddings


def _write_batch(
    job: Job, paths: tuple[Path, ...], succeeded: Iterable[Row], failed: Iterable[Row], ready: Ready
) -> Written:
    out, errors_out = paths
    with replacing(out, ready) as file:
        done = batch.write_outputs(file, succeeded, job=job.public_id)
    with replacing(errors_out, ready) as file:
        lost = batch.write_errors(file, failed, job=job.public_id)
    return Written(paths, done, lost)
