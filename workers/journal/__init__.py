"""The journal: what a process has sent and paid for, on disk before SQL has it.

A process owns one folder below `HOME/journal`, held by `flock` while it lives, with numbered segments of framed
records: `sent` before a call, `reply` or `void` after it, `done` once SQL has it all. Whoever finds a folder that
nobody holds adopts it: replies are committed, a call without a reply becomes usage of unknown outcome.

What is promised: a reply that was appended survives the death of its process, whatever kills it. It is not synced to
the disk, because SQL has it within the next fifth of a second: a power cut may cost the last replies. What one turn of
the loop has to note is appended together, see `workers.turn`.
"""

from workers.journal.adoption import adopt
from workers.journal.entries import Reply, Sent
from workers.journal.journal import Journal

__all__ = ["Journal", "Reply", "Sent", "adopt"]
