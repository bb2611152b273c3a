"""A Postgres connection that several tasks share."""

import asyncio
from collections.abc import Sequence

import asyncpg


class Session:
    """Runs one statement at a time; the others wait. Raises what asyncpg raises."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._turn = asyncio.Lock()

    async def fetch(self, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
        async with self._turn:
            rows: list[asyncpg.Record] = await self._connection.fetch(statement, *arguments)
            return rows

    async def execute(self, statement: str, *arguments: object) -> str:
        """Returns the command's tag, such as `DELETE 3`."""
        async with self._turn:
            return str(await self._connection.execute(statement, *arguments))
