"""Limits that a person sets over the settings, for a provider or one of its models, while workers run."""

from __future__ import annotations

from dataclasses import replace

from corpusmill.endpoint import Limits
from corpusmill.errors import UsageError
from corpusmill.ledger.records import LimitRule
from corpusmill.mill.place import Place
from corpusmill.settings import Settings


def limits_with_rules(place: Place, provider: str, model: str, settings: Settings) -> Limits:
    """What is set for a model: by a rule for it, by a rule for its provider, by the settings."""
    base = settings.limits_for(provider)
    rules = place.ledger.limit_rules() if place.has_ledger else []
    return ruled(base, provider, model, rules)[0]


def ruled(base: Limits, provider: str, model: str, rules: list[LimitRule]) -> tuple[Limits, int | None]:
    """What holds over `base`, and the number of the rule that says so last; None: none does."""
    by_scope = {(rule.provider, rule.model): rule for rule in rules}
    holding = [rule for scope in ((provider, ""), (provider, model)) if (rule := by_scope.get(scope))]
    said: dict[str, int | float] = {}
    for rule in holding:
        said |= rule.said()
    return base.model_copy(update=said), max((rule.version for rule in holding), default=None)


def set_limits(place: Place, provider: str, model: str, said: dict[str, int | float | None]) -> LimitRule:
    """Let this hold for all workers.

    Raises:
        UsageError: nothing is said, or the provider is a pool: its members have limits of their own.
        SettingsError: there is no such provider.
    """
    if all(value is None for value in said.values()):
        raise UsageError(
            "no limit is given", next_step=f"corpusmill limits set {provider} --rpm N --tpm N   (0: no limit)"
        )
    name = _single(place, provider)
    rule = replace(LimitRule(name, model), **said)  # type: ignore[arg-type]  # names and types are the caller's
    return place.ledger.set_limit_rule(rule)


def unset_limits(place: Place, provider: str, model: str) -> None:
    """Let the settings hold again.

    Raises:
        UsageError: nothing was set for it.
    """
    if not place.ledger.unset_limit_rule(provider.lower(), model):
        scope = f"{provider}/{model}" if model else provider
        raise UsageError(f"no limit was set for {scope}", next_step="corpusmill limits   # lists what holds")


def _single(place: Place, provider: str) -> str:
    name, found = place.settings.provider(provider)
    if found.members:
        raise UsageError(
            f"{name} is a pool: each of its members has limits of its own",
            where=f"its members: {', '.join(found.members)}",
            next_step=f"corpusmill limits set {found.members[0]} …",
        )
    return name
