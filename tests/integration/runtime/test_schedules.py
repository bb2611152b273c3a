"""Whatever is parked, chunked, given back or aborted: the tokens are stock SGLang's."""

import asyncio
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.runtime import Client, until
from workers.engine.port import FinishReason, NotPrepared
from workers.policy.qos import RequestQos

if TYPE_CHECKING:
    from workers.runtime.engine.sglang_engine import SglangEngine

pytestmark = pytest.mark.asyncio(loop_scope="session")


def some_qos(choose: random.Random) -> RequestQos:
    """From a chat in a hurry to a batch that has an hour; some can never be met."""
    now_s = time.time()
    importance = choose.choice(["high", "low"])
    if choose.random() < 0.5:
        tbt_s = choose.choice([0.02, 0.1, 1.0])
        return RequestQos.interactive(
            now_s, ttft_s=choose.uniform(0.05, 3), tbt_s=tbt_s, importance=importance
        )
    return RequestQos.batch(now_s, ttlt_s=choose.choice([0.5, 10, 3600]), importance=importance)


@pytest.mark.parametrize("seed", range(4))
async def test_tokens_are_stock_whatever_the_schedule(
    client: Client,
    crowd: dict[str, list[int]],
    stock_outputs: dict[str, list[int]],
    seed: int,
) -> None:
    choose = random.Random(seed)
    names = list(crowd)
    choose.shuffle(names)
    aborted = set(choose.sample(names, 4))

    async def one(name: str, at_s: float) -> tuple[list[int], FinishReason | None]:
        await asyncio.sleep(at_s)
        try:
            return await client.run(f"{seed}-{name}", some_qos(choose), input_ids=crowd[name])
        except NotPrepared:  # aborted before it had reached SGLang
            return [], FinishReason.CANCELLED

    async def abort(name: str, at_s: float) -> None:
        await asyncio.sleep(at_s)
        client.engine.abort(f"{seed}-{name}")

    times_s = [choose.uniform(0, 1.5) for _ in names]
    aborts = [
        abort(name, at_s + choose.uniform(0, 0.5))
        for name, at_s in zip(names, times_s, strict=True)
        if name in aborted
    ]
    runs = [one(name, at_s) for name, at_s in zip(names, times_s, strict=True)]
    generated, *_ = await asyncio.gather(asyncio.gather(*runs), *aborts)
    for name, (ids, reason) in zip(names, generated, strict=True):
        if reason is FinishReason.CANCELLED:
            assert name in aborted
            assert ids == stock_outputs[name][: len(ids)]
        else:
            assert ids == stock_outputs[name], f"seed {seed}, {name}"


async def test_the_engine_has_learned_what_its_iterations_take(
    engine: "SglangEngine", latency_dir: Path
) -> None:
    """The profile at start is kept, and says that larger prompts take longer."""
    from workers.latency.profiles import load_profile

    def profiles() -> list[Path]:
        return [file for file in latency_dir.glob("*.json") if ".samples" not in file.name]

    await until(lambda: bool(profiles()))
    for file in profiles():
        model = load_profile(str(file)).latency
        assert 0 < model.iteration_s(16, 0, 0, 0) < model.iteration_s(128, 0, 0, 0) < 60
