"""The supervisor's process. It leaves its starter at once: own session, own children, no inherited descriptors."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Become a process of nobody's, then run until nobody needs it."""
    if os.fork():
        # The starter waits for this one only, so that it is left with no child and no zombie.
        os._exit(0)
    os.setsid()
    os.umask(0o077)
    sys.exit(serve())


def serve() -> int:
    """Hold the lock and run; when another holds it, that one serves."""
    import asyncio
    import logging

    from corpusmill import logs
    from corpusmill.embedded import lock
    from corpusmill.embedded.place import prepare
    from corpusmill.embedded.starter import say_decided
    from corpusmill.embedded.supervisor import Supervisor
    from corpusmill.settings import Settings

    logs.to_stderr(level=logging.INFO)
    logs.take_over()
    logging.getLogger("alembic").setLevel(logging.WARNING)
    settings = Settings.load()
    place = prepare(settings)
    held = lock.take(place.lock, within_s=2.0)
    if held is None:
        return 0
    say_decided()

    async def run() -> None:
        with place.log.open("ab") as log_file:
            await Supervisor(settings, place, held, log_file).run()

    asyncio.run(run())
    return 0


main()
