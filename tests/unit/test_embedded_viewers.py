from __future__ import annotations

from corpusmill.embedded.viewers import Viewers
from corpusmill.ledger.records import JobView
from corpusmill.spec import JobSpec


def job(job_id: int, *, detached: bool = False) -> JobView:
    spec = JobSpec(kind="completion", path="/chat/completions", model="m", endpoint="e")
    return JobView(
        id=job_id, public_id=f"j_{job_id}", key=b"", name=None, kind="completion", model="m", provider="p",
        endpoint="e", key_fingerprint="f", state="running", reason=None, note=None, priority="normal", labels={},
        budget_usd=None, first=None, out=None, errors_out=None, detached=detached, spec=spec,
        price_card=None, created_at=0, committed_at=0, finished_at=None,
    )  # fmt: skip


def paused(viewers: Viewers, jobs: list[JobView], now_s: float) -> list[int]:
    return [job.id for job in viewers.unseen(jobs, now_s)]


def test_a_job_is_paused_when_the_grace_time_after_a_killed_viewer_is_over() -> None:
    viewers = Viewers(grace_s=15)
    viewers.attach(1)
    assert paused(viewers, [job(1)], 100) == []
    viewers.lose([1])
    assert paused(viewers, [job(1)], 100) == []
    assert paused(viewers, [job(1)], 114) == []
    assert paused(viewers, [job(1)], 115) == [1]


def test_a_job_that_its_last_viewer_left_on_purpose_is_paused_at_once() -> None:
    viewers = Viewers(grace_s=15)
    viewers.attach(1)
    viewers.leave(1)
    assert paused(viewers, [job(1)], 100) == [1]


def test_a_job_with_another_viewer_goes_on() -> None:
    viewers = Viewers(grace_s=0)
    viewers.attach(1)
    viewers.attach(1)
    viewers.leave(1)
    viewers.attach(2)
    assert paused(viewers, [job(1), job(2)], 100) == []
    viewers.lose([1])
    assert paused(viewers, [job(1), job(2)], 100) == [1]


def test_a_detached_job_needs_no_viewer() -> None:
    assert paused(Viewers(grace_s=0), [job(1, detached=True)], 100) == []


def test_a_viewer_that_comes_back_in_time_starts_the_grace_time_anew() -> None:
    viewers = Viewers(grace_s=15)
    assert paused(viewers, [job(1)], 0) == []
    viewers.attach(1)
    assert paused(viewers, [job(1)], 20) == []
    viewers.lose([1])
    assert paused(viewers, [job(1)], 30) == []


def test_a_job_that_is_resumed_after_its_viewer_left_is_not_paused_again_by_the_old_leave() -> None:
    viewers = Viewers(grace_s=15)
    viewers.attach(1)
    viewers.leave(1)
    assert paused(viewers, [job(1)], 0) == [1]
    assert paused(viewers, [], 1) == []
    assert paused(viewers, [job(1)], 2) == []


def test_it_is_known_whether_the_last_viewer_left_on_purpose() -> None:
    viewers = Viewers(grace_s=0)
    for job_id in (1, 2):
        viewers.attach(job_id)
    viewers.leave(1)
    viewers.lose([2])
    assert paused(viewers, [job(1), job(2)], 100) == [1, 2]
    assert (viewers.left(1), viewers.left(2)) == (True, False)
    viewers.attach(1)
    assert not viewers.left(1)
