"""A script such as many teams have: the approach of the OpenAI cookbook's parallel request processor, in our own words.

One loop looks once a millisecond whether this minute's requests and tokens leave room for the next request, starts it
as a task, and appends each answer to a JSONL file. A failed request goes to the back of the queue, five times at
most; after a 429 the whole loop stands still for 15 seconds. Nothing is resumed.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.peers.work import KEY, Work, main, message
from corpusmill.tokens import encoding_for

LOOK_EVERY_S, PAUSE_S, ATTEMPTS, ANSWER_TOKENS = 0.001, 15.0, 5, 15
PATHS = {"chat": "/chat/completions", "embeddings": "/embeddings"}


@dataclass(slots=True)
class _Request:
    body: dict[str, Any]
    chunks: int
    tokens: int
    attempts_left: int = ATTEMPTS


@dataclass(slots=True)
class _Script:
    work: Work
    session: aiohttp.ClientSession
    out: Path
    queue: deque[_Request]
    again: deque[_Request] = field(default_factory=deque)
    running: int = 0
    answered: int = 0
    refused_at: float = -PAUSE_S

    async def go(self) -> int:
        rpm, tpm = self.work.rpm or 10**9, self.work.tpm or 10**12
        requests, tokens, looked = float(rpm), float(tpm), time.time()
        tasks: set[asyncio.Task[None]] = set()
        while self.queue or self.again or self.running:
            now = time.time()
            requests = min(rpm, requests + rpm * (now - looked) / 60)
            tokens = min(tpm, tokens + tpm * (now - looked) / 60)
            looked = now
            waiting = self.again or self.queue
            if waiting and requests >= 1 and tokens >= waiting[0].tokens:
                request = waiting.popleft()
                requests, tokens, self.running = requests - 1, tokens - request.tokens, self.running + 1
                tasks.add(task := asyncio.create_task(self._send(request)))
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(LOOK_EVERY_S)
            if (since := time.time() - self.refused_at) < PAUSE_S:
                await asyncio.sleep(PAUSE_S - since)
        return self.answered

    async def _send(self, request: _Request) -> None:
        request.attempts_left -= 1
        try:
            url = self.work.base_url + PATHS[self.work.kind]
            async with self.session.post(url, json=request.body) as response:
                reply = await response.json()
            if "error" in reply:
                if response.status == 429:
                    self.refused_at = time.time()
                raise RuntimeError(reply["error"].get("message"))
        except (aiohttp.ClientError, RuntimeError, OSError):
            if request.attempts_left:
                self.again.append(request)
        else:
            with self.out.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps([request.body, reply]) + "\n")
            self.answered += request.chunks
        finally:
            self.running -= 1


async def run(work: Work, texts: Sequence[str]) -> int:
    """Answer all texts."""
    count = encoding_for(work.model).count
    if work.kind == "chat":
        bodies = [({"model": work.model, "messages": message(text)}, 1, count(text) + ANSWER_TOKENS) for text in texts]
    else:
        bodies = [
            ({"model": work.model, "input": pack}, len(pack), sum(map(count, pack))) for pack in work.packs(texts)
        ]
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session:
        return await _Script(work, session, work.fresh_folder() / "out.jsonl", deque(_Request(*b) for b in bodies)).go()


if __name__ == "__main__":
    main(run)
