"""A process with an engine of its own, that tests can interrupt and kill.

For each line on standard input, a JSON object of prompts, it prints the generated tokens, the names
in the order in which first and last tokens came, and what the policy knows of drafts.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.engine.port import GenerationUpdate


async def main() -> None:
    from workers.engine.port import EngineDead, GenerationRequest
    from workers.policy.qos import RequestQos
    from workers.runtime.engine.sglang_engine import SglangEngine

    def interrupted() -> None:
        say("interrupted")

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupted)
    loop.add_signal_handler(signal.SIGTERM, interrupted)
    hang_limit_s = float(os.environ.get("NIYAMA_HANG_LIMIT_S", "60"))
    engine = SglangEngine(sys.argv[1], "tiny", sys.argv[2:], hang_limit_s=hang_limit_s)
    await engine.start()

    async def generate(request_id: str, prompt: list[int], order: list[str]) -> list[int]:
        is_chat = request_id.startswith("chat")
        await asyncio.sleep(0.3 if is_chat else 0)
        now_s = time.time()
        qos = RequestQos.batch(now_s, ttlt_s=600)
        if is_chat:
            qos = RequestQos.interactive(now_s, ttft_s=5.0, tbt_s=0.1)
        if request_id == "late":
            qos = RequestQos.batch(now_s - 10, ttlt_s=610, expire_after_s=5)
        sampling = {"temperature": 0, "max_tokens": 12, "ignore_eos": True}
        request = GenerationRequest(request_id, qos, input_ids=prompt, sampling=sampling)
        return await collected(engine.generate(await engine.prepare(request)), request_id, order)

    async def watch() -> None:
        try:
            async for _ in engine.decisions():
                pass
        except EngineDead as error:
            say("dead", error)

    watching = asyncio.create_task(watch())
    say("ready", *engine._running.runtime.get_all_child_pids())
    while line := await asyncio.to_thread(sys.stdin.readline):
        prompts = json.loads(line)
        order: list[str] = []
        generated = await asyncio.gather(*(generate(*item, order) for item in prompts.items()))
        (state,) = await engine._running.manager.get_internal_state()
        said = {
            "tokens": dict(zip(prompts, generated, strict=True)),
            "order": order,
            "tokens_per_step": state["niyama"]["tokens_per_step"],
        }
        say(json.dumps(said))
    await engine.close()
    await watching


async def collected(
    updates: "AsyncIterator[GenerationUpdate]", name: str, order: list[str]
) -> list[int]:
    tokens: list[int] = []
    async for update in updates:
        if not tokens:
            order.append(f"first of {name}")
        tokens += update.token_ids
    order.append(f"last of {name}")
    return tokens


def say(*words: object) -> None:
    print(*words, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
