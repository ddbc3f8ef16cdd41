"""`python -P -m scheduler`: one scheduler process."""

from __future__ import annotations

import sys

from corpusmill import _entry

_entry.isolate()

from scheduler.process import main  # noqa: E402  # after isolate(): the path has to be ours first

sys.exit(main())
