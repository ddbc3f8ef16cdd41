"""When a schedule is due: standard cron in five fields, in a time zone, through both changes of the clocks.

A schedule that names its hours goes by the clock on the wall: a time in the hour that is skipped in spring is due once,
when that hour would have ended, and one in the hour that comes twice in autumn is due once, the first time. A schedule
of every hour goes by time itself: it is due in each hour that there is.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, takewhile
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from corpusmill.errors import UsageError

_FIELDS = "minute hour day-of-month month day-of-week"
_EXAMPLE = 'for example --cron "0 3 * * 0": every Sunday at 3 in the morning'


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression in a time zone; made by `parse`."""

    expression: str
    zone: ZoneInfo

    @classmethod
    def parse(cls, expression: str, zone: str) -> Cron:
        """The schedule that these words mean.

        Raises:
            UsageError: no such time zone, no cron expression, or one that no date ever matches.
        """
        made = cls(" ".join(expression.split()), _zone(zone))
        if len(made.expression.split(" ")) != 5:
            raise _wrong(expression, f"it has to have five fields: {_FIELDS}")
        try:
            made.after(datetime.now(UTC).timestamp())
        except CronSimError as error:
            raise _wrong(expression, str(error)) from None
        except StopIteration:
            raise _wrong(expression, "no date ever matches it") from None
        return made

    def after(self, at_s: float) -> float:
        """The first due time after a moment; both in epoch seconds."""
        return next(self.times(at_s))

    def times(self, at_s: float) -> Iterator[float]:
        """All due times after a moment, in order, each once."""
        latest = at_s
        for due_s in self._by_time(at_s) if self._hourly else self._by_the_wall(at_s):
            if due_s > latest:
                latest = due_s
                yield due_s

    def upcoming(self, at_s: float, count: int) -> list[float]:
        """The next `count` due times."""
        return list(islice(self.times(at_s), count))

    def latest(self, first_s: float, now_s: float) -> float:
        """The last due time up to now, given that `first_s` is one; quick however long ago that was."""
        back_s = 3600.0
        while now_s - back_s > first_s:
            found = list(takewhile(lambda due_s: due_s <= now_s, self.times(now_s - back_s)))
            if found:
                return found[-1]
            back_s *= 4
        return [first_s, *takewhile(lambda due_s: due_s <= now_s, self.times(first_s))][-1]

    def words(self, at_s: float) -> str:
        """A moment as people there write it."""
        return f"{datetime.fromtimestamp(at_s, self.zone):%Y-%m-%d %H:%M %Z}"

    def date(self, at_s: float) -> str:
        """The date there, as 2026-11-23."""
        return datetime.fromtimestamp(at_s, self.zone).date().isoformat()

    def midnight(self, at_s: float) -> float:
        """When the day of a moment began there."""
        begins = datetime.fromtimestamp(at_s, self.zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        return begins.timestamp()

    @property
    def _hourly(self) -> bool:
        return len(CronSim(self.expression, datetime(2000, 1, 1)).hours) == 24  # noqa: DTZ001 - fields alone matter

    def _by_time(self, at_s: float) -> Iterator[float]:
        # A star for the hour: cronsim would go by the wall for `0 0-23 * * *`.
        fields = self.expression.split(" ")
        fields[1] = "*"
        for due in CronSim(" ".join(fields), datetime.fromtimestamp(at_s, self.zone)):
            yield due.timestamp()

    def _by_the_wall(self, at_s: float) -> Iterator[float]:
        for due in CronSim(self.expression, datetime.fromtimestamp(at_s, self.zone).replace(tzinfo=None)):
            yield _first_moment(due, self.zone)


def _first_moment(wall: datetime, zone: tzinfo) -> float:
    """When a clock on the wall first shows this time, or, where it skips it, the next that it does show."""
    while True:
        moment = wall.replace(tzinfo=zone, fold=0)
        if moment.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == wall:
            return moment.timestamp()
        wall += timedelta(minutes=1)


def _zone(name: str) -> ZoneInfo:
    known = available_timezones()
    if name in known:
        return ZoneInfo(name)
    cities = {zone.rpartition("/")[2].lower(): zone for zone in sorted(known)}
    by_city = cities.get(name.replace(" ", "_").lower())
    near = [by_city] if by_city else difflib.get_close_matches(name, known, n=1)
    raise UsageError(
        f"there is no time zone {name!r}",
        where="--tz takes a name of the IANA list",
        next_step=f"did you mean --tz {near[0]}?" if near else "for example --tz Europe/Berlin",
    )


def _wrong(expression: str, why: str) -> UsageError:
    return UsageError(f"{expression!r} is no schedule: {why[:1].lower()}{why[1:]}", where="--cron", next_step=_EXAMPLE)
