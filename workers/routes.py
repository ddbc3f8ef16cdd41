"""Which lane and stream a claimed shard belongs to; both are kept between shards, with what they have learnt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from corpusmill.endpoint import Endpoint
from corpusmill.ledger.records import JobRun, ShardRef
from corpusmill.limits import Limiter
from corpusmill.llm.pool import ClientPool
from workers import keyring
from workers.completions import Completions, Requests
from workers.dispatch import Dispatch
from workers.embeddings import Embeddings
from workers.lane import Lane
from workers.outlets import InPacks, Outlet, Singly
from workers.rules import Rules
from workers.stream import Stream
from workers.turns import Reserve, Turns
from workers.work import Work

# Streams without a shard are forgotten when there are more than these.
KEPT = 64


@dataclass(frozen=True, slots=True)
class Route:
    """A stream and how its units are sent."""

    stream: Stream
    outlet: Outlet


class Routes:
    """Lanes and streams of this process. Used on the loop only. `own_turns`, `shared_turns`: see `Turns`."""

    def __init__(
        self,
        dispatch: Dispatch,
        clients: ClientPool,
        limiter: Limiter,
        *,
        salt: bytes,
        own_turns: int,
        shared_turns: int,
    ) -> None:
        self._dispatch, self._clients, self.limiter = dispatch, clients, limiter
        self._salt, self._own_turns, self._reserve = salt, own_turns, Reserve(shared_turns)
        self.rules = Rules()
        self._lanes: dict[keyring.Lane, Lane] = {}
        self._routes: dict[Hashable, Route] = {}

    def lane(self, run: JobRun, endpoints: Sequence[Endpoint]) -> Lane:
        """The lane of a job, open on these endpoints: that the job could be claimed means that it may go on."""
        key = (run.spec.endpoint, run.key_fingerprint)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key, self._salt, self._clients, self.limiter, self.rules)
        lane.open(endpoints)
        return lane

    def heed(self, endpoints: Callable[[keyring.Lane], Sequence[Endpoint]]) -> None:
        """Providers were handed over, or rules set, perhaps with other limits: these hold for running shards, too."""
        for key, lane in self._lanes.items():
            lane.heed(endpoints(key))

    def route(self, run: JobRun, lane: Lane, *, trial: ShardRef | None = None) -> Route:
        """The stream of a job, and its outlet; a shard on trial has its own. A stopped stream begins anew."""
        key = (_stream_of(run, lane.key), trial)
        route = self._routes.get(key)
        if route is None or route.stream.lane is not lane:
            self._forget()
            route = self._routes[key] = self._new(run, lane)
        return route

    async def answers(self, endpoints: Sequence[Endpoint]) -> bool:
        """Whether anybody answers at one of these endpoints; asking costs nothing."""
        return any(await asyncio.gather(*(self._clients.client(endpoint).answers() for endpoint in endpoints)))

    def shut(self) -> list[str]:
        """Why members of lanes are left out here, one reason a member."""
        return [member.shut for lane in self._lanes.values() for member in lane.members if member.shut]

    def streams(self) -> list[Stream]:
        """All streams, those without shards too."""
        return [route.stream for route in self._routes.values()]

    def drop(self, stream: Stream) -> None:
        """Forget what a stream has learnt: its jobs were stopped or paused, and may come back changed."""
        for key, route in list(self._routes.items()):
            if route.stream is stream:
                del self._routes[key]

    def _new(self, run: JobRun, lane: Lane) -> Route:
        spec = run.spec
        stream = Stream(lane, spec.model, run.priority, Turns(self._own_turns, self._reserve))
        if spec.kind == "embedding":
            packs = InPacks(self._dispatch, stream, Embeddings(spec), share=run.max_share or 1.0)
            return Route(stream, packs)
        work: Work = Requests(spec) if spec.kind == "request" else Completions(spec)
        return Route(stream, Singly(self._dispatch, stream, work))

    def _forget(self) -> None:
        if len(self._routes) >= KEPT:
            self._routes = {key: route for key, route in self._routes.items() if route.stream.shards}


def _stream_of(run: JobRun, lane: keyring.Lane) -> Hashable:
    """What shares a stream: embedding jobs whose packs look alike, with no budget or share to keep; else one job."""
    spec = run.spec
    if spec.kind == "embedding" and not run.budget and run.max_share is None:
        return lane, spec.path, spec.model, spec.dimensions, run.priority
    return lane, run.id
