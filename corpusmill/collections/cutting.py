"""How documents become chunks, and chunks vectors: as asked for now, and as the collection has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from corpusmill import intake
from corpusmill.collections import shapes
from corpusmill.collections.ask import SyncAsk
from corpusmill.errors import UsageError
from corpusmill.ledger.collection_records import CollectionView
from corpusmill.mill.ask import Ask
from corpusmill.mill.loading import chunking_of, reading_of
from corpusmill.mill.specs import embedding_spec
from corpusmill.settings import Settings
from corpusmill.spec import JobSpec
from corpusmill.tokens import Encoding, encoding, encoding_for


@dataclass(frozen=True, slots=True)
class Cutting:
    """All that a chunk and its vector depend on but the text. `shape` is what the collection remembers of it.

    `recut`: every document has to be cut anew, whether it changed or not.
    """

    spec: JobSpec
    encoding: Encoding
    shape: Mapping[str, Any]
    reading: intake.Reading
    chunking: intake.Chunking
    recut: bool


def cutting_of(settings: Settings, provider: str, ask: SyncAsk, found: CollectionView | None) -> Cutting:
    """What is asked for, held against the collection; `found` is None while there is none.

    Raises:
        UsageError: no model is given for a new collection, or the collection is of another kind.
    """
    spec = _spec(settings, provider, ask, found)
    whole = found if found is not None and found.version else None
    name = found.shape["encoding"] if found and whole and not ask.recut else encoding_for(spec.model).name
    shape, recut = shapes.remembered(ask.shape, name), False
    if whole is not None:
        _refuse_other_set(whole, spec)
        recut = shapes.refuse_other_cut(ask.name, whole.shape, shape, recut=ask.recut)
    return Cutting(spec, encoding(name), shape, reading_of(ask.shape), chunking_of(ask.shape, spec), recut)


def _spec(settings: Settings, provider: str, ask: SyncAsk, found: CollectionView | None) -> JobSpec:
    """What was not said is as the collection has it."""
    model = ask.model or (found.active.spec.model if found else None)
    if model is None:
        raise UsageError(
            f"there is no collection {ask.name} yet, so its model has to be said", next_step="add --model M"
        )
    dimensions = ask.dimensions
    if found and dimensions is None and model == found.active.spec.model:
        dimensions = found.active.spec.dimensions
    asked = Ask(kind="embedding", model=model, dimensions=dimensions, shape=ask.shape)
    return embedding_spec(asked, settings, provider)


def _refuse_other_set(found: CollectionView, spec: JobSpec) -> None:
    active = found.active.spec
    if spec == active:
        return
    said = {name: getattr(spec, name) for name in ("model", "dimensions", "endpoint")}
    other = ", ".join(
        f"{name} {getattr(active, name)}, not {value}" for name, value in said.items() if getattr(active, name) != value
    )
    flags = f"--model {spec.model}" + (f" --dimensions {spec.dimensions}" if spec.dimensions is not None else "")
    raise UsageError(
        f"the vectors of {found.name} are of another kind: {other}",
        where=f"collection {found.id}, set {found.active.name}",
        next_step=f"corpusmill reembed {found.name} {flags}   # builds a set of it beside this one",
    )
