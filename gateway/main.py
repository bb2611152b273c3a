"""``niyama gateway``."""

import asyncio
import logging

import uvloop

from gateway.process import Gateway, listen
from gateway.settings import GatewaySettings


def main(arguments: list[str]) -> int:
    """Run the gateway until SIGTERM or SIGINT. Raises NiyamaError with a sentence for people."""
    settings = GatewaySettings.from_command_line(arguments, "niyama gateway")
    configure_logging(settings.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings))
    return 0


async def _serve(settings: GatewaySettings) -> None:
    listener = listen(settings)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    logging.getLogger(__name__).info("API at http://%s:%d, documented at /docs", shown, port)
    await Gateway(settings).run(listener)


def configure_logging(level: str) -> None:
    """To stderr. Libraries repeat themselves while a broker is away; our own notices tell it."""
    logging.basicConfig(
        level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    if level != "DEBUG":
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
