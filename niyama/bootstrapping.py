"""Finding a broker among the bootstrap servers, of which one may be frozen."""

from aiokafka.client import AIOKafkaClient

SERVER_TIMEOUT_MS = 1_500
"""For each step of connecting to one of several servers. A frozen one still accepts connections."""


def pass_over_frozen_servers(client: AIOKafkaClient) -> None:
    """Let `client` go on to the next bootstrap server soon when one does not answer.

    aiokafka gives each of them the time of a request: 40 s by default, and two minutes for our
    producers. All other requests of `client`, and a server that is the only one, keep that time.
    """
    bootstrap, request_timeout_ms = client.bootstrap, client._request_timeout_ms

    async def impatient() -> None:
        if len(client.hosts) > 1:
            client._request_timeout_ms = min(SERVER_TIMEOUT_MS, request_timeout_ms)
        try:
            await bootstrap()
        finally:
            client._request_timeout_ms = request_timeout_ms

    client.bootstrap = impatient
