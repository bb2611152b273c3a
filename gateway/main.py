"""`niyama gateway`."""

import asyncio
import logging
import os

import uvloop

from gateway.bootstrap import build, listen
from gateway.settings import GatewaySettings
from niyama.logs import configure_logging

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Run the gateway until SIGTERM or SIGINT. Raises NiyamaError with a sentence for people."""
    settings = GatewaySettings.from_command_line(arguments, "niyama gateway")
    configure_logging(settings.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if not runner.run(_serve(settings)):
            # The runner would wait for what is left, which waits for a dead Kafka or Postgres.
            logging.shutdown()
            os._exit(0)
    return 0


async def _serve(settings: GatewaySettings) -> bool:
    """Returns whether nothing is left that still waits."""
    listener = listen(settings)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    log.info("API at http://%s:%d, documented at /docs", shown, port)
    return await build(settings).run(listener)
