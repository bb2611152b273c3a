"""Keeps one part of the local stack running."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from niyama.durations import duration
from niyama.local.errors import ChildDiedError
from niyama.local.process import Child

GIVE_UP_AFTER_DEATHS = 3
STABLE_AFTER_S = 30.0
FIRST_PAUSE_S = 1.0


class Part(Protocol):
    """Something that can be started, watched and stopped."""

    @property
    def child(self) -> Child | None:
        """Its process, if it was started."""

    @property
    def address(self) -> str:
        """Where users reach it."""

    async def start(self) -> None:
        """Start it; return when it is ready. Raises LocalStackError."""

    async def stop(self) -> None:
        """End it. Safe to call in any state."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A change of a part's state, as it is shown to the user."""

    part: str
    state: Literal["starting", "ready", "died", "stopping"]
    detail: str = ""


async def keep_running(
    name: str,
    part: Part,
    *,
    ready: asyncio.Event,
    notify: Callable[[Notice], None],
) -> None:
    """Start `part` and start it again whenever it dies. Sets `ready` the first time it is.

    Never returns. Raises ChildDiedError after GIVE_UP_AFTER_DEATHS deaths in a row, each before it
    had been ready for STABLE_AFTER_S; any other error of its `start` is raised immediately.
    """
    clock = asyncio.get_running_loop().time
    deaths = 0
    while True:
        notify(Notice(name, "starting"))
        started_s, ready_since_s = clock(), None
        try:
            await part.start()
            ready_since_s = clock()
            ready.set()
            took = duration(ready_since_s - started_s)
            notify(Notice(name, "ready", f"{part.address} ({took})"))
            await _until_death(part)
        except ChildDiedError as error:
            await part.stop()  # to clear what it left behind
            stable = ready_since_s is not None and clock() - ready_since_s > STABLE_AFTER_S
            deaths = 1 if stable else deaths + 1
            if deaths >= GIVE_UP_AFTER_DEATHS:
                raise
            pause_s = FIRST_PAUSE_S * 2 ** (deaths - 1)
            notify(Notice(name, "died", f"starting it again in {pause_s:g} s. {error}"))
        await asyncio.sleep(pause_s)


async def _until_death(part: Part) -> None:
    assert part.child is not None
    await part.child.wait()
    part.child.check_alive()
