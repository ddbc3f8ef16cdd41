"""What a job would take, before anything is spent: counted exactly where it can be, assumed in the open where not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from math import ceil
from typing import Any

from corpusmill.endpoint import Limits
from corpusmill.ledger.records import NewItem
from corpusmill.mill.ask import Ask
from corpusmill.mill.corpus import Corpus
from corpusmill.mill.estimate import overhead_tokens, usd_of
from corpusmill.mill.listening import Listener
from corpusmill.mill.place import Place
from corpusmill.mill.pricing import card_for_model
from corpusmill.mill.rehearsal import Output, output_of
from corpusmill.mill.rules import limits_with_rules
from corpusmill.mill.texts import spooled
from corpusmill.provider import Provider
from corpusmill.settings import Settings
from corpusmill.spec import JobSpec

PACK_INPUTS, PACK_TOKENS = 2_048, 300_000
# Assumed where the model's own vector length is not asked for.
_DIMENSIONS = {"text-embedding-3-large": 3_072}
_USUAL_DIMENSIONS = 1_536
_ITEM_BYTES = 250


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One model at one service tier. None: unpriced, or no limit is known. `hours` are at the limits, all in all."""

    model: str
    tier: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    usd: Decimal | None
    hours: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What an ask would take. `failing`: items that would fail before any call; `disk_bytes`: ledger and output."""

    kind: str
    documents: int
    items: int
    failing: int
    prompt_tokens: int
    disk_bytes: int
    assumption: str
    rows: tuple[PlanRow, ...]

    def as_dict(self) -> dict[str, Any]:
        """The object of `--json`; money as numbers."""
        facts = asdict(self)
        for row in facts["rows"]:
            row["usd"] = None if row["usd"] is None else float(row["usd"])
        return facts


@dataclass
class _Count:
    """Running sums over the items of a job."""

    items: int = 0
    failing: int = 0
    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    packs: int = 0

    def add_all(self, items: Iterable[NewItem]) -> _Count:
        last, pack_items, pack_tokens = None, 0, 0
        for item in items:
            self.items += 1
            self.documents += (item.source, item.id) != last
            last = (item.source, item.id)
            if item.problem is not None:
                self.failing += 1
                continue
            self.tokens += item.tokens
            self.bytes += len((item.text or "").encode()) + len(item.body or b"")
            if pack_items == 0 or pack_items >= PACK_INPUTS or pack_tokens + item.tokens > PACK_TOKENS:
                self.packs, pack_items, pack_tokens = self.packs + 1, 0, 0
            pack_items, pack_tokens = pack_items + 1, pack_tokens + item.tokens
        return self


def plan(place: Place, ask: Ask, models: Sequence[str], listener: Listener) -> Plan:
    """Count what `ask` would take at each of `models`; nothing is written and nobody is called.

    Raises:
        UsageError: the ask or the sources have to be changed first, as for the job itself.
    """
    settings = _with_a_provider(place.settings)
    with spooled(ask) as readable:
        asks = [replace(readable, model=model) for model in dict.fromkeys(models)]
        plans = [_plan(place, each, settings, listener) for each in asks]
    return replace(plans[0], rows=tuple(row for each in plans for row in each.rows))


def _plan(place: Place, ask: Ask, settings: Settings, listener: Listener) -> Plan:
    provider, _ = settings.provider(ask.terms.provider)
    corpus = Corpus(ask, settings, provider)
    for note in (*corpus.notes, *corpus.validate()):
        listener.note(note)
    count = _Count().add_all(corpus.items())
    output = output_of(place, ask, corpus)
    calls = count.items - count.failing
    prompt_tokens = count.tokens + calls * overhead_tokens(corpus.spec)
    if len(corpus.models) > 1:
        listener.note(f"the file asks for several models; all is reckoned at {corpus.spec.model}")
    limits = limits_with_rules(place, provider, corpus.spec.model, settings)
    rows = _rows(settings, provider, limits, corpus.spec, count, prompt_tokens, output)
    disk = _disk(corpus.spec, count, output)
    return Plan(ask.kind, count.documents, count.items, count.failing, prompt_tokens, disk, output.said, tuple(rows))


def _rows(
    settings: Settings,
    provider: str,
    limits: Limits,
    spec: JobSpec,
    count: _Count,
    prompt_tokens: int,
    output: Output,
) -> list[PlanRow]:
    card = card_for_model(settings, provider, spec.model)
    calls = count.items - count.failing
    requests = count.packs if spec.kind == "embedding" else calls
    completion_tokens = calls * output.tokens
    # Limits charge a call with its cap, however short the answer.
    charged = prompt_tokens + (calls * output.cap if output.cap else completion_tokens)
    hours = _hours(limits, requests, charged)
    tiers = list(card.tiers) if card and spec.kind != "embedding" else ["default"]
    return [
        PlanRow(
            model=spec.model,
            tier=tier,
            requests=requests,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            usd=usd_of(card, calls=calls, prompt_tokens=prompt_tokens, output_tokens=output.tokens, tier=tier)
            if card
            else None,
            hours=hours,
        )
        for tier in tiers
        if tier != "batch"
    ]


def _hours(limits: Limits, requests: int, tokens: int) -> float | None:
    """The time that the limits of a minute and of a day alone impose; None while they are unknown."""
    hours = [need / limit / 60 for need, limit in ((requests, limits.rpm), (tokens, limits.tpm)) if limit]
    # What fits into one day need not wait for the next.
    hours += [
        (ceil(need / limit) - 1) * 24.0 for need, limit in ((requests, limits.rpd), (tokens, limits.tpd)) if limit
    ]
    return round(max(hours), 4) if hours else None


def _disk(spec: JobSpec, count: _Count, output: Output) -> int:
    """Bytes for ledger and output together: texts once, answers twice."""
    if spec.queue_kind == "embedding":
        answer = 4 * (spec.dimensions or _DIMENSIONS.get(spec.model, _USUAL_DIMENSIONS))
    else:
        answer = 400 + 4 * output.tokens
    return count.bytes + count.items * (2 * _ITEM_BYTES + 2 * answer)


def _with_a_provider(settings: Settings) -> Settings:
    """A plan needs no key: where no provider is set, it is OpenAI."""
    return settings if settings.providers else settings.with_providers({"openai": Provider()})
