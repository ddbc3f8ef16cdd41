"""The routes under /simulator: counters, faults, limits, the last requests. They are never limited and never fail."""

from __future__ import annotations

from time import monotonic
from typing import Any
from urllib.parse import parse_qs

import orjson

from corpusmill.errors import UsageError
from corpusmill.simulator.bill import Bill
from corpusmill.simulator.errors import invalid
from corpusmill.simulator.faults import Faults
from corpusmill.simulator.limits import Limits
from corpusmill.simulator.messages import Reply, Request
from corpusmill.simulator.recorder import Recorder


class Control:
    """What a test or a person asks the simulator about itself."""

    def __init__(self, bill: Bill, faults: Faults, limits: Limits, recorder: Recorder) -> None:
        self._bill, self._faults, self._limits, self._recorder = bill, faults, limits, recorder

    def reply(self, request: Request, path: str) -> Reply | None:
        """The reply to a control request; None: it is none.

        Raises:
            Refused: the faults or limits in the body cannot be read.
        """
        match request.method, path:
            case "GET", "/simulator/stats":
                return _json({**self._bill.stats(), "faults": self._faults.counts})
            case "GET", "/simulator/requests":
                return _json(self._recorder.last(_last(request.target)))
            case "GET", "/simulator/faults":
                return self._rules()
            case "POST", "/simulator/faults":
                self._set(request.body)
                return self._rules()
            case "POST", "/simulator/limits":
                rpm, tpm = _limits_of(request.body)
                self._limits.change(rpm, tpm, monotonic())
                return _json({"rpm": rpm, "tpm": tpm})
            case _:
                return None

    def _rules(self) -> Reply:
        return _json({"faults": [rule.text for rule in self._faults.rules]})

    def _set(self, body: bytes) -> None:
        try:
            self._faults.set(_rules_of(body))
        except UsageError as error:
            raise invalid(str(error), param="faults") from error


def _limits_of(body: bytes) -> tuple[int | None, int | None]:
    """Requests and tokens a minute; one that is missing, null or 0 is none."""
    value = _object(body)
    rpm, tpm = value.get("rpm"), value.get("tpm")
    if not all(limit is None or (isinstance(limit, int) and limit >= 0) for limit in (rpm, tpm)):
        raise invalid('{"rpm": N, "tpm": N} is needed', param="rpm")
    return rpm, tpm


def _object(body: bytes) -> dict[str, Any]:
    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    return value if isinstance(value, dict) else {}


def _rules_of(body: bytes) -> list[str]:
    rules = _object(body).get("faults")
    if not isinstance(rules, list) or not all(isinstance(rule, str) for rule in rules):
        raise invalid('{"faults": ["KIND=RATE", …]} is needed', param="faults")
    return rules


def _last(target: str) -> int:
    values = parse_qs(target.partition("?")[2]).get("last", ["1"])
    if not values[-1].isdigit():
        raise invalid("last is the number of requests", param="last")
    return int(values[-1])


def _json(value: Any) -> Reply:
    return Reply(200, orjson.dumps(value))
