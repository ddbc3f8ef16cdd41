"""A job in a producer's hands: follow it, read its results, pause it, write it to a file."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from corpusmill import export as exports
from corpusmill.embedded.place import place_of
from corpusmill.endpoint import Limits
from corpusmill.errors import UsageError
from corpusmill.ledger.jobs import refuse_purged
from corpusmill.ledger.records import JobState, JobView, WorkerView
from corpusmill.ledger.workers import LIVE_S
from corpusmill.mill import outputs
from corpusmill.mill.going_on import bind, uncapped
from corpusmill.mill.place import Place
from corpusmill.mill.pricing import refuse_budget, refuse_spent
from corpusmill.mill.results import Failure, Result, failure_of, result_of
from corpusmill.mill.specs import output_cap
from corpusmill.mill.summary import Summary, summary_of
from corpusmill.mill.verifying import Verification, verify
from corpusmill.mill.watching import Look, looks, wait_for_calls
from corpusmill.prices import PriceCard
from corpusmill.settings_sources import usual_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Job:
    """One job of a `Mill`; as long as the mill is open."""

    def __init__(self, place: Place, view: JobView, *, requests_before: int | None = None) -> None:
        self._place, self._number, self.id = place, view.id, view.public_id
        if requests_before is None:
            requests_before = place.ledger.counts(view.id).requests
        self._requests_before = requests_before
        self._viewing = False

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    @property
    def view(self) -> JobView:
        """The job as the ledger has it now."""
        return self._place.ledger.job(self._number)

    @property
    def state(self) -> JobState:
        """`loading`, `queued`, `running`, `paused`, `finished`, `cancelled`, `stopped`, `purging` or `purged`."""
        return self.view.state

    def summary(self) -> Summary:
        """The job's numbers as they stand."""
        ledger, view = self._place.ledger, self.view
        return summary_of(
            view,
            ledger.counts(self._number),
            requests_before=self._requests_before,
            seconds=_seconds(*ledger.first_and_last(self._number)),
        )

    def looks(self) -> Iterator[Look]:
        """The job at one moment after another, until it does not go on by itself."""
        return looks(self._place, self._number)

    def wait(self, timeout_s: float | None = None) -> Summary:
        """Wait until the job does not go on by itself; the summary says how it ended. A waiter is a viewer.

        Raises:
            TimeoutError: it was not over after `timeout_s` seconds; it goes on.
        """
        self.start()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        for look in self.looks():
            if deadline is not None and look.at_s > deadline and not look.over:
                raise TimeoutError(f"{self.id} was not over after {timeout_s} s")
        self.wait_for_calls()
        return self.summary()

    @property
    def limits(self) -> Limits | None:
        """The limits that are set for the job's provider; None where this process does not know the provider."""
        known = self._providers(self.view)
        return self._place.settings.limits_for(known[0]) if known else None

    @property
    def missing_key(self) -> str | None:
        """The environment variable to give the job's provider a key by; None where it has one, or is unknown here."""
        view = self.view
        provider = self._place.settings.providers.get(view.provider)
        if provider is None or provider.has_credentials:
            return None
        return usual_name(("providers", view.provider, "api_key"))

    @property
    def pauses_when_left(self) -> bool:
        """Whether the job pauses when its last viewer leaves: without a fleet, unless it was ever detached."""
        return self._place.settings.embedded and not self.view.detached

    @property
    def notes(self) -> list[str]:
        """What is set here and not heeded by the machinery that runs already."""
        return self._place.notes

    @property
    def embedded_log(self) -> Path | None:
        """What the embedded machinery has to say; None in a fleet."""
        settings = self._place.settings
        return place_of(settings).log if settings.embedded else None

    def workers(self) -> list[WorkerView]:
        """All live workers, whether or not they can serve this job."""
        return self._place.ledger.workers(LIVE_S)

    def latencies(self) -> tuple[float, float] | None:
        """Median and 95th percentile of the calls' latency, in milliseconds."""
        return self._place.ledger.latencies(self._number)

    def share_of_limit(self) -> float | None:
        """How much of the set limit of requests or tokens was used over the job's time, whichever is more."""
        summary, limits = self.summary(), self.limits
        if not summary.seconds or limits is None:
            return None
        used = (
            (summary.requests_total, limits.rpm),
            (summary.prompt_tokens + summary.completion_tokens, limits.tpm),
        )
        shares = [amount / summary.seconds * 60 / limit for amount, limit in used if limit]
        return max(shares, default=None)

    def planned_usd(self) -> Decimal | None:
        """What all items would cost at most: every answer as long as its cap. None: unpriced, or no cap."""
        view = self.view
        cap = 0 if view.spec.queue_kind == "embedding" else output_cap(view.spec)
        if view.price_card is None or cap is None or view.kind == "request":
            return None
        from corpusmill.mill.estimate import overhead_tokens, usd_of  # loads the tokenizer

        items = self._place.ledger.counts(view.id).items
        return usd_of(
            PriceCard.from_json(view.price_card),
            calls=items,
            prompt_tokens=self._place.ledger.input_tokens(view.id) + items * overhead_tokens(view.spec),
            output_tokens=cap,
            tier=view.spec.options.get("service_tier"),
        )

    def wait_for_calls(self) -> bool:
        """Wait until what is in flight of a job that is over is written; False when that takes too long."""
        return wait_for_calls(self._place, self._number, self._place.settings.timeout_s)

    def results(self) -> Iterator[Result]:
        """The answers so far, in source order, streamed; items that failed or are open are left out."""
        return map(result_of, self._place.ledger.results(self._number))

    def failures(self, classes: Collection[str] | None = None) -> Iterator[Failure]:
        """The items that failed for good (with one of these classes), in source order."""
        failed = map(failure_of, self._place.ledger.failures(self._number))
        return failed if classes is None else (each for each in failed if each.error_class in classes)

    def verify(self) -> Verification:
        """Recount the job from its rows, at one moment; works while it runs."""
        return verify(self._place.ledger, self._number, self._place.settings.home / "journal")

    def vectors(self) -> NDArray[np.float32]:
        """All embeddings so far as one array of shape (N, D), in source order; for more than memory holds: `export`."""
        import numpy as np

        rows = [result.vector for result in self.results()]
        return np.stack(rows) if rows else np.zeros((0, self.view.spec.dimensions or 0), np.float32)

    def start(self) -> None:
        """Send the job on its way and be its viewer, unless it is over: then nothing is started at all."""
        view = self.view
        if view.state not in ("queued", "running"):
            return
        self._place.join(self._providers(view))
        if not self._viewing:
            self._viewing = True
            self._place.attach(self._number)
        self._place.feed()

    def _providers(self, view: JobView) -> list[str]:
        """The provider whose key the supervisor needs; none where it is not known, or known by another address."""
        settings = self._place.settings
        known = view.provider in settings.providers and settings.endpoint(view.provider) == view.endpoint
        return [view.provider] if known else []

    def leave(self) -> None:
        """Stop being a viewer: without a fleet, the last one's leaving pauses a job that was never detached."""
        self._viewing = False
        self._place.detach(self._number)

    def resume(
        self, *, budget_usd: Decimal | None = None, budget_tokens: int | None = None, detach: bool = False
    ) -> None:
        """Go on with a paused, stopped or cancelled job, with the key that is set now.

        Args:
            budget_usd: the new cap; None leaves the one it has, `NO_CAP` takes it away.
            budget_tokens: likewise in tokens, but for the last.
            detach: the job goes on when this process leaves.

        Raises:
            UsageError: the budget cannot be kept, or is spent already.
        """
        view, ledger = self.view, self._place.ledger
        budget = ... if budget_usd is None else uncapped(budget_usd)
        if budget is not ...:
            refuse_budget(budget, view.model, priced=view.price_card is not None)
            refuse_spent(budget, ledger.counts(self._number), self.id)
        if budget_tokens is not None:
            ledger.set_budget_tokens(self._number, budget_tokens)
        self._go_on(view, detach=detach)
        ledger.resume(self._number, budget=budget)
        self.start()

    def retry(self, classes: Collection[str] | None = None, *, detach: bool = False) -> int:
        """Open the items that failed (with one of these classes) again and go on; gives how many there are.

        Items that failed before any call stay failed: their source would have to change.
        """
        count = self._place.ledger.reopen_failed(self._number, classes)
        if count:
            view = self.view
            self._go_on(view, detach=detach)
            if view.state in ("paused", "stopped", "cancelled"):
                self._place.ledger.resume(self._number, first=view.first)
            self.start()
        return count

    def _go_on(self, view: JobView, *, detach: bool) -> None:
        """With the key that is set now."""
        ledger = self._place.ledger
        if detach:
            ledger.set_detached(self._number, True)
        if self._providers(view):
            bind(ledger, view, self._place.settings.lane(view.provider, ledger.salt())[1])

    def pause(self) -> None:
        """Stop sending; what is in flight is finished and saved."""
        self._place.ledger.pause(self._number, "user")

    def cancel(self) -> None:
        """End the job; what was paid for is kept, and the same request goes on with the rest."""
        self._place.ledger.cancel(self._number)

    def export(
        self, out: str | Path | None = None, *, errors_out: str | Path | None = None, force: bool = False
    ) -> tuple[Path, ...]:
        """Write the results so far to `out`, or to where the job was told; gives the files, the main one first.

        Raises:
            OutputExists: a file is there that this job did not write; `force` replaces it.
            UsageError: no output was named, or it does not suit the job.
            DiskFull: there is no room.
        """
        view, ledger = self.view, self._place.ledger
        refuse_purged(view.state, self.id)
        path, errors = _path(out or view.out), _path(errors_out or view.errors_out)
        if path is None:
            raise UsageError(f"{self.id} has no output file", next_step=f"corpusmill export {self.id} --out FILE")
        self.refuse_output(path, errors, force=force)
        written = exports.write(
            exports.Job(view.public_id, view.spec.kind, view.spec.dimensions),
            path,
            succeeded=ledger.results(view.id),
            failed=ledger.failures(view.id),
            errors_out=errors,
            ready=lambda place, digest: ledger.remember_output(view.id, str(place), digest),
        )
        if view.out is None:
            ledger.set_out(view.id, str(path))
        return written.paths

    def write_to(self, out: Path | None) -> None:
        """Let this be the job's output from now on; None leaves it as it is."""
        path = _path(out)
        if path is not None and str(path) != self.view.out:
            self._place.ledger.set_out(self._number, str(path))

    def refuse_output(self, out: Path | None, errors_out: Path | None = None, *, force: bool = False) -> None:
        """Make sure that the output can be written, before anything is waited or paid for.

        Raises:
            OutputExists: a file is there that this job did not write.
            UsageError: the output does not suit the job, or cannot be written.
        """
        path = _path(out or self.view.out)
        if path is None:
            return
        targets = exports.targets(self.view.spec.kind, path, errors_out or _path(self.view.errors_out))
        outputs.refuse(targets, lambda name: self._place.ledger.output_digest(self._number, name), force=force)


def _seconds(committed_at: float | None, last_at: float | None) -> float | None:
    """From the end of loading to the last result; a job without a call of its own took none."""
    if committed_at is None or last_at is None:
        return None
    return round(max(0.0, last_at - committed_at), 3)


def _path(path: str | Path | None) -> Path | None:
    return outputs.absolute(Path(path)) if path else None
