"""The real SGLang with Niyama's scheduler in it, overlapped schedule on."""

import asyncio
import json
import os
import re
import signal
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from fastapi import HTTPException

from tests.support.runtime import (
    Client,
    batch_qos,
    chat_qos,
    flush_cache,
    prompt_tokens,
    until,
)
from workers.engine.port import (
    FinishReason,
    GenerationRequest,
    GenerationUpdate,
    InvalidRequest,
    PromptTooLong,
)
from workers.policy.decision import DecisionKind
from workers.policy.qos import RequestQos

if TYPE_CHECKING:
    from workers.runtime.engine.sglang_engine import SglangEngine

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def client(engine: "SglangEngine") -> AsyncIterator[Client]:
    client = Client(engine)
    collecting = asyncio.create_task(client.collect())
    yield client
    await until(lambda: not engine._running.manager.rid_to_state)
    await flush_cache(engine)
    collecting.cancel()


async def test_chats_overtake_batch_prompts_and_every_token_is_stock(
    client: Client,
    prompts: dict[str, list[int]],
    stock_outputs: dict[str, list[int]],
) -> None:
    async def later(name: str) -> tuple[list[int], FinishReason | None]:
        await until(lambda: "started" in client.kinds("batch-0"))
        return await client.run(name, chat_qos(), input_ids=prompts[name])

    names = list(prompts)
    jobs = [
        later(name)
        if name.startswith("chat")
        else client.run(name, batch_qos(), input_ids=prompts[name])
        for name in names
    ]
    generated = await asyncio.gather(*jobs)
    assert [ids for ids, _ in generated] == [stock_outputs[name] for name in names]
    assert client.kinds("batch-0")[:3] == ["started", "parked", "resumed"]
    reported = [d for d in client.decisions if d.request_id in prompts]
    started = [d.request_id for d in reported if d.kind is DecisionKind.STARTED]
    assert started[0] == "batch-0"
    assert all(name.startswith("chat") for name in started[1:5])


async def test_under_load_a_chats_tokens_are_shown_on_schedule(
    client: Client,
    prompts: dict[str, list[int]],
    stock_outputs: dict[str, list[int]],
) -> None:
    """The queue fills the time until it is due: the chat's tokens, early, wait for their turns.

    The queue is more than most machines compute in time, and its prompts are of all sizes: what
    cannot be met yields, and what is left fills the time of a fast machine and of a slow one.
    """
    sampling = {"max_tokens": 12, "temperature": 0, "ignore_eos": True}
    now_s, ttft_s, tbt_s = time.time(), 2.0, 0.2
    urgent = RequestQos.batch(now_s, ttlt_s=5.0)
    queue = [
        GenerationRequest(
            f"urgent-{i}",
            urgent,
            input_ids=prompt_tokens(i + 60, 160 + 32 * i),
            sampling=sampling,
        )
        for i in range(40)
    ]
    prepared = [await client.engine.prepare(request) for request in queue]
    batch = [asyncio.create_task(client.finish(request)) for request in prepared]
    await until(lambda: "started" in client.kinds("urgent-0"))
    chat = RequestQos.interactive(now_s, ttft_s=ttft_s, tbt_s=tbt_s)
    request = GenerationRequest("held", chat, input_ids=prompts["chat-0"], sampling=sampling)
    shown_s, ids = [], []
    async for update in client.engine.generate(await client.engine.prepare(request)):
        shown_s.append(time.time())
        ids += update.token_ids
    for waiting in queue:
        client.engine.abort(waiting.request_id)
    await asyncio.gather(*batch)
    assert ids == stock_outputs["chat-0"]
    assert shown_s[0] - now_s > ttft_s / 2
    # A token that a busy machine shows late shortens the gap after it. Unpaced, gaps are a tenth.
    assert min(later - earlier for earlier, later in pairwise(shown_s)) > 0.5 * tbt_s, shown_s


async def test_a_common_prefix_is_computed_once_and_every_token_is_stock(
    client: Client,
    crowd: dict[str, list[int]],
    stock_outputs: dict[str, list[int]],
) -> None:
    """Prompts of 90 tokens, of which the first 70 are the same, in iterations of 128."""
    names = [name for name in crowd if name.startswith("sibling")]
    jobs = [client.run(name, batch_qos(), input_ids=crowd[name]) for name in names]
    generated = await asyncio.gather(*jobs)
    assert [ids for ids, _ in generated] == [stock_outputs[name] for name in names]
    assert sorted(client.cached_tokens[name] for name in names) == [0, 70, 70, 70]


async def test_aborts_a_request_wherever_it_is(client: Client) -> None:
    running = asyncio.create_task(
        client.run("running", chat_qos(), max_tokens=4000, input_ids=prompt_tokens(21, 20))
    )
    await until(lambda: "running" in client.ttft_s)
    await until(lambda: (load := client.engine.load) is not None and load.decodes == 1)
    _check_load_of_one_decode(client.engine)
    jobs = {
        name: asyncio.create_task(
            client.run(name, batch_qos(), input_ids=prompt_tokens(seed, 2000))
        )
        for name, seed in (("parked", 22), ("queued", 23))
    }
    await until(lambda: "started" in client.kinds("parked"))
    chat = asyncio.create_task(client.run("chat", chat_qos(), input_ids=prompt_tokens(24, 800)))
    await until(lambda: "parked" in client.kinds("parked"))
    for name in ("parked", "queued", "running"):
        client.engine.abort(name)
    for task in (*jobs.values(), running):
        assert (await task)[1] == FinishReason.CANCELLED
    assert (await chat)[1] == FinishReason.LENGTH
    assert client.kinds("queued") == []
    assert client.kinds("parked") == ["started", "parked"]


def _check_load_of_one_decode(engine: "SglangEngine") -> None:
    """What the scheduler's process last said of itself: it does so once a second."""
    load = engine.load
    assert load is not None
    assert load.queue is not None
    assert load.used_kv_tokens is not None
    assert 0 < load.used_kv_tokens < (load.kv_tokens or 0) == 6144
    assert load.generated_tokens_per_s > 0
    assert load.queue.waiting == 0
    # Earlier tests' requests have left zeros, until they would have been due.
    assert not any(work_s > 1e-6 for each in load.queue.backlog_s.values() for work_s in each)
    assert 0 < load.queue.chats[0].ttft_s < load.queue.chats[-1].ttft_s


async def test_every_end_says_where_the_time_went(client: Client) -> None:
    long = asyncio.create_task(
        client.run("long", batch_qos(), input_ids=prompt_tokens(71, 2_700), max_tokens=40)
    )
    await until(lambda: "started" in client.kinds("long"))
    waiting = asyncio.create_task(
        client.run("waiting", batch_qos(), input_ids=prompt_tokens(72, 2_700))
    )
    await client.run("chat", chat_qos(), input_ids=prompt_tokens(73, 160), max_tokens=1)
    client.engine.abort("waiting")
    await asyncio.gather(long, waiting)

    for times in client.times.values():
        first_s = times.ended_s if times.first_token_s is None else times.first_token_s
        prompt_s = times.waiting_s + times.computing_s + times.parked_s
        assert prompt_s == pytest.approx(first_s - times.entered_s)
    assert client.times["long"].parked_s > 0
    assert client.times["long"].computing_s > client.times["chat"].computing_s > 0
    assert client.times["waiting"].first_token_s is None
    assert client.times["waiting"].waiting_s > 0


async def test_aborts_a_prefill_in_progress(client: Client) -> None:
    task = asyncio.create_task(client.run("long", batch_qos(), input_ids=prompt_tokens(25, 2000)))
    await until(lambda: "started" in client.kinds("long"))
    client.engine.abort("long")
    assert await task == ([], FinishReason.CANCELLED)


async def test_what_has_not_started_in_time_expires_and_what_has_does_not(client: Client) -> None:
    qos = batch_qos()
    qos = replace(qos, expires_s=qos.arrival_s + 0.5)
    parked = asyncio.create_task(client.run("parked", qos, input_ids=prompt_tokens(50, 3000)))
    await until(lambda: "started" in client.kinds("parked"))
    relaxed = RequestQos.interactive(time.time(), ttft_s=10, tbt_s=0.5)
    chat = asyncio.create_task(client.run("chat", relaxed, 60, input_ids=prompt_tokens(51, 2000)))
    await until(lambda: "parked" in client.kinds("parked"))
    ended = await last_update(client, "late", qos, prompt_tokens(53, 300))
    assert ended.finish_reason is FinishReason.EXPIRED
    assert (ended.prompt_tokens, ended.completion_tokens) == (300, 0)
    decision = ended.ended_by
    assert decision is not None
    assert re.fullmatch(r"prefill had not started 0\.\d+ s after arrival", decision.reason)
    assert decision.forecast is not None
    assert decision.forecast.finish_s > decision.at_s
    assert decision.forecast.finish_s < qos.deadline_s
    assert (await parked)[1] == FinishReason.LENGTH
    assert (await chat)[1] == FinishReason.LENGTH
    assert client.kinds("late") == []


async def test_a_request_that_comes_too_late_expires_immediately(client: Client) -> None:
    now_s = time.time()
    qos = RequestQos.batch(now_s - 60, ttlt_s=660, expire_after_s=30)
    ended = await last_update(client, "old", qos, prompt_tokens(54, 30))
    assert ended.finish_reason is FinishReason.EXPIRED


async def test_a_plain_client_of_the_server_learns_what_expired(client: Client) -> None:
    from sglang.srt.managers.io_struct import GenerateReqInput

    qos = {"ttlt_s": 60, "arrival_s": time.time() - 30, "expire_after_s": 20}
    sampling = {"max_new_tokens": 4, "custom_params": {"qos": qos}}
    request = GenerateReqInput(input_ids=prompt_tokens(52, 20), sampling_params=sampling)
    with pytest.raises(
        HTTPException, match="expired: prefill had not started 20 s after arrival"
    ) as raised:
        await anext(client.engine._running.manager.generate_request(request))
    assert raised.value.status_code == 503


async def last_update(
    client: Client, request_id: str, qos: RequestQos, input_ids: list[int]
) -> GenerationUpdate:
    request = GenerationRequest(request_id, qos, input_ids=input_ids)
    prepared = await client.engine.prepare(request)
    *_, last = [update async for update in client.engine.generate(prepared)]
    return last


async def test_leaving_the_iterator_aborts(client: Client) -> None:
    request = GenerationRequest(
        "left", chat_qos(), input_ids=prompt_tokens(26, 20), sampling={"max_tokens": 4000}
    )
    updates = client.engine.generate(await client.engine.prepare(request))
    await anext(updates)
    await updates.aclose()
    await until(lambda: "left" not in client.engine._running.manager.rid_to_state)


async def test_continues_when_memory_is_short(client: Client) -> None:
    """6,144 tokens of KV: five prompts of 1,500 do not fit, and chats still come first."""
    batch = [
        asyncio.create_task(
            client.run(f"big-{i}", batch_qos(), input_ids=prompt_tokens(30 + i, 1500))
        )
        for i in range(5)
    ]
    await until(lambda: "started" in client.kinds("big-0"))
    chats = [
        await client.run(f"small-{i}", chat_qos(), input_ids=prompt_tokens(40 + i, 300))
        for i in range(3)
    ]
    assert [reason for _, reason in chats] == [FinishReason.LENGTH] * 3
    for task in batch:
        assert (await task)[1] == FinishReason.LENGTH


async def test_chat_template_and_json_schema(client: Client) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    request = GenerationRequest(
        "json",
        chat_qos(),
        messages=[{"role": "user", "content": "hi"}],
        sampling={
            "max_tokens": 100,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": schema},
            },
        },
    )
    prepared = await client.engine.prepare(request)
    assert prepared.prompt_tokens == 5  # <|bos|> <|user|> h i <|assistant|>
    text = "".join([u.text_delta async for u in client.engine.generate(prepared)])
    assert json.loads(text)["ok"] in (True, False)


async def test_log_probabilities_of_each_token(client: Client) -> None:
    request = GenerationRequest(
        "logprobs",
        chat_qos(),
        prompt="hello",
        sampling={"max_tokens": 3, "logprobs": True, "top_logprobs": 2, "ignore_eos": True},
    )
    updates = [u async for u in client.engine.generate(await client.engine.prepare(request))]
    found = [entry for update in updates for entry in update.logprobs or ()]
    assert [len(entry.top) for entry in found] == [2, 2, 2]
    assert all(entry.logprob < 0 for entry in found)


async def test_a_chat_with_log_probabilities_goes_on_between_batch_prompts(
    client: Client,
) -> None:
    """SGLang leaves decodes out of batches with them, and runs prompts first."""
    sampling = {"logprobs": True}
    chat = asyncio.create_task(
        client.run("wants-logprobs", chat_qos(), input_ids=[1] * 20, sampling=sampling)
    )
    await until(lambda: "wants-logprobs" in client.ttft_s)
    names = [f"beside-{number}" for number in range(4)]
    batch = [
        asyncio.create_task(client.run(name, batch_qos(), 2, input_ids=prompt_tokens(i, 700)))
        for i, name in enumerate(names, 300)
    ]
    await chat
    assert not client.ttft_s.keys() >= set(names)
    await asyncio.gather(*batch)


@pytest.mark.parametrize(
    ("prompt", "kind", "reason"),
    [
        ({"prompt": "x" * 8300}, PromptTooLong, "8300 tokens; this worker takes at most"),
        ({"prompt": ""}, InvalidRequest, "give one of messages, prompt and input_ids"),
        ({"input_ids": [9999]}, InvalidRequest, "9999; the model's token ids are 0 to 319"),
        ({"prompt": "x", "sampling": {"fuel": 1}}, InvalidRequest, "unknown options: fuel"),
        ({"prompt": "x", "sampling": {"temperature": -1}}, InvalidRequest, "temperature"),
        ({"prompt": "x", "sampling": {"regex": "("}}, InvalidRequest, "regex"),
    ],
)
async def test_says_what_is_wrong_with_a_request(
    client: Client,
    prompt: dict[str, object],
    kind: type[Exception],
    reason: str,
) -> None:
    with pytest.raises(kind, match=reason):
        await client.run("wrong", chat_qos(), **prompt)


async def test_a_bad_model_path_says_what_to_do(engine: "SglangEngine", tmp_path: Path) -> None:
    from workers.runtime.engine.arguments import server_arguments
    from workers.runtime.engine.launch import start_error

    path = str(tmp_path / "nowhere")
    with pytest.raises((OSError, ValueError)) as raised:
        server_arguments(path, [], "error").resolve_once()
    assert "neither a local folder nor a model" in str(start_error(raised.value, path))


@pytest.mark.parametrize("process", ["scheduler", "detokenizer"])
async def test_a_frozen_process_of_sglang_is_silent_until_it_continues(
    client: Client, process: str
) -> None:
    """At its limit the watchdog would end the engine (`test_ranks.py`); an idle one, too."""
    running = client.engine._running
    pid = running.runtime.get_all_child_pids()[["scheduler", "detokenizer"].index(process)]
    await until(lambda: running.watchdog.silence_s <= 1)
    os.kill(pid, signal.SIGSTOP)
    try:
        await until(lambda: running.watchdog.silence_s >= 3)
    finally:
        os.kill(pid, signal.SIGCONT)
    await until(lambda: running.watchdog.silence_s <= 1)
    assert not running.death.done()


async def test_a_tokenizer_that_hangs_is_noticed(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, stuck = client.engine._running, threading.Event()
    monkeypatch.setattr(
        type(running.translator), "prepare", lambda self, request: stuck.wait(60) and None
    )
    request = GenerationRequest("stuck", chat_qos(), prompt="x")
    preparing = asyncio.create_task(client.engine.prepare(request))
    try:
        await until(lambda: client.engine.silence_s >= 3)
    finally:
        stuck.set()
    await preparing
    await until(lambda: client.engine.silence_s <= 1)


async def test_a_traced_request_tells_the_iterations_that_computed_its_prompt(
    client: Client, engine: "SglangEngine"
) -> None:
    before_s = time.time()
    request = GenerationRequest(
        "traced",
        chat_qos(),
        input_ids=prompt_tokens(77, 300),
        sampling={"max_tokens": 4, "ignore_eos": True},
        traceparent=f"00-{7:032x}-{8:016x}-01",
    )

    updates = [each async for each in engine.generate(await engine.prepare(request))]

    *earlier, last = [update.prefill for update in updates]
    assert last is not None
    assert not any(earlier)
    assert sum(chunk.tokens for chunk in last.chunks) == 300
    assert len(last.chunks) > 1
    iterations = [chunk.iteration for chunk in last.chunks]
    assert iterations == sorted(set(iterations))
    times = [at_s for chunk in last.chunks for at_s in (chunk.start_s, chunk.end_s)]
    assert before_s < times[0]
    assert times[-1] < time.time()
