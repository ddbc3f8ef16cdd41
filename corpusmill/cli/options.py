"""The flags of `complete`, `embed`, `run` and `plan`, in groups; each turns itself into what the mill is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from corpusmill.cli.arguments import json_argument, label_pairs, positive, text_argument
from corpusmill.errors import UsageError

Option = typer.Option

Sources = Annotated[
    list[str], typer.Argument(metavar="SOURCE", help="Folders and files: text, code, JSONL, CSV, Parquet.")
]
Requests = Annotated[str, typer.Argument(metavar="REQUESTS.jsonl", help="A request file as OpenAI's Batch takes it.")]
Model = Annotated[str, Option("--model", metavar="M", help="The model, as the endpoint knows it.")]
Models = Annotated[
    list[str], Option("--model", metavar="M", help="The model, as the endpoint knows it; may be repeated.")
]
Dimensions = Annotated[
    int | None, Option("--dimensions", metavar="D", min=1, help="The vectors' length; unset: the model's own.")
]
ErrorsFile = Annotated[
    Path | None,
    Option("--errors", metavar="FILE", help="Where failed lines go; default: beside --out, as NAME.errors.jsonl."),
]
OutFile = Annotated[
    Path | None,
    Option("--out", metavar="FILE", help="Where results go: .jsonl or .parquet, for embeddings also .npy."),
]


FailureClasses = Annotated[
    list[str] | None,
    Option("--class", metavar="C", help="Only failures of this class, such as timeout; may be repeated."),
]


MaxShare = Annotated[
    float | None,
    Option(
        metavar="F",
        show_default="1",
        help="The part of the limit that the job uses at most, such as 0.3; others use what it leaves.",
    ),
]


BudgetTokens = Annotated[
    int | None,
    Option(metavar="N", min=0, help="Pause before more tokens than this are used, prompt and completion."),
]


@dataclass(frozen=True, kw_only=True)
class Messages:
    """What a completion says besides the chunk."""

    prompt: Annotated[
        str,
        Option(
            metavar="TEXT|@FILE",
            help="The user message. {text} and {source} are filled in; without {text} the chunk follows it.",
        ),
    ]
    system: Annotated[str | None, Option(metavar="TEXT|@FILE", help="The system message.")] = None

    def as_dict(self) -> dict[str, str | None]:
        """Prompt and system message, read from their files where they are in some."""
        return {"prompt": text_argument(self.prompt), "system": self.system and text_argument(self.system)}


@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    """What a completion's request may set; one that is unset never reaches the wire."""

    response_format: Annotated[str | None, Option(metavar="@FILE", help="A JSON file: the shape of the answer.")] = None
    max_completion_tokens: Annotated[
        int | None, Option(metavar="N", min=1, help="Cap on an answer's tokens, reasoning included.")
    ] = None
    temperature: Annotated[float | None, Option(metavar="T", help="Sampling temperature.")] = None
    top_p: Annotated[float | None, Option(metavar="P", help="Nucleus sampling.")] = None
    reasoning_effort: Annotated[
        str | None, Option(metavar="E", help="none, minimal, low, medium, high, xhigh or max.")
    ] = None
    service_tier: Annotated[str | None, Option(metavar="T", help="auto, default, flex, priority or fast.")] = None
    stop: Annotated[list[str] | None, Option(metavar="S", help="A sequence that ends the answer; may be repeated.")] = (
        None
    )
    frequency_penalty: Annotated[
        float | None, Option(metavar="F", help="Penalty on tokens by how often they appeared.")
    ] = None
    presence_penalty: Annotated[float | None, Option(metavar="F", help="Penalty on tokens that appeared at all.")] = (
        None
    )
    safety_identifier: Annotated[str | None, Option(metavar="S", help="A stable name for the end user.")] = None
    max_tokens: Annotated[int | None, Option(metavar="N", min=1, help="The older cap on an answer's tokens.")] = None
    extra_body: Annotated[
        str | None, Option(metavar="@FILE", help="A JSON file whose fields are merged into every request.")
    ] = None

    def as_dict(self) -> dict[str, Any]:
        """The options that are set, by their names in the API."""
        given = {name: value for name, value in vars(self).items() if value is not None and value != []}
        for name in ("response_format", "extra_body"):
            if name in given:
                given[name] = json_argument(given[name], flag="--" + name.replace("_", "-"))
        return given


@dataclass(frozen=True, kw_only=True)
class FlexFlag:
    """What follows when the flex tier has no capacity."""

    flex: Annotated[
        Literal["wait", "spill"] | None,
        Option(
            show_default="wait",
            help="With the flex tier, when it has no capacity: wait, longer each time, or spill to the usual tier and "
            "price.",
        ),
    ] = None

    def as_dict(self) -> dict[str, Any]:
        """As the mill takes it."""
        return {"flex": self.flex}


@dataclass(frozen=True, kw_only=True)
class CorpusFlags:
    """How sources become items."""

    chunk_tokens: Annotated[int, Option(metavar="N", help="Tokens of a chunk at most.")] = 800
    chunk_overlap: Annotated[
        int | None,
        Option(
            metavar="N",
            show_default="80, or a quarter of a smaller chunk",
            help="Tokens that a chunk repeats of the one before.",
        ),
    ] = None
    no_chunk: Annotated[bool, Option("--no-chunk", help="A file or record is one item, whatever its length.")] = False
    too_long: Annotated[
        Literal["split", "truncate", "fail"], Option(help="What becomes of a text longer than the model takes.")
    ] = "split"
    text_field: Annotated[str, Option(metavar="NAME", help="Field or column of a record that holds its text.")] = "text"
    id_field: Annotated[
        str | None,
        Option(
            metavar="NAME",
            show_default="id, where there is one",
            help="Field or column of a record that holds its id; one that is named must be there.",
        ),
    ] = None
    include: Annotated[list[str], Option(metavar="GLOB", help="Read only such files of a folder; may be repeated.")] = (
        field(default_factory=list)
    )
    exclude: Annotated[list[str], Option(metavar="GLOB", help="Leave such files of a folder out; may be repeated.")] = (
        field(default_factory=list)
    )
    on_bad_text: Annotated[
        Literal["replace", "skip", "fail"], Option(help="What becomes of invalid UTF-8, NUL and lone surrogates.")
    ] = "replace"

    def as_dict(self) -> dict[str, Any]:
        """As the mill takes them."""
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in vars(self).items()}
        whole = given.pop("no_chunk")
        return {**given, "chunk": not whole}


@dataclass(frozen=True, kw_only=True)
class JobFlags:
    """How the job is run."""

    out: OutFile = None
    name: Annotated[str | None, Option(metavar="N", help="A name to find the job by.")] = None
    label: Annotated[list[str], Option(metavar="K=V", help="A label for `usage --by label:K`; may be repeated.")] = (
        field(default_factory=list)
    )
    provider: Annotated[
        str | None, Option(metavar="P", help="One of the configured providers; unset: openai, or the only one.")
    ] = None
    priority: Annotated[
        Literal["high", "normal", "low"], Option(help="Which jobs are served first when several wait.")
    ] = "normal"
    budget: Annotated[
        str | None, Option(metavar="USD", help="Pause before more than this is spent; `none` takes a cap away.")
    ] = None
    max_share: MaxShare = None
    budget_tokens: BudgetTokens = None
    first: Annotated[
        int | None, Option(metavar="N", help="Run the first N items, then pause; the full run goes on from there.")
    ] = None
    no_cache: Annotated[bool, Option("--no-cache", help="Neither use earlier answers nor share one between items.")] = (
        False
    )
    retry_failed: Annotated[bool, Option("--retry-failed", help="Try items that failed for good again.")] = False
    skip_invalid: Annotated[
        bool, Option("--skip-invalid", help="Leave broken lines of line files out instead of stopping.")
    ] = False
    force: Annotated[bool, Option("--force", help="Replace an output file that this job did not write.")] = False
    detach: Annotated[bool, Option("--detach", help="Return at once; the job goes on, `watch` follows it.")] = False

    def as_dict(self) -> dict[str, Any]:
        """As the mill takes them."""
        given = dict(vars(self))
        labels, budget, no_cache = given.pop("label"), given.pop("budget"), given.pop("no_cache")
        positive(self.first, flag="--first")
        given.update(labels=label_pairs(labels), budget_usd=budget_usd(budget))
        return {**given, "cache": False} if no_cache else given


def budget_usd(value: str | None) -> str | None:
    """What `--budget` says, as the mill takes it: a sum, or `none` for no cap."""
    if value is not None and value.strip().lower() == "none":
        return "Infinity"
    if value is not None and value.strip().lower() in ("inf", "infinity"):
        raise UsageError("a budget is a sum in USD", next_step="--budget none takes the cap away")
    return value
