"""Groups of flags: dataclasses whose fields typer sees as options of a command.

Many commands take the same flags. A command declares one parameter a group; `spread` shows typer their fields
one by one and puts them together again for the call. `with_globals` adds the three flags every command takes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, get_type_hints

import typer

from corpusmill.cli.output import interrupted, nobody_reads, out

Parameter = inspect.Parameter


def spread(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same command with each parameter that is a dataclass replaced by that class's fields, as keywords."""
    hints = get_type_hints(command, include_extras=True)
    parameters = inspect.signature(command).parameters
    groups = {name: hints[name] for name in parameters if is_dataclass(hints[name])}

    @functools.wraps(command)
    def call(**given: Any) -> Any:
        made = {
            name: group(**{field.name: given.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        return command(**made, **given)

    flat: list[Parameter] = []
    for name, parameter in parameters.items():
        if name in groups:
            flat.extend(_options(groups[name]))
        else:
            flat.append(Parameter(name, Parameter.KEYWORD_ONLY, default=parameter.default, annotation=hints[name]))
    return _signed(call, flat)


def with_globals(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same command with `--json`, `-q` and `--no-progress`, which set `cli.output.out`."""
    hints = get_type_hints(command, include_extras=True)

    @functools.wraps(command)
    def call(*, as_json: bool, quiet: bool, no_progress: bool, **given: Any) -> Any:
        set_globals(as_json=as_json, quiet=quiet, no_progress=no_progress)
        try:
            return command(**given)
        except BrokenPipeError:
            raise typer.Exit(nobody_reads()) from None
        except KeyboardInterrupt:
            raise typer.Exit(interrupted()) from None

    own = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=parameter.default, annotation=hints.get(name, Any))
        for name, parameter in inspect.signature(command).parameters.items()
    ]
    return _signed(call, [*own, *_options_of(set_globals)])


def set_globals(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print results and errors only.")] = False,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="Draw and print no progress.")] = False,
) -> None:
    """Take the global flags; one given before the command stays when it is not repeated after it."""
    out.json = out.json or as_json
    out.quiet = out.quiet or quiet
    out.progress = out.progress and not no_progress


def _options(group: type[Any]) -> Iterator[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        yield Parameter(field.name, Parameter.KEYWORD_ONLY, default=_default(field), annotation=hints[field.name])


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return Parameter.empty if field.default is MISSING else field.default


def _options_of(function: Callable[..., Any]) -> list[Parameter]:
    hints = get_type_hints(function, include_extras=True)
    return [
        parameter.replace(annotation=hints[name]) for name, parameter in inspect.signature(function).parameters.items()
    ]


def _signed(call: Callable[..., Any], parameters: list[Parameter]) -> Callable[..., Any]:
    # Typer reads both: the signature for order and defaults, the annotations for types.
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call
