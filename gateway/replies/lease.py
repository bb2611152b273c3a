"""One gateway at a time is the relay: the holder of the lease.

A lock would be held for as long as its process exists, frozen or not. A lease that is not renewed
ends. It saves work; that no reply is sent twice does not depend on it (see `relay`).
"""

import asyncio
from dataclasses import dataclass
from uuid import UUID

import asyncpg

LEASE_S = 5.0
RENEWAL_INTERVAL_S = 1.0

_NAME = "replies"
# Postgres' clock alone counts. A lease that ends later than any could has survived a clock that
# was set back.
_HOLD = """
INSERT INTO leases AS current (name, holder, expires_at)
VALUES ($1, $2, now() + make_interval(secs => $3))
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
WHERE current.holder = excluded.holder
    OR current.expires_at NOT BETWEEN now() AND now() + make_interval(secs => $3)
RETURNING true
"""
_RELEASE = "DELETE FROM leases WHERE name = $1 AND holder = $2"


@dataclass(frozen=True, slots=True)
class Lease:
    """The claim of one relay. Its connection is not shared with anyone who makes it wait."""

    connection: asyncpg.Connection
    holder: UUID

    async def hold(self) -> bool:
        """Take the lease, or renew it. Returns whether it is ours for LEASE_S from now."""
        return bool(await self.connection.fetchval(_HOLD, _NAME, self.holder, LEASE_S))

    async def release(self) -> None:
        """Let another gateway take over immediately."""
        await self.connection.execute(_RELEASE, _NAME, self.holder)

    async def keep(self) -> None:
        """Renew the lease again and again; return when another gateway has taken it."""
        while True:
            if not await self.hold():
                return
            await asyncio.sleep(RENEWAL_INTERVAL_S)
