"""Server-sent events of a completion, read as they come, and put together again into a whole reply."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
import openai
import orjson

from corpusmill.lightrag.answering import Piece, pieces_of
from corpusmill.lightrag.failures import InvalidResponseError, rebuildable
from corpusmill.replies import first_choice, loads

_DATA = b"data:"
_DONE = b"[DONE]"


async def events(parts: AsyncIterator[bytes]) -> AsyncIterator[Mapping[str, Any]]:
    """The JSON objects of a stream, in order; a plain reply, of an endpoint that does not stream, is one.

    Raises:
        InvalidResponseError: an event is no JSON object.
        openai.APIError: the endpoint reports an error inside the stream.
    """
    rest = b""
    async for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if line.startswith(_DATA):
                data = line[len(_DATA) :].strip()
                if data == _DONE:
                    return
                yield _event(data)
    if rest.lstrip().startswith(b"{"):
        yield _event(rest)


def _event(data: bytes) -> Mapping[str, Any]:
    try:
        event = loads(data)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise InvalidResponseError("Invalid response from OpenAI API: an event that is not a JSON object")
    error = event.get("error")
    if error:
        message = error.get("message") if isinstance(error, dict) else None
        request = httpx2.Request("POST", "stream:")
        raise rebuildable(openai.APIError(str(message or "the endpoint broke the stream off"), request, body=error))
    return event


class Gathered:
    """What the events of one stream add up to; `headers` are those that it began with."""

    def __init__(self) -> None:
        self.headers: Mapping[str, str] = {}
        self._head: dict[str, Any] = {}
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._usage: Any = None
        self.finish_reason: str | None = None

    def add(self, event: Mapping[str, Any]) -> list[Piece]:
        """Take an event in; the pieces of the answer that it brings."""
        self._head |= {name: event[name] for name in ("id", "created", "model", "service_tier") if event.get(name)}
        self._usage = event.get("usage") or self._usage
        choice = first_choice(event)
        if choice is None:
            return []
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        pieces = pieces_of(event) if choice.get("message") else [_piece(choice.get("delta") or {})]
        for piece in pieces:
            self._content.append(piece.content)
            self._reasoning.append(piece.reasoning)
        return pieces

    @property
    def says_usage(self) -> bool:
        """Whether the endpoint told what the stream used."""
        return bool(self._usage)

    def reply(self) -> dict[str, Any]:
        """The same answer as a reply that was not streamed."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._content)}
        if any(self._reasoning):
            message["reasoning_content"] = "".join(self._reasoning)
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        reply = {**self._head, "object": "chat.completion", "choices": [choice]}
        return {**reply, "usage": self._usage} if self._usage else reply

    def texts(self) -> list[str]:
        """All that was written, reasoning included."""
        return self._content + self._reasoning

    def body(self) -> bytes:
        """That reply as bytes."""
        return orjson.dumps(self.reply())


def _piece(delta: Mapping[str, Any]) -> Piece:
    content, reasoning = delta.get("content"), delta.get("reasoning_content")
    return Piece(content if isinstance(content, str) else "", reasoning if isinstance(reasoning, str) else "")
