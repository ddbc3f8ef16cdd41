"""What each priority leaves in the bucket."""

from __future__ import annotations

from collections.abc import Mapping

from corpusmill.limits.scope import Priority

# In seconds of the rate and at most as a fraction of the burst: SAFETY for the jitter between a grant and its arrival
# at the endpoint, HEADROOM so that more urgent work need not wait.
SAFETY = (0.25, 1 / 4)
HEADROOM: Mapping[Priority, tuple[float, float]] = {"high": (0.0, 0.0), "normal": (0.1, 1 / 10), "low": (0.2, 1 / 5)}


def floors_s(burst_s: float) -> dict[Priority, float]:
    """What each priority leaves in a bucket of `burst_s`, in seconds of the rate."""
    safety = min(SAFETY[0], burst_s * SAFETY[1])
    return {name: safety + min(most, burst_s * fraction) for name, (most, fraction) in HEADROOM.items()}
