"""Pictures for a prompt: base64, data URLs or LightRAG's dictionaries become parts of a message."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any

_DATA_URL = re.compile(r"^data:(?P<mime>[\w./+-]+);base64,(?P<data>[A-Za-z0-9+/=\s]+)$")
_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


def image_parts(images: Sequence[Any]) -> list[dict[str, Any]]:
    """Each image as an `image_url` part that holds the image itself.

    Raises:
        TypeError: an image that is neither a string nor a dictionary.
        ValueError: base64 that cannot be decoded, an empty image, or a dictionary without `base64`.
    """
    return [_part(number, image) for number, image in enumerate(images)]


def _part(number: int, image: Any) -> dict[str, Any]:
    data, mime = _data_and_mime(image)
    try:
        raw = base64.b64decode(re.sub(r"\s+", "", data), validate=True)
    except binascii.Error as error:
        raise ValueError(f"invalid base64 image data: {error}") from error
    if not raw:
        raise ValueError(f"image_inputs[{number}] decoded to empty bytes")
    url = f"data:{mime or _mime_of(raw)};base64,{base64.b64encode(raw).decode('ascii')}"
    return {"type": "image_url", "image_url": {"url": url}}


def _data_and_mime(image: Any) -> tuple[str, str | None]:
    if isinstance(image, str):
        url = _DATA_URL.match(image.strip())
        return (url["data"], url["mime"]) if url else (image, None)
    if not isinstance(image, Mapping):
        raise TypeError(f"image_inputs element must be str or dict, got {type(image).__name__}")
    if "base64" not in image:
        raise ValueError("image_inputs dict element must contain a 'base64' key")
    return image["base64"], image.get("mime_type")


def _mime_of(raw: bytes) -> str:
    if raw.startswith(b"RIFF") and raw[8:12] == b"WEBP":
        return "image/webp"
    return next((mime for start, mime in _STARTS if raw.startswith(start)), "image/png")
