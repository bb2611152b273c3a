"""A TCP proxy that can fall silent, as a network does that drops packets, or a frozen server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from niyama.local.ports import LOOPBACK


class StallingProxy:
    """Forwards connections to a Unix socket while `flowing` is set. It always accepts them."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._pumps: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.flowing = asyncio.Event()
        self.flowing.set()

    @property
    def address(self) -> str:
        assert self._server is not None
        return f"{LOOPBACK}:{self._server.sockets[0].getsockname()[1]}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await asyncio.open_unix_connection(self._upstream)
        for source, target in ((reader, upstream[1]), (upstream[0], writer)):
            pump = asyncio.create_task(self._pump(source, target))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError), contextlib.closing(target):
            while data := await source.read(65536):
                await self.flowing.wait()
                target.write(data)
            await self.flowing.wait()


@asynccontextmanager
async def stalling_proxy(upstream: str) -> AsyncIterator[StallingProxy]:
    """A running proxy in front of the Unix socket `upstream`."""
    proxy = StallingProxy(upstream)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
