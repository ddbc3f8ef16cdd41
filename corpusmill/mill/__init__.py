"""The producer's side: from an ask to a job, and from a job to its results. The command line stands on it too."""

from __future__ import annotations

from corpusmill.mill.api import Mill
from corpusmill.mill.asynchronous import AsyncJob, AsyncMill
from corpusmill.mill.job import Job
from corpusmill.mill.results import Failure, Result
from corpusmill.mill.summary import Summary

__all__ = ["AsyncJob", "AsyncMill", "Failure", "Job", "Mill", "Result", "Summary"]
