"""Where settings come from: `corpusmill.toml` < `.env` < environment < flags, each value with its origin.

Every value travels with its name and place, so that an unknown name or a wrong value can be told with where it stands.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from dotenv import dotenv_values
from pydantic import BaseModel

from corpusmill.errors import SettingsError
from corpusmill.model_options import ModelOptions

PREFIX = "CORPUSMILL_"
OPTION_PREFIX = "OPENAI_LLM_"
SDK_NAMES = {
    "OPENAI_API_KEY": ("providers", "openai", "api_key"),
    # The later one wins: the SDK's own name over the older one.
    "OPENAI_API_BASE": ("providers", "openai", "base_url"),
    "OPENAI_BASE_URL": ("providers", "openai", "base_url"),
}
# Said by the supervisor to its children; no setting.
INTERNAL_NAMES = frozenset({"CORPUSMILL_CHILD"})
FILE_FIELDS = ("home", "prices", "api_key_file")

Path_ = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Given:
    """One value as somebody gave it: `name` as they wrote it, `place` the file, `environment` or `flag`."""

    path: Path_
    value: Any
    name: str
    place: str

    @property
    def origin(self) -> str:
        """For people: the name and where it stands."""
        return f"{self.name} ({self.place})"


def nested(given: Sequence[Given]) -> dict[str, Any]:
    """The given values as one nested dictionary, in the shape of the settings model."""
    table: dict[str, Any] = {}
    for one in given:
        level = table
        for part in one.path[:-1]:
            level = level.setdefault(part, {})
        level[one.path[-1]] = one.value
    return table


def from_names(names: Mapping[str, str | None], place: str, *, relative_to: Path) -> list[Given]:
    """What an environment or a `.env` file says; an empty value counts as not set, as docker-compose passes it."""
    given = []
    for name in [*SDK_NAMES, *(name for name in names if name not in SDK_NAMES)]:
        value, path = names.get(name), _path_of(name)
        if path is not None and value is not None and value.strip():
            given.append(Given(path, _resolved(path, value.strip(), relative_to), name, place))
    return given


def _path_of(name: str) -> Path_ | None:
    upper = name.upper()
    if upper in SDK_NAMES:
        return SDK_NAMES[upper]
    if upper.startswith(PREFIX) and upper not in INTERNAL_NAMES:
        return tuple(upper.removeprefix(PREFIX).lower().split("__"))
    if upper.startswith(OPTION_PREFIX):
        return _option_path(upper.removeprefix(OPTION_PREFIX).lower())
    return None


def _option_path(option: str) -> Path_ | None:
    """The prefix is not ours alone: a name that is nearly an option is taken for a slip, any other for another's."""
    fields = ModelOptions.model_fields
    near = option in fields or difflib.get_close_matches(option, fields, n=1, cutoff=0.75)
    return ("openai_llm", option) if near else None


def from_dotenv(path: Path) -> list[Given]:
    """What a `.env` file says; nothing if there is none."""
    return from_names(dotenv_values(path), str(path), relative_to=path.parent) if path.is_file() else []


def from_environment() -> list[Given]:
    """What the process's environment says."""
    return from_names(os.environ, "environment", relative_to=Path.cwd())


def from_toml(path: Path) -> list[Given]:
    """What a `corpusmill.toml` says; nothing if there is none.

    Raises:
        SettingsError: the file is not TOML.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(
            f"the settings file {path} cannot be read: {why}",
            where=str(path),
            next_step="mend the file, or move it away",
        ) from error
    return [Given(at, _resolved(at, value, path.parent), ".".join(at), str(path)) for at, value in _leaves(table)]


def from_flags(overrides: Mapping[str, Any]) -> list[Given]:
    """What a command's flags or a caller's arguments say; None is not said."""
    return [
        Given(at, _resolved(at, value, Path.cwd()), ".".join(at), "flag")
        for at, value in _leaves(overrides)
        if value is not None
    ]


def _leaves(table: Mapping[str, Any], above: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    for name, value in table.items():
        # Provider names are the environment's too, where case does not count; header names keep theirs.
        at = (*above, name if "headers" in above or "extra_body" in above else name.lower())
        if isinstance(value, Mapping) and value and at[-1] != "extra_body":
            yield from _leaves(value, at)
        else:
            yield at, value


def _resolved(path: Path_, value: Any, relative_to: Path) -> Any:
    """Files are named relative to where the name stands, and used by processes that stand elsewhere."""
    if path[-1] in FILE_FIELDS and isinstance(value, str | Path) and str(value).strip():
        return relative_to.resolve() / Path(value).expanduser()
    return value


# --- names ------------------------------------------------------------------------------------------------------


def known_paths(model: type[BaseModel]) -> list[Path_]:
    """Every name that can be set, `*` standing for one that the user chooses."""
    return list(_fields(model, ()))


def _fields(model: type[BaseModel], above: Path_) -> Iterator[Path_]:
    for name, field in model.model_fields.items():
        yield from _below(field.annotation, (*above, name))


def _below(annotation: Any, at: Path_) -> Iterator[Path_]:
    options = [option for option in get_args(annotation) if option is not type(None)] or [annotation]
    kind = options[0] if len(options) == 1 else annotation
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield from _fields(kind, at)
    elif get_origin(annotation) is dict and not _is_model(get_args(annotation)[1]):
        yield at
        yield (*at, "*")
    elif get_origin(annotation) is dict:
        yield from _fields(get_args(annotation)[1], (*at, "*"))
    else:
        yield at


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def refuse_unknown(given: Iterable[Given], known: Sequence[Path_]) -> None:
    """Stop at the first name that sets nothing.

    Raises:
        SettingsError: naming the nearest known name and where the unknown one stands.
    """
    for one in given:
        if not any(_fits(one.path, path) for path in known):
            near = _nearest(one, known)
            raise SettingsError(
                f"unknown setting {one.name}" + (f", did you mean {near}?" if near else ""),
                where=one.place,
                next_step="`corpusmill config` lists every setting",
            )


def _fits(path: Path_, known: Path_) -> bool:
    return len(path) == len(known) and all(k in ("*", part) for part, k in zip(path, known, strict=True))


def _nearest(one: Given, known: Sequence[Path_]) -> str | None:
    spelled = {_spelled(_filled(path, one.path), one): None for path in known}
    found = difflib.get_close_matches(one.name, spelled, n=1, cutoff=0.6)
    return found[0] if found else None


def _filled(known: Path_, path: Path_) -> Path_:
    return tuple(path[i] if k == "*" and i < len(path) else ("NAME" if k == "*" else k) for i, k in enumerate(known))


def _spelled(path: Path_, like: Given) -> str:
    """In the way of the place: dotted in a file, capitals and `__` in an environment."""
    if "." in like.name or like.name.islower():
        return ".".join(path)
    if path[0] == "openai_llm" and like.name.startswith(OPTION_PREFIX):
        return OPTION_PREFIX + path[-1].upper()
    return name_of(path)


def name_of(path: Path_) -> str:
    """The environment's name of a setting."""
    if path[0] == "openai_llm":
        return OPTION_PREFIX + path[-1].upper()
    return PREFIX + "__".join(path).upper()


def usual_name(path: Path_) -> str:
    """The name that people know: the SDK's own where it has one."""
    known: dict[Path_, str] = {at: name for name, at in SDK_NAMES.items()}
    return known.get(path) or name_of(path)
