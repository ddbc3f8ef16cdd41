"""Names that we share with LightRAG.

Classes of ours are LightRAG's as well, once LightRAG is loaded: its `isinstance` and `except` must know them. This
package never imports LightRAG, which takes seconds to load and may not be installed, unless asked for a name of its.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

T = TypeVar("T")


def kin_of_lightrag(ours: type[T], module: str) -> type[T]:
    """`ours`, or a class that is both `ours` and LightRAG's of the same name, if its `module` is loaded."""
    theirs = getattr(sys.modules.get(module), ours.__name__, None)
    both: Callable[[Any, Any], type[T]] = _both
    return both(ours, theirs) if isinstance(theirs, type) else ours


def of_lightrag(module: str, name: str, *, asked: str) -> Any:
    """A name that is LightRAG's alone, so that no `from … import` needs sorting out.

    Raises:
        AttributeError: LightRAG's `module` has no such name either, or is not installed; it names the module `asked`.
    """
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError):
        raise AttributeError(f"module {asked!r} has no attribute {name!r}") from None


@cache
def _both(ours: Any, theirs: Any) -> Any:
    shown = {"__module__": ours.__module__, "__doc__": ours.__doc__}
    return type(ours.__name__, (ours, theirs), {"__slots__": (), **shown})
