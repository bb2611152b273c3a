"""Every field of a job that concerns the engine, in what SGLang receives and in what it answers."""

import json
import re
import time
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from niyama.kafka import ConsumedRecord
from schemas import JobRequest, JobResult, QosCatalog
from schemas.job import SamplingParameters
from tests.support.records import FakeRecord
from tests.support.runtime import until
from workers.engine.port import FinishReason, InvalidRequest
from workers.execution.engine_request import generation_request
from workers.execution.output import Output
from workers.intake.admission import Admission
from workers.job import Job

if TYPE_CHECKING:
    from workers.runtime.engine.sglang_engine import SglangEngine

GRAMMAR_CHECK = "workers.runtime.engine.grammar_check"
"""Named, not imported: SGLang takes seconds to import, and must be imported by its own plugin."""

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
COSTLY = {
    "type": "object",
    "properties": {f"p{number}": {"type": "string"} for number in range(300)},
    "minProperties": 16,
    "maxProperties": 32,
}
"""Half a minute and more."""
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
BOS, USER, ASSISTANT = 256, 260, 261
_PROMPTS = {"messages", "prompt", "input_ids"}
SOON_STOPPING = [84, 24]
"""A prompt to which the tiny model's most likely answer is two tokens and the end of sequence."""

RECEIVED: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {
    "max_tokens": [({"max_tokens": 7}, {"max_new_tokens": 7})],
    "temperature": [({"temperature": 0.5}, {"temperature": 0.5})],
    "top_p": [({"top_p": 0.5}, {"top_p": 0.5})],
    "stop": [({"stop": "x"}, {"stop": "x"}), ({"stop": ["x", "y"]}, {"stop": ["x", "y"]})],
    "seed": [({"seed": 5}, {"sampling_seed": 5})],
    "presence_penalty": [({"presence_penalty": 0.5}, {"presence_penalty": 0.5})],
    "frequency_penalty": [({"frequency_penalty": 0.5}, {"frequency_penalty": 0.5})],
    "logprobs": [({"logprobs": True}, {"return_logprob": True})],
    "top_logprobs": [
        ({"logprobs": True, "top_logprobs": 3}, {"return_logprob": True, "top_logprobs_num": 3}),
        ({"top_logprobs": 3}, {}),  # as OpenAI: only together with logprobs
    ],
    "response_format": [
        ({"response_format": FORMAT}, {"json_schema": json.dumps(SCHEMA)}),
        ({"response_format": {"type": "json_object"}}, {"json_schema": '{"type": "object"}'}),
        ({"response_format": {"type": "text"}}, {}),
    ],
    "top_k": [({"top_k": 3}, {"top_k": 3})],
    "min_p": [({"min_p": 0.1}, {"min_p": 0.1})],
    "repetition_penalty": [({"repetition_penalty": 1.2}, {"repetition_penalty": 1.2})],
    "min_tokens": [({"min_tokens": 2}, {"min_new_tokens": 2})],
    "ignore_eos": [({"ignore_eos": True}, {"ignore_eos": True})],
    # What differs from a prompt's request, beside its tokens.
    "prompt": [({"prompt": "hi"}, {"input_ids": [71, 72]})],
    "input_ids": [({"input_ids": [1, 2]}, {"input_ids": [1, 2]})],
    "messages": [
        (
            {"messages": [{"role": "user", "content": "hi"}]},
            {
                "input_ids": [BOS, USER, 71, 72, ASSISTANT],
                "spaces_between_special_tokens": True,
                "modalities": [],
                "return_sampling_mask": False,
            },
        )
    ],
    "stream": [({"stream": True, "qos": "batch-1h"}, {"stream_interval": None})],
}
"""By field: documents that use it, and what they change in SGLang's request."""


async def test_every_field_of_the_engine_is_in_the_table() -> None:
    assert set(RECEIVED) == {*SamplingParameters.model_fields, *_PROMPTS, "stream"}


_CASES = [
    pytest.param(document, change, id=f"{field}-{number}")
    for field, cases in RECEIVED.items()
    for number, (document, change) in enumerate(cases)
]


@pytest.mark.parametrize(("document", "change"), _CASES)
async def test_sglang_receives_what_the_field_says_and_nothing_else_changes(
    engine: "SglangEngine", document: dict[str, Any], change: dict[str, Any]
) -> None:
    qos = {name: document[name] for name in ("qos",) if name in document}
    before = await _received(engine, {"prompt": "hello"} | qos)
    prompted = not _PROMPTS.isdisjoint(document)
    after = await _received(engine, document if prompted else {"prompt": "hello"} | document)
    changed = {
        name: after.get(name) for name in before | after if before.get(name) != after.get(name)
    }
    assert changed == change


async def test_jobs_without_a_seed_get_one_each_where_seeds_decide(
    engine: "SglangEngine", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine._running.translator, "_samples_by_seed", True)
    seeds = [(await _received(engine, {"prompt": "hello"}))["sampling_seed"] for _ in range(3)]
    given = (await _received(engine, {"prompt": "hello", "seed": 0}))["sampling_seed"]
    assert len(set(seeds)) == 3
    assert given == 0


async def test_the_answer_follows_the_json_schema(engine: "SglangEngine") -> None:
    job = {"messages": [{"role": "user", "content": "hi"}], "response_format": FORMAT}
    result = await _result(engine, job)
    assert json.loads(result.text) in ({"ok": True}, {"ok": False})
    assert result.finish_reason == "stop"


@pytest.mark.parametrize(
    ("schema", "limit_s", "reason"),
    [
        (COSTLY, 1, "takes more than 1 s to compile"),
        ({"type": "string", "pattern": "("}, 60, "Regex parsing error"),
        ({"type": "integer", "minimum": -(10**30)}, 60, "Check failed"),
    ],
)
async def test_a_schema_that_cannot_be_compiled_in_time_is_refused(
    engine: "SglangEngine",
    schema: dict[str, Any],
    limit_s: float,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"{GRAMMAR_CHECK}.CPU_LIMIT_S", limit_s)
    form = {"type": "json_schema", "json_schema": {"name": "costly", "schema": schema}}
    with pytest.raises(InvalidRequest, match=reason):
        await _result(engine, {"prompt": "hi", "response_format": form})


async def test_a_schema_with_a_pattern_is_compiled_and_followed(
    engine: "SglangEngine",
) -> None:
    schema = {"type": "string", "pattern": "^[xy]{3}$"}
    form = {"type": "json_schema", "json_schema": {"name": "pattern", "schema": schema}}
    result = await _result(engine, {"prompt": "hi", "response_format": form})
    assert re.fullmatch('"[xy]{3}"', result.text)


async def test_the_answer_ends_before_a_stop_sequence(engine: "SglangEngine") -> None:
    job = {"prompt": "hello", "temperature": 0, "ignore_eos": True, "max_tokens": 40}
    whole = (await _result(engine, job)).text
    found = re.search("[!-~]{2}", whole)
    assert found is not None
    stop = found[0]
    stopped = await _result(engine, job | {"stop": ["never in it", stop]})
    assert stopped.text == whole[: whole.index(stop)]
    assert stopped.finish_reason == "stop"


async def test_every_token_has_its_log_probability(engine: "SglangEngine") -> None:
    job = {"prompt": "hello", "max_tokens": 5, "logprobs": True, "top_logprobs": 2}
    result = await _result(engine, job | {"temperature": 0, "ignore_eos": True})
    assert result.logprobs is not None
    assert len(result.logprobs) == 5
    for token in result.logprobs:
        likeliest = max(token["top_logprobs"], key=lambda each: each["logprob"])
        assert likeliest["logprob"] == token["logprob"] < 0
        assert len(token["top_logprobs"]) == 2


async def test_an_answer_that_no_record_holds_ends_in_sglang_too(
    engine: "SglangEngine", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.runtime.engine.updates.MAX_VALUE_BYTES", 20_000)
    document = {"prompt": "hello", "max_tokens": 4000, "ignore_eos": True}
    _, request = _request(document | {"logprobs": True, "top_logprobs": 20})
    updates = engine.generate(await engine.prepare(request))
    last = await anext(updates)
    state = engine._running.manager.rid_to_state[request.request_id]
    async for update in updates:
        last = update
    assert last.finish_reason is FinishReason.TOO_LARGE
    assert 1 < last.completion_tokens < 4000
    await until(lambda: state.finished)
    assert len(state.output_ids) < 4000


async def test_no_answer_is_shorter_than_min_tokens(engine: "SglangEngine") -> None:
    job = {"input_ids": SOON_STOPPING, "temperature": 0, "max_tokens": 9}
    short = await _result(engine, job)
    long = await _result(engine, job | {"min_tokens": 8})
    assert short.token_ids is not None
    assert long.token_ids is not None
    assert len(short.token_ids) == 3, "the tiny model has changed: look for another prompt"
    assert len(long.token_ids) >= 8


async def test_token_ids_are_answered_with_token_ids(engine: "SglangEngine") -> None:
    job = {"temperature": 0, "ignore_eos": True, "max_tokens": 6}
    from_text = await _result(engine, job | {"prompt": "hi"})
    from_ids = await _result(engine, job | {"input_ids": [71, 72]})
    assert from_ids.text == from_text.text
    assert from_text.token_ids is None
    assert from_ids.token_ids is not None
    assert len(from_ids.token_ids) == 6


# ---- a job's way to the engine, as a worker takes it

_serial = count()


def _request(document: dict[str, Any]) -> tuple[Job, Any]:
    value = JobRequest.model_validate({"model": "tiny", "qos": "chat"} | document).to_bytes()
    record: ConsumedRecord = FakeRecord(value, timestamp=int(time.time() * 1000))
    job = Admission("tiny", QosCatalog.load(None)).admit(record, time.time())
    assert isinstance(job, Job)
    return job, generation_request(job, f"field-{next(_serial):06}-{uuid4()}")


async def _received(engine: "SglangEngine", document: dict[str, Any]) -> dict[str, Any]:
    """The fields of SGLang's request, flat, without those that differ from request to request."""
    _, request = _request(document)
    payload = (await engine.prepare(request)).payload
    fields = vars(payload) | payload.sampling_params
    for name in ("rid", "sampling_params", "custom_params"):
        del fields[name]
    if document.get("prompt") == "hello":
        del fields["input_ids"]
    return {name: value for name, value in fields.items() if value is not None}


async def _result(engine: "SglangEngine", document: dict[str, Any]) -> JobResult:
    job, request = _request(document)
    output = Output(keep_token_ids=job.request.input_ids is not None)
    async for update in engine.generate(await engine.prepare(request)):
        output.add(update, time.time())
    return output.result()
