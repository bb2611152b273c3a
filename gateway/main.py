"""`niyama gateway`."""

import asyncio
import logging
import os
import resource

import uvloop

from gateway.bootstrap import build, listen
from gateway.settings import GatewaySettings
from niyama import garbage
from niyama.log_lines import secrets_of
from niyama.logs import configure_logging, log_uncaught_errors

log = logging.getLogger(__name__)

MAX_FILES = 65_536


def main(arguments: list[str]) -> int:
    """Run the gateway until SIGTERM or SIGINT. Raises NiyamaError with a sentence for people."""
    settings = GatewaySettings.from_command_line(arguments, "niyama gateway")
    garbage.search_less_often()
    configure_logging(settings.log_level, settings.log_format, secrets_of(settings))
    log_uncaught_errors()
    _allow_many_connections()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if not runner.run(_serve(settings)):
            # The runner would wait for what is left, which waits for a dead Kafka or Postgres.
            logging.shutdown()
            os._exit(0)
    return 0


def _allow_many_connections() -> None:
    """Each client that follows a job holds one; shells and systemd allow 1,024 unless asked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _serve(settings: GatewaySettings) -> bool:
    """Returns whether nothing is left that still waits."""
    listener = listen(settings)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    log.info("API at http://%s:%d, documented at /docs", shown, port)
    process = build(settings)
    garbage.leave_out_what_exists()
    return await process.run(listener)
