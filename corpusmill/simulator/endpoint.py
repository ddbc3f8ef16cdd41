"""One request in, one reply out: what the endpoint does between the bytes.

The order is OpenAI's: key, JSON, model, limits, the request itself; then the faults, and last the answer. A request
counts against its limits even if it turns out to be wrong.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

import orjson

from corpusmill.simulator import errors
from corpusmill.simulator.answers import answer
from corpusmill.simulator.asks import Ask, ask_for_completion, ask_for_embedding
from corpusmill.simulator.bill import Bill
from corpusmill.simulator.control import Control
from corpusmill.simulator.faults import Fault, Faults
from corpusmill.simulator.forced import forced
from corpusmill.simulator.limits import Lane, Limits
from corpusmill.simulator.messages import Pending, Reply, Request
from corpusmill.simulator.models import Models
from corpusmill.simulator.options import Options
from corpusmill.simulator.recorder import Recorder

log = logging.getLogger(__name__)

_READERS: dict[str, Callable[[str, str, dict[str, Any]], Ask]] = {
    "/chat/completions": ask_for_completion,
    "/embeddings": ask_for_embedding,
}
_UNPAID = frozenset({"hang", "reset", "html200"})


@dataclass(slots=True)
class _Admitted:
    """A request that passed its limits. `headers`: the limits as they stood then, and the request's id."""

    ask: Ask
    route: str
    lane: Lane
    charged: float
    headers: bytes
    request_id: str
    fault: Fault | None


class Endpoint:
    """The endpoint behind one base URL, without its connections."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.bill = Bill(options.paid)
        self._faults = Faults(options.faults, seed=options.seed)
        self._recorder = Recorder()
        self._models = Models(options.models)
        self._limits = Limits(options)
        self._dice = random.Random(options.seed)  # noqa: S311 (latencies are no secret)
        self._control = Control(self.bill, self._faults, self._limits, self._recorder)

    def receive(self, request: Request) -> Reply | Pending:
        """Take a request in: a reply at once, or one that takes its time."""
        path = request.target.partition("?")[0]
        if request.method == "POST":
            for route in _READERS:
                if path.endswith(route):
                    return self._paid_route(request, path, route)
        try:
            return self._control.reply(request, path) or self._list_models(request, path)
        except errors.Refused as refused:
            return Reply(refused.status, refused.body, refused.headers)

    def _list_models(self, request: Request, path: str) -> Reply:
        self._check_key(request)
        return self._models.reply(request, path)

    def _check_key(self, request: Request) -> str:
        key = request.key()
        if self.options.keys and key not in self.options.keys:
            raise errors.refusal(errors.ERROR_KINDS["invalid_key"], key=errors.masked(key))
        return key

    def _paid_route(self, request: Request, path: str, route: str) -> Reply | Pending:
        request_id = f"req_{self.bill.arrived():016x}"
        self._recorder.add(self.bill.requests, request)
        try:
            admitted = self._admit(request, path, route, request_id)
        except errors.Refused as refused:
            return self._refuse(refused, request_id)
        except Exception as error:
            return self._refuse(_broken(error), request_id)
        return Pending(self._latency_s(), partial(self._finish, admitted))

    def _latency_s(self) -> float:
        """How long an answer takes: all that are under way share what the endpoint can do."""
        crowd = self.bill.in_flight / self.options.capacity if self.options.capacity else 1.0
        return self.options.latency.draw_s(self._dice) * max(1.0, crowd)

    def _admit(self, request: Request, path: str, route: str, request_id: str) -> _Admitted:
        key = self._check_key(request)
        body = _json(request.body)
        model = self._models.checked(body.get("model"), path)
        now = monotonic()
        lane = self._limits.lane(key, model, now)
        try:
            ask = _READERS[route](key, model, body)
        except errors.Refused:
            lane.admit(0, now)
            raise
        charged = ask.charge() * self.options.charge_factor
        lane.admit(charged, now)
        headers = lane.headers()
        fault = self._faults.pick(ask)
        if fault is not None and fault.kind in errors.ERROR_KINDS:
            raise forced(fault, ask, headers, self.options.retry_after)
        return _Admitted(ask, route, lane, charged, headers + _id_line(request_id), request_id, fault)

    def _refuse(self, refused: errors.Refused, request_id: str) -> Reply:
        self.bill.refuse(refused.status)
        self.bill.left()
        return Reply(refused.status, refused.body, refused.headers + _id_line(request_id), refused.content_type)

    def _finish(self, admitted: _Admitted) -> Reply:
        ask, fault = admitted.ask, admitted.fault
        kind = fault.kind if fault else None
        if kind != "hang":
            self.bill.left()
        if kind in _UNPAID:
            return Reply(200, errors.HTML, admitted.headers, b"text/html", fault=fault)
        try:
            made = answer(ask, dimensions=self.options.dimensions, fault=kind)
        except Exception as error:
            refused = _broken(error)
            self.bill.refuse(refused.status)
            return Reply(refused.status, refused.body, admitted.headers)
        if self.options.charge == "actual":
            used = (made.prompt_tokens + made.completion_tokens) * self.options.charge_factor
            admitted.lane.give_back(admitted.charged - used)
        self.bill.pay(
            digests=made.digests,
            prompt_tokens=made.prompt_tokens,
            completion_tokens=made.completion_tokens,
            request_id=admitted.request_id,
            route=admitted.route,
            model=ask.model,
            fault=kind,
        )
        return Reply(200, made.body, admitted.headers, events=made.events, fault=fault)


def _broken(error: Exception) -> errors.Refused:
    # A request odd enough to find a hole in the simulator gets an answer too: a client must not wait for ever.
    log.error("the simulator cannot answer this request", exc_info=error)
    return errors.refusal(errors.ERROR_KINDS["server_error"])


def _id_line(request_id: str) -> bytes:
    return b"x-request-id: %b\r\n" % request_id.encode()


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise errors.invalid("We could not parse the JSON body of your request.")
    return value
