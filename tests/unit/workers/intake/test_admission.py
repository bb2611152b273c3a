"""A record becomes a job for this worker's model, or a refusal that says why."""

from typing import Any
from uuid import uuid4

import pytest

from schemas import QosCatalog, Refusal
from schemas.decode import job_id_of_record
from tests.support.records import FakeRecord, job_bytes
from workers.engine.port import GenerationRequest
from workers.execution.engine_request import generation_request
from workers.intake.admission import Admission
from workers.job import Job
from workers.policy.qos import Kind

NOW_S = 2000.0


def decide(timestamp: int = 1_000_000, **fields: Any) -> Job | Refusal:
    admission = Admission("m", QosCatalog.shipped())
    return admission.admit(FakeRecord(job_bytes(**fields), timestamp=timestamp), NOW_S)


def admitted(timestamp: int = 1_000_000, **fields: Any) -> Job:
    job = decide(timestamp, **fields)
    assert isinstance(job, Job)
    return job


def request_for(**fields: Any) -> GenerationRequest:
    return generation_request(admitted(**fields), "r")


def test_deadlines_count_from_the_record_s_timestamp() -> None:
    chat = request_for(qos="chat")
    assert (chat.qos.arrival_s, chat.qos.deadline_s, chat.qos.tbt_s) == (1000.0, 1001.0, 0.1)
    batch = request_for(qos={"ttlt_s": 30})
    assert (batch.qos.deadline_s, batch.qos.kind) == (1030.0, Kind.BATCH)


def test_expiry_counts_from_the_record_s_timestamp() -> None:
    assert request_for(expire_after_s=30).qos.expires_s == 1030.0
    assert request_for().qos.expires_s is None


@pytest.mark.parametrize("timestamp", [-1, 2_000_001, 10**17])
def test_a_timestamp_that_cannot_be_means_now(timestamp: int) -> None:
    assert admitted(timestamp=timestamp).qos.arrival_s == NOW_S


def test_every_sampling_parameter_reaches_the_engine() -> None:
    given: dict[str, Any] = {
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["a", "b"],
        "seed": 3,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "logprobs": True,
        "top_logprobs": 2,
        "top_k": 5,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "min_tokens": 1,
        "ignore_eos": True,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
    }
    assert request_for(**given).sampling == given


def test_messages_keep_openai_s_form() -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    request = request_for(prompt=None, messages=messages)
    assert request.messages == messages
    assert (request.prompt, request.input_ids) == (None, None)


def test_a_job_without_an_id_is_named_by_its_position() -> None:
    assert admitted().job_id == job_id_of_record("niyama.default.interactive", 3, 7)


def test_another_model_and_an_unknown_class_are_refused() -> None:
    job_id = uuid4()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"model": "x"}, "wrong_model"),
        ({"qos": "gold"}, "unknown_qos"),
    ]
    for fields, code in cases:
        refusal = decide(**fields, job_id=str(job_id))
        assert isinstance(refusal, Refusal)
        assert (refusal.error.code, refusal.job_id) == (code, job_id)
