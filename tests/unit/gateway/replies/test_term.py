"""What the relay looks at while it holds the lease."""

import asyncio

from gateway.replies.term import POLL_INTERVAL_S, TOPICS_PER_SCAN, Term
from gateway.replies.waiting import WaitingTopic
from tests.support.virtual_time import run_in_virtual_time

GOOD = "sorts-behind-the-others"


class FakeOutbox:
    """Replies to many topics that fail, and to one that works."""

    def __init__(self, failing: int) -> None:
        names = [f"fails-{number:06}" for number in range(failing)]
        self._topics = [WaitingTopic(name, failing=True, due=False) for name in names]
        self._topics.append(WaitingTopic(GOOD, failing=False, due=True))

    async def topics(self, after: str, limit: int) -> list[WaitingTopic]:
        return [topic for topic in self._topics if topic.name > after][:limit]

    async def forget_idle_topics(self) -> None:
        pass


class FakeSentLog:
    async def is_current(self) -> bool:
        return True

    async def catch_up(self) -> None:
        pass

    async def forget(self) -> None:
        pass


class FakeDeliveries:
    """Notes when which topic was served."""

    def __init__(self) -> None:
        self.served: dict[str, float] = {}

    async def serve(self, topic: str) -> None:
        self.served.setdefault(topic, asyncio.get_running_loop().time())
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass


async def served(failing: int) -> dict[str, float]:
    deliveries = FakeDeliveries()
    term = Term(FakeOutbox(failing), FakeSentLog(), deliveries)
    asyncio.get_running_loop().call_later(60, term.stop)
    await term.run()
    return deliveries.served


def test_a_topic_that_works_does_not_wait_for_a_look_at_thousands_that_fail() -> None:
    assert run_in_virtual_time(served(20 * TOPICS_PER_SCAN))[GOOD] < POLL_INTERVAL_S
