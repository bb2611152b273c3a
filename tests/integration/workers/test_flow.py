"""Batch work is taken ahead of need, up to a budget; interactive work immediately."""

from schemas import EventType
from tests.support.workers import Harness


async def test_a_full_batch_budget_does_not_hold_up_interactive_jobs(harness: Harness) -> None:
    batch = [await harness.publish("gate", "q2") for _ in range(30)]
    worker = await harness.worker(max_batch_jobs=4)
    await harness.until(lambda: len(worker.engine.seen) >= 4, "the batch budget to fill")
    chat = await harness.publish("hello", "chat")
    (completed,) = await harness.until_ended(chat)
    assert completed.type is EventType.COMPLETED

    def admitted() -> int:
        return sum(EventType.ADMITTED in harness.types(job_id) for job_id in batch)

    await harness.until(lambda: admitted() >= 4, "their events")
    await harness.settle(0.3)
    assert admitted() <= 20  # one poll's worth over at most
    worker.engine.gates["gate"].set()
    await harness.until_ended(*batch)


async def test_prompt_tokens_fill_the_batch_budget_too(harness: Harness) -> None:
    batch = [await harness.publish("gate" + "x" * 4000, "q2") for _ in range(60)]
    worker = await harness.worker(max_batch_prompt_tokens=5000)
    await harness.until(lambda: len(worker.engine.seen) >= 5, "the budget to fill")
    await harness.settle(0.3)
    assert len(worker.engine.seen) <= 25
    worker.engine.gates["gate" + "x" * 4000].set()
    await harness.until_ended(*batch)
    assert all(harness.types(job_id).count(EventType.COMPLETED) == 1 for job_id in batch)
