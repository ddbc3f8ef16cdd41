"""LightRAG's tokeniser without the network: the rank files that tiktoken would download, from those shipped here."""

from __future__ import annotations

import gzip
import hashlib
import os
import tempfile
from importlib import resources
from pathlib import Path

_VARIABLE = "TIKTOKEN_CACHE_DIR"
_URL = "https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
_NAMES = ("o200k_base", "cl100k_base")


def tiktoken_offline(folder: Path | None = None) -> None:
    """Unpack the ranks into `folder`, once, and let tiktoken find them; a TIKTOKEN_CACHE_DIR that is set stays.

    Call it before LightRAG makes its tokeniser. `folder` None: `corpusmill/tiktoken` in the user's cache folder.
    """
    if os.environ.get(_VARIABLE):
        return
    if folder is None:
        import platformdirs

        folder = platformdirs.user_cache_path("corpusmill") / "tiktoken"
    folder.mkdir(parents=True, exist_ok=True)
    for name in _NAMES:
        _unpack(name, folder / hashlib.sha1(_URL.format(name=name).encode(), usedforsecurity=False).hexdigest())
    os.environ[_VARIABLE] = str(folder)


def _unpack(name: str, path: Path) -> None:
    if path.exists():
        return
    packed = resources.files("corpusmill") / "ranks" / f"{name}.tiktoken.gz"
    # Under another name first: a process that looks meanwhile sees nothing, or all of it.
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(gzip.decompress(packed.read_bytes()))
    Path(file.name).replace(path)
