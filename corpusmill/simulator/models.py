"""Which models there are, and the routes that list them."""

from __future__ import annotations

import orjson

from corpusmill.simulator.errors import ERROR_KINDS, invalid, refusal, refused
from corpusmill.simulator.messages import Reply, Request

# Shown when any name goes.
SHOWN = (
    "gpt-6-luna",
    "gpt-6.1-terra",
    "gpt-6.1-sol",
    "gpt-4o-mini",
    "text-embedding-3-small",
    "text-embedding-3-large",
)
_CREATED = 1_767_225_600


class Models:
    """The models by name; without names every model exists."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def checked(self, model: object, path: str) -> str:
        """The model of a request; on Azure's paths it may stand in the path as the deployment.

        Raises:
            Refused: none is named, or there is none of that name.
        """
        if model is None and "/deployments/" in path:
            model = path.split("/deployments/", 1)[1].split("/", 1)[0]
        if not isinstance(model, str) or not model:
            raise invalid("you must provide a model parameter", param="model")
        if self._names and model not in self._names:
            raise refusal(ERROR_KINDS["model_not_found"], model=model)
        return model

    def reply(self, request: Request, path: str) -> Reply:
        """`GET …/models`, all of them, or `GET …/models/NAME`.

        Raises:
            Refused: there is no such route, or no such model.
        """
        _, found, name = path.partition("/models")
        if request.method != "GET" or not found or (name and not name.startswith("/")):
            raise refused(404, "invalid_request_error", None, f"Invalid URL ({request.method} {path})")
        if name.strip("/"):
            return Reply(200, orjson.dumps(_model(self.checked(name.strip("/"), path))))
        return Reply(200, orjson.dumps({"object": "list", "data": [_model(one) for one in self._names or SHOWN]}))


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "simulator"}
