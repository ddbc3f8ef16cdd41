"""The table of commands: name, where its function is, and its one line in the list."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command. `members`: functions of a command that has commands of its own; `bare`: it does something alone."""

    name: str
    module: str
    title: str
    summary: str
    members: tuple[str, ...] = ()
    bare: bool = False

    @property
    def function(self) -> str:
        """The function behind it: its name, with an underscore where Python needs one."""
        return self.name


_WORK, _JOBS, _RUN = "Work", "Jobs", "Running it"

COMMANDS = {
    command.name: command
    for command in (
        Command("complete", "corpusmill.cli.work", _WORK, "Run a prompt over every chunk of a corpus"),
        Command("embed", "corpusmill.cli.work", _WORK, "Embed every chunk of a corpus"),
        Command(
            "sync", "corpusmill.cli.collecting", _WORK, "Bring a collection of vectors to the state of its sources"
        ),
        Command("reembed", "corpusmill.cli.collecting", _WORK, "Embed a collection anew by another model, then switch"),
        Command(
            "collection",
            "corpusmill.cli.collection",
            _WORK,
            "List collections, their versions and sets; activate a set, or go back; drop",
            members=("list", "show", "sets", "history", "activate", "rollback", "drop"),
        ),
        Command("run", "corpusmill.cli.work", _WORK, "Run an OpenAI Batch request file live, at full price"),
        Command(
            "plan",
            "corpusmill.cli.plan",
            _WORK,
            "Say what a job would take: chunks, tokens, requests, USD and hours; spends nothing",
            members=("complete", "embed", "run"),
        ),
        Command("jobs", "corpusmill.cli.jobs", _JOBS, "List the jobs, newest first"),
        Command("show", "corpusmill.cli.jobs", _JOBS, "Show one job: its state, numbers, output and next step"),
        Command("watch", "corpusmill.cli.jobs", _JOBS, "Follow a job to its end and write its output"),
        Command(
            "export",
            "corpusmill.cli.outputs",
            _JOBS,
            "Write a job's results so far to a file, or a collection's vectors to PostgreSQL",
        ),
        Command("failures", "corpusmill.cli.outputs", _JOBS, "List a job's failed items and why they failed"),
        Command("pause", "corpusmill.cli.jobs", _JOBS, "Stop sending; what is in flight is saved"),
        Command("resume", "corpusmill.cli.jobs", _JOBS, "Go on with a paused, stopped or cancelled job"),
        Command("cancel", "corpusmill.cli.jobs", _JOBS, "End a job; what it has paid for is kept"),
        Command("retry", "corpusmill.cli.mending", _JOBS, "Try a job's failed items again"),
        Command("verify", "corpusmill.cli.mending", _JOBS, "Recount a job: does everything add up"),
        Command("purge", "corpusmill.cli.purge", _JOBS, "Take jobs, collections, documents or answers away for good"),
        Command("usage", "corpusmill.cli.usage", _JOBS, "Sum tokens and USD by job, model, day or label"),
        Command(
            "schedule",
            "corpusmill.cli.schedule",
            _RUN,
            "Run a command by cron: add, list, show, pause, resume, run, remove",
            members=("add", "list", "show", "pause", "resume", "run", "remove"),
        ),
        Command(
            "limits",
            "corpusmill.cli.limits",
            _RUN,
            "List what limits hold, set and told; set them while workers run",
            members=("set", "unset"),
            bare=True,
        ),
        Command(
            "cache",
            "corpusmill.cli.cache",
            _RUN,
            "Say how much the answers are that are kept; limit them by size and age",
            members=("show", "trim"),
        ),
        Command("up", "corpusmill.cli.ops", _RUN, "Start the machinery on this machine and keep it up"),
        Command("down", "corpusmill.cli.ops", _RUN, "Stop what `up` or a command started, gracefully"),
        Command("worker", "corpusmill.cli.ops", _RUN, "Run one worker of a fleet"),
        Command("scheduler", "corpusmill.cli.ops", _RUN, "Run the scheduler of a fleet"),
        Command("flower", "corpusmill.cli.flower", _RUN, "Watch queues and shards in Flower"),
        Command("simulate", "corpusmill.cli.simulate", _RUN, "Run an OpenAI-compatible endpoint that costs nothing"),
        Command("migrate", "corpusmill.cli.ops", _RUN, "Bring the database to this version's schema"),
        Command("doctor", "corpusmill.cli.doctor", _RUN, "Check that everything a job needs is in place"),
        Command("config", "corpusmill.cli.ops", _RUN, "Show every setting and where it came from"),
        Command("demo", "corpusmill.cli.demo", _RUN, "Run the whole job on sample documents, without a key"),
    )
}
