"""LiteLLM's Router: one deployment, three retries; routing by usage where it is told a limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import litellm

from benchmarks.peers.work import KEY, Work, each_of, main, message

RETRIES = 3


def router(work: Work) -> Any:
    """A Router with our endpoint under the model's own name."""
    deployment: dict[str, Any] = {"model": f"openai/{work.model}", "api_base": work.base_url, "api_key": KEY}
    if not work.rpm:
        return litellm.Router([{"model_name": work.model, "litellm_params": deployment}], num_retries=RETRIES)
    told = {**deployment, "rpm": work.rpm, "tpm": work.tpm}
    deployments = [{"model_name": work.model, "litellm_params": told}]
    return litellm.Router(deployments, routing_strategy="usage-based-routing-v2", num_retries=RETRIES)


async def run(work: Work, texts: Sequence[str]) -> int:
    """Answer all texts."""
    litellm.telemetry = False
    litellm.suppress_debug_info = True
    route = router(work)

    async def chat(text: Any) -> int:
        reply = await route.acompletion(model=work.model, messages=message(text))
        return int(bool(reply.choices[0].message.content))

    async def embed(pack: Any) -> int:
        return len((await route.aembedding(model=work.model, input=pack)).data)

    if work.kind == "chat":
        return await each_of(texts, work.in_flight, chat)
    return await each_of(list(work.packs(texts)), work.in_flight, embed)


if __name__ == "__main__":
    main(run)
