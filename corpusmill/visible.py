"""Text from elsewhere, as it may be put on a terminal: what would steer the terminal is shown instead of done.

A file's name, a record's id or an endpoint's error code may hold an escape sequence that moves the cursor, wipes what
was written or sets the window's title, or a character that turns the direction of writing. The same in a log file,
which somebody looks at in a terminal.
"""

from __future__ import annotations

import re

# All control characters but tab and line feed: C0, DEL, and C1, whose U+009B begins a sequence as ESC [ does. Then the
# ends of line that only some programs know, and what embeds, overrides and isolates directions.
_STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_BREAKS = re.compile(r"[\t\n]")


def visible(text: str) -> str:
    r"""The text with such characters as `\u001b`, which in JSON means the same; its lines and tabs stay."""
    # Nearly every text has none, and most are known to have none without a look at each character.
    return text if text.isascii() and text.isprintable() else _STEERS.sub(_escaped, text)


def in_one_line(text: str) -> str:
    """The same, and what would begin another line or column, too: for a text that is part of one."""
    return _BREAKS.sub(_escaped, visible(text))


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
