"""A process with an engine of its own, that tests can interrupt and kill.

For each line on standard input, a JSON object with `prompts` and `chats_after_s`, it prints the
generated tokens, where the time of each request went, and what the policy knows of drafts. From
then on `NIYAMA_HANG_LIMIT_S` is how long the engine may be silent.
"""

import asyncio
import json
import os
import signal
import sys
import time
from typing import NamedTuple

from workers.engine.port import EngineDead, GenerationRequest, PreparedRequest
from workers.policy.account import EngineTimes
from workers.policy.qos import RequestQos


class Answer(NamedTuple):
    tokens: list[int]
    times: EngineTimes | None


async def main() -> None:
    from workers.runtime.engine.sglang_engine import SglangEngine

    def interrupted() -> None:
        say("interrupted")

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupted)
    loop.add_signal_handler(signal.SIGTERM, interrupted)
    engine = SglangEngine(sys.argv[1], "tiny", sys.argv[2:])
    await engine.start()

    async def prepare(request_id: str, prompt: list[int]) -> PreparedRequest:
        sampling = {"temperature": 0, "max_tokens": 12, "ignore_eos": True}
        qos = qos_of(request_id, time.time())
        request = GenerationRequest(request_id, qos, input_ids=prompt, sampling=sampling)
        return await engine.prepare(request)

    async def generate(prepared: PreparedRequest, after_s: float) -> Answer:
        await asyncio.sleep(after_s)
        tokens: list[int] = []
        async for update in engine.generate(prepared):
            tokens += update.token_ids
        return Answer(tokens, update.engine_times)

    async def watch() -> None:
        try:
            async for _ in engine.decisions():
                pass
        except EngineDead as error:
            say("dead", error)

    watching = asyncio.create_task(watch())
    say("ready", *engine._running.runtime.get_all_child_pids())
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked = json.loads(line)
        # Chats that wait for nothing are sent first.
        names = sorted(asked["prompts"], key=is_chat, reverse=True)
        requests = [await prepare(name, asked["prompts"][name]) for name in names]
        after_s = [asked["chats_after_s"] if is_chat(name) else 0.0 for name in names]
        answers = await asyncio.gather(*map(generate, requests, after_s))
        (state,) = await engine._running.manager.get_internal_state()
        said = {
            "tokens": {name: answer.tokens for name, answer in zip(names, answers, strict=True)},
            "times": {name: answer.times for name, answer in zip(names, answers, strict=True)},
            "tokens_per_step": state["niyama"]["tokens_per_step"],
        }
        say(json.dumps(said))
        if (limit_s := os.environ.get("NIYAMA_HANG_LIMIT_S")) is not None:
            engine._running.watchdog.limit_s = float(limit_s)
    await engine.close()
    await watching


def qos_of(name: str, now_s: float) -> RequestQos:
    if is_chat(name):
        return RequestQos.interactive(now_s, ttft_s=5.0, tbt_s=0.1)
    if name == "late":
        return RequestQos.batch(now_s - 10, ttlt_s=610, expire_after_s=5)
    return RequestQos.batch(now_s, ttlt_s=600)


def is_chat(name: str) -> bool:
    return name.startswith("chat")


def say(*words: object) -> None:
    print(*words, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
