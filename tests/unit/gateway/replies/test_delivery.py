"""A topic's turn."""

from collections.abc import Sequence
from uuid import uuid4

import pytest

from gateway.replies import delivery
from gateway.replies.delivery import BATCH_REPLIES, BATCHES_PER_TURN, Deliveries
from gateway.replies.waiting import Reply
from gateway.settings import GatewaySettings

TOPIC = "niyama-replies.answers"


class FakeOutbox:
    """Rows of replies that were sent, and behind them one that was not."""

    def __init__(self, sent: int) -> None:
        self.already_sent = sent
        self.waiting = [Reply(uuid4(), TOPIC, b"new", ())]

    async def drop_sent(self, topic: str, limit: int) -> bool:
        dropped = min(limit, self.already_sent)
        self.already_sent -= dropped
        return dropped > 0

    async def due(self, topic: str, noted: tuple[str, int], limit: int) -> list[Reply]:
        return [] if self.already_sent else self.waiting[:limit]

    async def sent(self, topic: str, replies: Sequence[Reply]) -> None:
        del self.waiting[: len(replies)]


class FakeSentLog:
    noted = ("replies-sent", 0)

    async def catch_up(self) -> None:
        pass

    def remember(self, job_ids: object) -> None:
        pass

    def remembers_any(self, job_ids: object) -> bool:
        return False


class FakeLane:
    """Takes everything."""

    def __init__(self, settings: GatewaySettings, topic: str) -> None:
        pass

    async def open(self) -> None:
        pass

    async def send(self, replies: Sequence[Reply]) -> None:
        pass

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("sent", "still_waiting"),
    [
        (0, 0),
        ((BATCHES_PER_TURN - 1) * BATCH_REPLIES, 0),
        # The rest of them, and what comes behind, is for another turn.
        (BATCHES_PER_TURN * BATCH_REPLIES, 1),
    ],
)
async def test_a_turn_goes_on_past_replies_that_were_sent(
    sent: int, still_waiting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "Lane", FakeLane)
    outbox = FakeOutbox(sent)
    settings = GatewaySettings(database_url="postgresql:///niyama")
    await Deliveries(settings, outbox, FakeSentLog()).serve(TOPIC)
    assert len(outbox.waiting) == still_waiting
