"""The command `corpusmill`: finds the command that was typed, loads it alone, runs it, and turns errors into words.

Command modules load on use: help for all of them costs no import of any. A command is a plain function with typer
annotations; it returns None or its exit code, and raises `CorpusmillError` for what a person has to know.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

import corpusmill
from corpusmill import _entry
from corpusmill.cli.commands import COMMANDS, Command
from corpusmill.cli.flags import set_globals, spread, with_globals
from corpusmill.cli.output import cannot_print, has_stuck, interrupted, nobody_reads, out
from corpusmill.errors import CorpusmillError, UsageError
from corpusmill.logs import take_over, told

OUR_FAULT = 1


class LazyGroup(TyperGroup):
    """The group of all commands; a command's module is imported when that command is used."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command's name, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, loaded now; None when there is none."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            self.add_command(load(COMMANDS[cmd_name]), cmd_name)
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer does; a typo is answered with the nearest name of all commands, loaded or not."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            raise unknown_command(args[0])
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The commands by group, each with its line from the table."""
        width = max(map(len, COMMANDS))
        for title in dict.fromkeys(command.title for command in COMMANDS.values()):
            members = [command for command in COMMANDS.values() if command.title == title]
            with formatter.section(title):
                formatter.write_dl([(command.name.ljust(width), command.summary) for command in members])


def load(command: Command) -> Any:
    """Import a command's module and make typer's command of its function, or of its group of functions."""
    module = importlib.import_module(command.module)
    app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=not command.bare)
    if command.bare:
        app.callback(help=module.__doc__, invoke_without_command=True)(_alone(getattr(module, command.function)))
    elif command.members:
        app.callback(help=module.__doc__)(set_globals)
    for name in command.members or (command.function,):
        # One named as a built-in has an underscore after it.
        function = getattr(module, name, None) or getattr(module, f"{name}_")
        app.command(name.replace("_", "-"))(with_globals(spread(function)))
    made = get_command(app)
    made.name = command.name
    return made


def _alone(function: Callable[[], None]) -> Callable[..., None]:
    """What a group does when it is given no command of its own."""

    def call(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            function()

    return with_globals(call)


def unknown_command(name: str) -> UsageError:
    """The error for a command that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean `corpusmill {near[0]}`?" if near else "`corpusmill --help` lists all commands"
    return UsageError(f"there is no command `{name}`", next_step=hint)


def cli() -> Any:
    """The whole command line as typer's group."""
    app = typer.Typer(cls=LazyGroup, add_completion=False, rich_markup_mode=None, no_args_is_help=True)
    app.callback(help=corpusmill.__doc__)(with_globals(_top))
    return get_command(app)


def _tell_version(wanted: bool) -> None:
    if wanted:
        out.line(f"corpusmill {corpusmill.__version__}")
        out.result({"version": corpusmill.__version__})
        raise typer.Exit


def _top(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """What can be said without a command."""


def run(arguments: Sequence[str] | None = None) -> None:
    """The entry point `corpusmill`: run the command line and leave with its exit code."""
    _entry.start_lightly()
    _replace_closed()
    take_over()
    code = outcome(sys.argv[1:] if arguments is None else list(arguments))
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = nobody_reads()
    except OSError as error:
        trouble = cannot_print(error)
        out.trouble(trouble)
        code = code or trouble.exit_code
    sys.exit(code)


def _replace_closed() -> None:
    """Closed outputs (`>&-`, some daemons) are None, and `print` takes None for stdout: print nowhere instead."""
    nowhere = Path(os.devnull)
    sys.stdout = sys.stdout or nowhere.open("w")
    sys.stderr = sys.stderr or nowhere.open("w")


def outcome(arguments: Sequence[str]) -> int:
    """Run the command line and give its exit code; what a person has to know is printed."""
    out.reset()
    # Even an error in the arguments themselves is told as an object when `--json` stands among them.
    out.json = "--json" in arguments
    try:
        refuse_undecodable(arguments)
        return int(cli().main(args=list(arguments), prog_name="corpusmill", standalone_mode=False) or 0)
    except CorpusmillError as error:
        out.error(error)
        return error.exit_code
    except typer.TyperException as error:
        return _refused(error)
    except KeyboardInterrupt:
        return interrupted()
    except Exception as error:
        if isinstance(error, OSError) and has_stuck():
            trouble = cannot_print(error)
            out.error(trouble)
            return trouble.exit_code
        # Our own fault: where it happened is for the report, its text may quote anything.
        print(told(error), file=sys.stderr, flush=True)
        out.result({"error": {"what": type(error).__name__, "where": "", "next_step": ""}, "exit_code": OUR_FAULT})
        return OUR_FAULT


def refuse_undecodable(arguments: Sequence[str]) -> None:
    """Refuse arguments that are no text in the locale's encoding, but for a source's path: bytes are as good there.

    Raises:
        UsageError: the request, the ledger and the output are UTF-8, which could not hold it.
    """
    for number, argument in enumerate(arguments, start=1):
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            if not os.path.exists(argument):  # noqa: PTH110
                raise UsageError(
                    f"an argument is not valid UTF-8, at character {error.start}",
                    where=f"argument {number} of corpusmill",
                    next_step="write it in UTF-8; long texts are best read from a file: --prompt @FILE",
                ) from None


def _refused(error: typer.TyperException) -> int:
    """Tell what is wrong with the arguments; a bare group shows its help."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message())
        return UsageError.exit_code
    hint = f"`{context.command_path} --help` explains every flag" if context is not None else ""
    out.error(UsageError(error.format_message(), next_step=hint))
    return UsageError.exit_code
