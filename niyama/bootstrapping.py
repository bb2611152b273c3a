"""Finding a broker among the bootstrap servers, of which one may be frozen."""

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError

SERVER_TIMEOUT_MS = 1_500
"""For each step of connecting to one of several servers. A frozen one still accepts connections."""
SLOW_SERVER_TIMEOUT_MS = 10_000
"""The same, once no server was as fast as that."""


def pass_over_frozen_servers(client: AIOKafkaClient) -> None:
    """Let `client` go on to the next bootstrap server soon when one does not answer.

    aiokafka gives each of them the time of a request: 40 s by default, and two minutes for our
    producers. All other requests of `client`, and a server that is the only one, keep that time.
    """
    bootstrap = client.bootstrap

    async def within(limit_ms: int) -> None:
        request_timeout_ms = client._request_timeout_ms
        client._request_timeout_ms = min(limit_ms, request_timeout_ms)
        try:
            await bootstrap()
        finally:
            client._request_timeout_ms = request_timeout_ms

    async def impatient() -> None:
        if len(client.hosts) == 1:
            await bootstrap()
            return
        try:
            await within(SERVER_TIMEOUT_MS)
        except KafkaConnectionError:
            await within(SLOW_SERVER_TIMEOUT_MS)

    client.bootstrap = impatient
