"""What the ledger says that errands have cost, told to whoever counts: the sums are those of the usage rows."""

from __future__ import annotations

from collections.abc import Sequence

from corpusmill.ledger.records import KeptAnswer, Wasted
from corpusmill.lightrag.errands import Outcome
from corpusmill.lightrag.tracker import Used
from corpusmill.lightrag.usage import Meter
from corpusmill.spec import JobSpec


def count(outcomes: Sequence[Outcome], spec: JobSpec, meter: Meter) -> None:
    """One call for all that one caller asked for, or a hit if nothing of it was paid for.

    Each paid reply that brought nothing is a call of its own.
    """
    embedding = spec.queue_kind == "embedding"
    for outcome in outcomes:
        for wasted in outcome.wasted:
            meter.paid(_used([wasted], spec), embedding=embedding)
    paid = [each.answer for each in outcomes if each.answer is not None and not each.hit]
    if paid:
        meter.paid(_used(paid, spec), embedding=embedding)
    elif all(each.answer is not None for each in outcomes):
        meter.hit()


def _used(paid: Sequence[KeptAnswer | Wasted], spec: JobSpec) -> Used:
    prompt, completion = sum(each.prompt_tokens for each in paid), sum(each.completion_tokens for each in paid)
    return Used(
        prompt=prompt,
        completion=completion,
        total=prompt + completion,
        cached=sum(each.cached_tokens for each in paid),
        reasoning=sum(each.reasoning_tokens for each in paid),
        model=spec.model,
        base_url=spec.endpoint,
        tier=paid[0].tier,
    )
