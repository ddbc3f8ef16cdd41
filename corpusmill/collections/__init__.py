"""Collections that stay current with their sources, and change their model, at the price of what is new.

A sync is an ordinary job over the chunks that have no vector yet; what readers see changes at one moment, when it is
finished.
"""

from corpusmill.collections.ask import SyncAsk
from corpusmill.collections.exporting import Chosen, choose, export
from corpusmill.collections.names import parted
from corpusmill.collections.reembedding import ReembedAsk, Reembedding, SetReport
from corpusmill.collections.report import Report
from corpusmill.collections.syncing import Syncing

__all__ = [
    "Chosen",
    "ReembedAsk",
    "Reembedding",
    "Report",
    "SetReport",
    "SyncAsk",
    "Syncing",
    "choose",
    "export",
    "parted",
]
