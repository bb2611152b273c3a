"""Stock SGLang against SGLang with Niyama's scheduler, on the same mixed workload.

Long batch prompts are queued; chats arrive while they are served. Two ``sglang.launch_server``
of the same arguments run all the time and take the workload in turn, so that a drift of the
machine meets both. ``python tests/benchmarks/scheduling.py``
"""

import asyncio
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from figures import console, milliseconds, percentile, show
from servers import NIYAMA_PLUGINS, STOCK_PLUGINS, Generation, generate, sglang_server

from workers.runtime.tiny_model import make_tiny_model

ROUNDS = 3
BATCH_JOBS, BATCH_TOKENS = 6, 1_500
CHATS, CHAT_TOKENS, CHAT_INTERVAL_S = 20, 120, 0.25
OUTPUT_TOKENS = 24


@dataclass(frozen=True, slots=True)
class Outcome:
    chat_ttft_s: list[float]
    total_s: float


async def workload(url: str, seed: int) -> Outcome:
    """Publish the batch, then the chats at their times; return when all are done."""
    choose = random.Random(seed)

    def text(tokens: int) -> str:
        return "".join(choose.choices("abcdefghij ", k=tokens))

    batch = [text(BATCH_TOKENS) for _ in range(BATCH_JOBS)]
    chats = [text(CHAT_TOKENS) for _ in range(CHATS)]
    start_s = time.perf_counter()
    async with httpx.AsyncClient(trust_env=False) as client:

        async def chat(number: int) -> Generation:
            await asyncio.sleep(CHAT_INTERVAL_S * (number + 1))
            qos = {"ttft_ms": 1000.0, "tbt_ms": 100.0}
            return await generate(client, url, chats[number], OUTPUT_TOKENS, qos)

        async with asyncio.TaskGroup() as tasks:
            for prompt in batch:
                tasks.create_task(generate(client, url, prompt, OUTPUT_TOKENS, {"ttlt_s": 600.0}))
            answers = [tasks.create_task(chat(number)) for number in range(CHATS)]
    return Outcome([answer.result().ttft_s for answer in answers], time.perf_counter() - start_s)


async def main() -> None:
    outcomes: dict[str, list[Outcome]] = {"stock SGLang": [], "with Niyama's scheduler": []}
    with tempfile.TemporaryDirectory(prefix="niyama-bench-") as folder:
        model = make_tiny_model(Path(folder) / "tiny")
        async with (
            sglang_server(model, STOCK_PLUGINS) as stock,
            sglang_server(model, NIYAMA_PLUGINS) as ours,
        ):
            urls = dict(zip(outcomes, (stock, ours), strict=True))
            for seed in range(ROUNDS + 1):  # the first round warms up
                for name, url in urls.items():
                    outcome = await workload(url, seed)
                    console.print(f"round {seed}: {name}: {outcome.total_s:.1f} s")
                    if seed > 0:
                        outcomes[name].append(outcome)
    report(outcomes)


def report(outcomes: dict[str, list[Outcome]]) -> None:
    rows = []
    for name, rounds in outcomes.items():
        ttft_s = [value for outcome in rounds for value in outcome.chat_ttft_s]
        total_s = percentile([outcome.total_s for outcome in rounds], 50)
        cells = [milliseconds(percentile(ttft_s, percent)) for percent in (50, 99)]
        rows.append([name, *cells, f"{total_s:.1f} s"])
    show(
        f"{BATCH_JOBS} batch prompts of {BATCH_TOKENS:,} tokens queued, {CHATS} chats of "
        f"{CHAT_TOKENS} arriving, {ROUNDS} rounds",
        ["", "chat TTFT p50", "chat TTFT p99", "total, median"],
        rows,
    )


if __name__ == "__main__":
    asyncio.run(main())
