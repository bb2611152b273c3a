"""Requests in the real SGLang that end before they are complete: aborted, or expired."""

import asyncio
import re
import time
from dataclasses import replace

import pytest
from fastapi import HTTPException

from tests.support.runtime import (
    Client,
    batch_qos,
    chat_qos,
    frozen,
    prompt_tokens,
    until,
    until_made,
)
from workers.engine.load import EngineLoad
from workers.engine.port import (
    FinishReason,
    GenerationRequest,
    GenerationUpdate,
    PreparedRequest,
)
from workers.policy.account import EngineTimes
from workers.policy.qos import RequestQos

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_aborts_a_request_wherever_it_is(client: Client) -> None:
    async def aborted_in_time(number: int) -> bool | None:
        """A decode, a prompt while it is parked, and one while it is queued."""
        running, parked, queued = (f"{name}-{number}" for name in ("running", "parked", "queued"))
        decode = client.run(running, chat_qos(), 4000, input_ids=prompt_tokens(21, 20))
        jobs = [asyncio.create_task(decode)]
        await until(lambda: running in client.ttft_s)
        if not number:
            await until(lambda: _only_generates_one(client.engine.load))
            _check_load_of_one_decode(client.engine.load)
        for name, seed in ((parked, 22), (queued, 23)):
            ids = prompt_tokens(100 * number + seed, 2000)
            prepared = await client.prepare(name, batch_qos(), input_ids=ids)
            jobs.append(asyncio.create_task(client.finish(prepared)))
        await until(lambda: "started" in client.kinds(parked))
        ids = prompt_tokens(100 * number + 24, 1600)
        chat = asyncio.create_task(client.run(f"chat-{number}", chat_qos(), input_ids=ids))
        await until(lambda: "parked" in client.kinds(parked) or jobs[1].done())
        for name in (running, parked, queued):
            client.engine.abort(name)
        reasons = [reason for _, reason in await asyncio.gather(*jobs)]
        assert (await chat)[1] == FinishReason.LENGTH
        if client.kinds(parked) != ["started", "parked"] or FinishReason.LENGTH in reasons:
            return None
        assert reasons == [FinishReason.CANCELLED] * 3
        assert client.kinds(queued) == []
        return True

    await until_made(aborted_in_time)


def _only_generates_one(load: EngineLoad | None) -> bool:
    """It is no longer that of an earlier test, nor from before the first tokens."""
    if load is None or load.queue is None or load.queue.waiting or load.queue.prefilling:
        return False
    return load.decodes == 1 and load.generated_tokens_per_s > 0


def _check_load_of_one_decode(load: EngineLoad | None) -> None:
    """What the scheduler's process last said of itself: it does so once a second."""
    assert load is not None
    assert load.queue is not None
    assert load.used_kv_tokens is not None
    assert 0 < load.used_kv_tokens < (load.kv_tokens or 0) == 6144
    # Earlier tests' requests have left zeros, until they would have been due.
    assert not any(work_s > 1e-6 for each in load.queue.backlog_s.values() for work_s in each)
    assert 0 < load.queue.chats[0].ttft_s < load.queue.chats[-1].ttft_s


async def test_every_end_says_where_the_time_went(client: Client) -> None:
    async def one_parked_and_one_aborted(number: int) -> tuple[EngineTimes, ...] | None:
        names = long, waiting, chat = [f"{name}-{number}" for name in ("long", "waiting", "chat")]
        first, second, third = (prompt_tokens(100 * number + seed, 2_700) for seed in (71, 72, 73))
        prepared = await client.prepare(waiting, batch_qos(), input_ids=second)
        running = asyncio.create_task(client.run(long, batch_qos(), 40, input_ids=first))
        await until(lambda: "started" in client.kinds(long))
        queued = asyncio.create_task(client.finish(prepared))
        await client.run(chat, chat_qos(), input_ids=third[:160], max_tokens=1)
        client.engine.abort(waiting)
        await asyncio.gather(running, queued)
        found = tuple(client.times[name] for name in names)
        return found if found[0].parked_s and found[1].first_token_s is None else None

    long, waiting, chat = await until_made(one_parked_and_one_aborted)

    for times in client.times.values():
        first_s = times.ended_s if times.first_token_s is None else times.first_token_s
        prompt_s = times.waiting_s + times.computing_s + times.parked_s
        assert prompt_s == pytest.approx(first_s - times.entered_s)
    assert long.computing_s > 0
    assert chat.computing_s > 0
    assert waiting.waiting_s > 0


async def test_aborts_a_prefill_in_progress(client: Client) -> None:
    async def aborted_in_time(number: int) -> bool | None:
        name, ids = f"aborted-{number}", prompt_tokens(100 * number + 25, 4000)
        task = asyncio.create_task(client.run(name, batch_qos(), input_ids=ids))
        await until(lambda: "started" in client.kinds(name))
        client.engine.abort(name)
        return await task == ([], FinishReason.CANCELLED) or None

    await until_made(aborted_in_time)


async def test_what_has_not_started_in_time_expires_and_what_has_does_not(client: Client) -> None:
    async def parked_and_queued(number: int) -> tuple[GenerationUpdate, RequestQos] | None:
        """The end of a prompt that was queued behind one that was parked, when the time of both
        was over."""
        parked, late, chat = (f"{name}-{number}" for name in ("parked", "late", "chat"))
        first, second, third = (prompt_tokens(100 * number + seed, 2000) for seed in (50, 51, 53))
        qos = batch_qos()
        qos = replace(qos, expires_s=qos.arrival_s + 1.5 * (number + 1))
        prepared = await client.prepare(parked, qos, input_ids=first)
        running = asyncio.create_task(client.finish(prepared))
        await until(lambda: "started" in client.kinds(parked) or running.done())
        prepared = await client.prepare(late, qos, input_ids=second[:300])
        queued = asyncio.create_task(last_of(client, prepared))
        relaxed = RequestQos.interactive(time.time(), ttft_s=60, tbt_s=0.5)
        chatting = asyncio.create_task(client.run(chat, relaxed, input_ids=third))
        await until(lambda: "parked" in client.kinds(parked) or running.done())
        with frozen(client.engine._running.runtime.get_all_child_pids()[0]):
            is_parked = client.kinds(parked) == ["started", "parked"]
            await asyncio.sleep(max(0.0, qos.expires_s - time.time()) if is_parked else 0.0)
        ended = await queued
        assert (await chatting)[1] == FinishReason.LENGTH
        _, reason = await running
        if not is_parked or ended.completion_tokens:
            return None
        assert reason == FinishReason.LENGTH
        return ended, qos

    ended, qos = await until_made(parked_and_queued)

    assert ended.finish_reason is FinishReason.EXPIRED
    assert (ended.prompt_tokens, ended.completion_tokens) == (300, 0)
    decision = ended.ended_by
    assert decision is not None
    assert re.fullmatch(r"prefill had not started [\d.]+ s after arrival", decision.reason)
    assert decision.forecast is not None
    assert decision.forecast.finish_s > decision.at_s
    assert decision.forecast.finish_s < qos.deadline_s


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
    return await last_of(client, await client.engine.prepare(request))


async def last_of(client: Client, prepared: PreparedRequest) -> GenerationUpdate:
    *_, last = [update async for update in client.updates(prepared)]
    return last


async def test_leaving_the_iterator_aborts(client: Client) -> None:
    request = GenerationRequest(
        "left", chat_qos(), input_ids=prompt_tokens(26, 20), sampling={"max_tokens": 4000}
    )
    updates = client.engine.generate(await client.engine.prepare(request))
    await anext(updates)
    state = client.engine._running.manager.rid_to_state["left"]
    await updates.aclose()
    await until(lambda: state.finished)
    assert len(state.output_ids) < 4000
