"""How a process of ours logs: human lines on a terminal, else one JSON object a line, each without secrets.

A message like `"shard ended job=%s shard=%d"` becomes `{"event": "shard ended", "job": "j_…", "shard": 3}`: what stands
as `name=%…` in it is a fact of that name. Exceptions are told by their type and the places in the code, never by their
text, which may quote what was sent.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

from corpusmill.secrecy import redacted
from corpusmill.visible import visible

HUMAN = "%(asctime)s %(levelname)s %(name)s %(message)s"
# An attribute of a record with further facts, for messages that name theirs elsewhere.
FACTS = "facts"

_PLACES = re.compile(r"(?:(?P<name>\b[a-z_]\w*)=)?%(?:%|[-#0 +]*[\d.]*[a-z])", re.IGNORECASE)
# What is left where a fact was taken out.
_SPACES = re.compile(r"\s+([:,])|\s+")

log = logging.getLogger(__name__)

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def to_stderr(stream: TextIO | None = None, *, level: int = logging.WARNING) -> None:
    """Log to stderr, from `level` on, in the form that suits who reads it."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Human(HUMAN) if stream.isatty() else Json())
    logging.basicConfig(level=level, handlers=[handler])


def take_over() -> None:
    """Have what nobody catches, and what a library logs where nothing is set up, told like everything else.

    Python itself would print the texts of exceptions, which may quote what was sent or what it was signed with.
    """
    sys.excepthook = _not_caught
    threading.excepthook = lambda args: _not_caught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _not_caught(args.exc_type, args.exc_value, args.exc_traceback)
    logging.captureWarnings(True)
    logging.getLogger("asyncio").addFilter(first_line_alone)
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(Human("%(message)s"))


def first_line_alone(record: logging.LogRecord) -> bool:
    """A filter: asyncio says what happened in the first line; below it stand objects with all that they hold."""
    record.msg, record.args = record.getMessage().partition("\n")[0], None
    return True


def told(error: BaseException) -> str:
    """An exception as it may be shown: where it was raised, and its type."""
    return redacted("".join([*traceback.format_tb(error.__traceback__), type(error).__name__]))


def _not_caught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    log.critical("not caught error=%s", kind.__name__, exc_info=(kind, error or kind(), trace))


class Human(logging.Formatter):
    """One line an event; an exception's places below it."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        return visible(redacted(super().format(record)))

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line, with further facts at its end."""
        facts = getattr(record, FACTS, {})
        return " ".join([super().formatMessage(record), *(f"{name}={value}" for name, value in facts.items())])

    def formatException(self, ei: _ExcInfo) -> str:
        """Where it happened and its type."""
        return "".join([*traceback.format_tb(ei[2]), getattr(ei[0], "__name__", "")])


class Json(logging.Formatter):
    """One object a line: at, level, logger, event, and the facts under their own names."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        import orjson  # here: most commands never log

        event, facts = parted(record)
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {**facts, "at": at, "level": record.levelname.lower(), "logger": record.name, "event": event}
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["places"] = [f"{place.filename}:{place.lineno}" for place in traceback.extract_tb(record.exc_info[2])]
        ordered = {name: line.pop(name) for name in ("at", "level", "logger", "event")} | line
        return visible(redacted(orjson.dumps(ordered, default=str, option=orjson.OPT_NON_STR_KEYS).decode()))


def parted(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """What happened, and the facts about it."""
    more = dict(getattr(record, FACTS, {}))
    args = record.args if isinstance(record.args, tuple) else ()
    if not isinstance(record.msg, str) or not args:
        return record.getMessage(), more
    values, facts = iter(args), {}
    words: list[str] = []
    end = 0
    for place in _PLACES.finditer(record.msg):
        words.append(record.msg[end : place.start()])
        end = place.end()
        name, form = place["name"], place[0][len(place["name"] or "") + bool(place["name"]) :]
        if form == "%%":
            words.append(place[0].replace("%%", "%"))
        elif name:
            facts[name] = _plain(next(values, None))
        else:
            words.append(form % (next(values, ""),))
    words.append(record.msg[end:])
    return _SPACES.sub(lambda found: found[1] or " ", "".join(words)).strip(" :"), facts | more


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)
