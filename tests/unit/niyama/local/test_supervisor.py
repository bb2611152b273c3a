"""Starting again what dies, and giving up."""

import asyncio

import pytest

from niyama.local import supervisor
from niyama.local.errors import ChildDiedError, LocalStackError
from niyama.local.process import Child
from niyama.local.supervisor import GIVE_UP_AFTER_DEATHS, Notice, keep_running


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.0)


class Dying:
    """A part whose starts follow a script: "fails", "refuses", or lives until `die`."""

    child: Child
    address = "here"

    def __init__(self, *starts: str) -> None:
        self._starts = list(starts)
        self.stops = 0
        self.child = self  # type: ignore[assignment]
        self.die = asyncio.Event()

    async def start(self) -> None:
        match self._starts.pop(0) if self._starts else "lives":
            case "fails":
                raise _death()
            case "refuses":
                raise LocalStackError("the port is in use")
            case "dies later":
                self.die.set()

    async def stop(self) -> None:
        self.stops += 1

    async def wait(self) -> int:
        await self.die.wait()
        self.die.clear()
        return 1

    def check_alive(self) -> None:
        raise _death()


def _death() -> ChildDiedError:
    return ChildDiedError("it", 1, "no such model", "it.log")


async def run(part: Dying) -> tuple["asyncio.Task[None]", list[Notice]]:
    """Run until it has settled: dead for good, or alive."""
    notices: list[Notice] = []
    keeping = keep_running("it", part, ready=asyncio.Event(), notify=notices.append)
    task = asyncio.create_task(keeping)
    for _ in range(50):
        await asyncio.sleep(0)
    return task, notices


async def test_what_dies_at_start_is_started_again_with_a_notice() -> None:
    task, notices = await run(Dying("fails", "lives"))
    assert [notice.state for notice in notices] == ["starting", "died", "starting", "ready"]
    assert "no such model" in notices[1].detail
    task.cancel()


async def test_gives_up_after_repeated_deaths_with_the_log_excerpt() -> None:
    part = Dying(*["fails"] * 10)
    task, notices = await run(part)
    with pytest.raises(ChildDiedError, match="no such model"):
        task.result()
    assert [notice.state for notice in notices].count("starting") == GIVE_UP_AFTER_DEATHS
    assert part.stops == GIVE_UP_AFTER_DEATHS  # each time, for what it may have left behind


async def test_quick_deaths_after_becoming_ready_count_too() -> None:
    task, _ = await run(Dying(*["dies later"] * 10))
    with pytest.raises(ChildDiedError):
        task.result()


async def test_deaths_long_after_start_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STABLE_AFTER_S", -1.0)
    task, notices = await run(Dying(*["dies later"] * 5, "lives"))
    assert [notice.state for notice in notices].count("ready") == 6
    assert not task.done()
    task.cancel()


async def test_a_start_that_no_repetition_mends_ends_it_immediately() -> None:
    task, notices = await run(Dying("refuses", "lives"))
    with pytest.raises(LocalStackError, match="the port is in use"):
        task.result()
    assert [notice.state for notice in notices] == ["starting"]
