"""A cluster of which some brokers are frozen: their ports accept, and nothing ever answers."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aiokafka.protocol.admin import ApiVersionResponse_v0
from aiokafka.protocol.metadata import MetadataResponse_v4

HOST = "127.0.0.1"
TOPIC = "works"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Ports of its brokers, the frozen ones first; their index is their node id."""

    ports: Sequence[int]

    @property
    def bootstrap(self) -> str:
        return ",".join(f"{HOST}:{port}" for port in self.ports)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer as a broker that has one topic with one partition."""
        try:
            while True:
                request = await reader.readexactly(int.from_bytes(await reader.readexactly(4)))
                body = request[4:8] + self._answer(int.from_bytes(request[:2]))
                writer.write(len(body).to_bytes(4) + body)
        except asyncio.IncompleteReadError:
            writer.close()

    def _answer(self, api_key: int) -> bytes:
        if api_key == ApiVersionResponse_v0.API_KEY:
            return ApiVersionResponse_v0(0, [(18, 0, 0), (3, 4, 4)]).encode()
        brokers = [(node, HOST, port, None) for node, port in enumerate(self.ports)]
        partition = (0, 0, len(brokers) - 1, [], [])
        topics = [(0, TOPIC, False, [partition])]
        return MetadataResponse_v4(0, brokers, "cluster", len(brokers) - 1, topics).encode()


@asynccontextmanager
async def cluster(frozen: int) -> AsyncIterator[Cluster]:
    """So many frozen brokers, and one that answers."""
    async with AsyncExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(frozen + 1)]
        created = Cluster([each.getsockname()[1] for each in sockets])
        server = await asyncio.start_server(created.serve, sock=sockets[-1])
        stack.callback(server.close)
        yield created
