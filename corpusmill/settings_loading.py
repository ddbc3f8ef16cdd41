"""From places to values: who wins where two places say something, and what is said when a value cannot be."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import ValidationError

from corpusmill import settings_sources as sources
from corpusmill.errors import SettingsError

SETTINGS_FILE = "corpusmill.toml"


def default_home() -> Path:
    """The platform's user state folder."""
    return platformdirs.user_state_path("corpusmill")


def gather(cwd: Path, overrides: Mapping[str, Any]) -> list[sources.Given]:
    """Every given value, the stronger place later, one a path."""
    environment, flags = sources.from_environment(), sources.from_flags(overrides)
    if os.environ.get("CORPUSMILL_CHILD"):
        # The supervisor has read the files, of another folder: what it says stands.
        return _strongest([environment, flags])
    dotenv = sources.from_dotenv(cwd / ".env")
    named = _strongest([dotenv, environment, flags])
    home = next((one.value for one in named if one.path == ("home",)), default_home())
    here = cwd / SETTINGS_FILE
    toml = sources.from_toml(here if here.exists() else Path(home) / SETTINGS_FILE)
    return _strongest([toml, dotenv, environment, flags])


def _strongest(places: Sequence[Sequence[sources.Given]]) -> list[sources.Given]:
    merged = {one.path: one for place in places for one in place}
    for file in [path for path in merged if path[-1] == "api_key_file"]:
        # Two ways to say one thing: the stronger place's counts, as if they were one name.
        key = merged.get((*file[:-1], "api_key"))
        if key and key.place != merged[file].place:
            order = [one for place in places for one in place]
            weaker = min(key, merged[file], key=order.index)
            del merged[weaker.path]
    return list(merged.values())


def wrong(error: ValidationError, given: Sequence[sources.Given]) -> SettingsError:
    """The first thing wrong, under the name by which it was given; the value itself may be a secret."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    at = tuple(str(part) for part in first["loc"])
    culprit = next((one for one in given if at and one.path[: len(at)] == at[: len(one.path)]), None)
    reason = first["msg"].removeprefix("Value error, ")
    name = culprit.name if culprit else (sources.name_of(at) if at else "settings")
    return SettingsError(
        f"{name}: {reason[:1].lower()}{reason[1:]}",
        where=culprit.place if culprit else "",
        next_step="correct it; `corpusmill config` shows each value and where it came from",
    )
