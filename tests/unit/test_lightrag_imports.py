"""What importing the drop-in costs, and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("celery", "sqlalchemy", "lightrag", "kombu", "redis", "tiktoken")


def test_importing_it_loads_neither_celery_nor_sqlalchemy_nor_lightrag() -> None:
    names = ("openai", "binding_options", "utils")
    program = "; ".join(f"import corpusmill.lightrag.{name}" for name in names)
    program += f"; import sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_every_name_of_lightrags_module_that_programs_use_is_there() -> None:
    from corpusmill.lightrag import openai

    wanted = {
        *("create_openai_async_client", "openai_complete_if_cache", "openai_complete", "gpt_4o_complete"),
        *("gpt_4o_mini_complete", "nvidia_openai_complete", "openai_embed", "azure_openai_complete_if_cache"),
        *("azure_openai_complete", "azure_openai_embed", "InvalidResponseError"),
    }
    assert wanted <= set(openai.__all__)
