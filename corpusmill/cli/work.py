"""`complete`, `embed` and `run`: submit, follow, export, and say how it went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corpusmill.cli.arguments import source
from corpusmill.cli.options import (
    CorpusFlags,
    Dimensions,
    ErrorsFile,
    FlexFlag,
    JobFlags,
    Messages,
    Model,
    ModelFlags,
    Requests,
    Sources,
)
from corpusmill.cli.output import out
from corpusmill.spec import Kind

if TYPE_CHECKING:
    from corpusmill.mill import Job, Mill
    from corpusmill.mill.ask import Ask

LIVE = "live: every request is sent now, at full price (the Batch API's half price does not apply)"


def complete(
    sources: Sources,
    model: Model,
    messages: Messages,
    options: ModelFlags,
    corpus: CorpusFlags,
    flex: FlexFlag,
    job: JobFlags,
) -> int:
    """Run a prompt over every chunk of a corpus.

    Folders are read by relative path; texts are cut into chunks with exact offsets. Results go to --out in the order
    of the source: id, source, chunk, start, end, output, finish_reason, model, tokens, cached, metadata. The same
    command again goes on where the job stands; when it is finished it prints the same numbers and buys nothing.
    """
    asked = {**options.as_dict(), **corpus.as_dict(), **flex.as_dict(), **job.as_dict()}
    return _work("completion", sources, asked, model=model, **messages.as_dict())


def embed(sources: Sources, model: Model, corpus: CorpusFlags, job: JobFlags, dimensions: Dimensions = None) -> int:
    """Embed every chunk of a corpus.

    Vectors go to --out in the order of the source: X.npy (N x D, float32) with the index X.jsonl, or X.jsonl, or
    X.parquet. Otherwise as `complete`.
    """
    return _work("embedding", sources, {**corpus.as_dict(), **job.as_dict()}, model=model, dimensions=dimensions)


def run(requests: Requests, flex: FlexFlag, job: JobFlags, errors: ErrorsFile = None) -> int:
    """Run an OpenAI Batch request file live, at full price.

    Each line's body passes through untouched. The endpoint's answers come back whole in Batch output lines (--out),
    failed lines in Batch error lines (--errors). All lines have one url; `stream: true` is refused.
    """
    if out.json:
        out.note(LIVE)
    else:
        out.line(LIVE)
    return _work("request", [requests], {**flex.as_dict(), **job.as_dict(), "errors_out": errors})


def _work(kind: Kind, sources: list[str], asked: dict[str, Any], **facts: Any) -> int:
    from corpusmill.cli.following import follow, interrupted, opened, started
    from corpusmill.mill.ask import Ask
    from corpusmill.mill.options import sorted_out

    shape, terms, options = sorted_out(asked, model_options=True)
    found = [source(name) for name in sources]
    ask = Ask(kind=kind, sources=found, shape=shape, terms=terms, options=options, **facts)
    with opened() as mill:
        job = _made(mill, ask)
        if not started(job):
            return interrupted(job)
        return follow(job, detach=terms.detach, force=terms.force)


def _made(mill: Mill, ask: Ask) -> Job:
    try:
        return mill.make(ask)
    except KeyboardInterrupt:
        out.note("\ninterrupted while the job was made; the same command goes on where it stopped")
        raise
