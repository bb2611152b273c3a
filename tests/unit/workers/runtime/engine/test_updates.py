"""SGLang's outputs as updates."""

from itertools import count
from typing import Any

import pytest

from schemas.topics import MAX_VALUE_BYTES
from workers.engine.port import (
    EngineError,
    FinishReason,
    GenerationUpdate,
    InvalidRequest,
    PrefillChunk,
    PrefillChunks,
    PreparedRequest,
    TokenLogprob,
)
from workers.execution.output import Output
from workers.policy.account import EngineTimes
from workers.policy.decision import Decision, DecisionKind, Forecast
from workers.runtime.engine.updates import UpdateReader
from workers.runtime.messages import RELEASE_KEY, as_aborted, as_finish_reason, with_account

PREPARED = PreparedRequest("r1", prompt_tokens=7, max_tokens=16)


def output(tokens: int, reason: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
    counts = {"prompt_tokens": 7, "completion_tokens": tokens, "cached_tokens": 4}
    return {
        "text": "x",
        "output_ids": [65],
        "meta_info": {**counts, "finish_reason": reason, **meta},
    }


def test_reads_text_tokens_and_counts() -> None:
    reader = UpdateReader(PREPARED, set())
    assert reader.read(output(1)) == GenerationUpdate("x", (65,), 7, 1, 4)
    last = reader.read(output(2, {"type": "length", "length": 2}))
    assert (last.finish_reason, reader.finished) == (FinishReason.LENGTH, True)


def test_a_cancelled_request_ends_with_what_it_had() -> None:
    reader = UpdateReader(PREPARED, {"r1"})
    reader.read(output(3))
    update = reader.read({"meta_info": {"finish_reason": {"type": "abort", "message": "Aborted"}}})
    assert update == GenerationUpdate("", (), 7, 3, 4, FinishReason.CANCELLED)


def test_updates_that_may_be_held_back_say_when_they_were_there() -> None:
    reader = UpdateReader(PREPARED, set(), clock=lambda: 12.5)
    assert reader.read(output(1, **{RELEASE_KEY: [(13.0, 0.1)]})).ready_s == 12.5
    assert reader.read(output(2)).ready_s == 12.5


TIMES = EngineTimes(1.0, 0.5, 0.25, 0.0, 1.75, 0.0, 2.0, 0.125, 0.0, 0.0625, "shared")
PREFILL = PrefillChunks((PrefillChunk(1000.5, 1000.75, 100, 7, 0.25),), left_out=2)


def test_the_last_update_says_where_the_time_went() -> None:
    reader = UpdateReader(PREPARED, set())
    assert reader.read(output(2)).engine_times is None
    last = reader.read(output(3, with_account({"type": "stop", "matched": 0}, TIMES, PREFILL)))
    assert (last.engine_times, last.prefill) == (TIMES, PREFILL)


@pytest.mark.parametrize(
    "reason",
    [
        as_aborted(None),
        {"type": "abort", "message": "Aborted"},
        as_finish_reason(Decision("r1", DecisionKind.EXPIRED, 1030.0, "too late")),
    ],
)
def test_so_does_the_end_of_a_request_that_was_dropped(reason: dict[str, Any]) -> None:
    ended = {"meta_info": {"finish_reason": with_account(reason, TIMES, PREFILL)}}
    last = UpdateReader(PREPARED, {"r1"}).read(ended)
    assert (last.engine_times, last.prefill) == (TIMES, PREFILL)


def test_so_does_an_error_that_ends_a_request() -> None:
    ended = {"meta_info": {"finish_reason": with_account(as_aborted("no memory"), TIMES, PREFILL)}}
    with pytest.raises(EngineError, match="no memory") as raised:
        UpdateReader(PREPARED, set()).read(ended)
    assert raised.value.last is not None
    assert (raised.value.last.engine_times, raised.value.last.prefill) == (TIMES, PREFILL)


@pytest.mark.parametrize("cancelled", [set(), {"r1"}])
def test_an_expired_request_ends_with_the_decision_behind_it(cancelled: set[str]) -> None:
    forecast = Forecast(queue_wait_s=60.0, finish_s=1090.5)
    reason = "its prefill had not started in time"
    decision = Decision("r1", DecisionKind.EXPIRED, 1030.1, reason, forecast)
    finish = as_finish_reason(decision)
    assert (finish["status_code"], finish["message"]) == (
        503,
        "The request has expired: its prefill had not started in time.",
    )
    reader = UpdateReader(PREPARED, cancelled)
    update = reader.read({"meta_info": {"finish_reason": finish}})
    assert update == GenerationUpdate("", (), 7, 0, 0, FinishReason.EXPIRED, ended_by=decision)
    assert reader.finished


def test_a_refusal_by_the_scheduler_is_an_invalid_request() -> None:
    reason = {"type": "abort", "message": "Failed to compile regex grammar", "status_code": 400}
    with pytest.raises(InvalidRequest, match="Failed to compile regex"):
        UpdateReader(PREPARED, set()).read({"meta_info": {"finish_reason": reason}})


def test_an_abort_that_nobody_asked_for_is_an_engine_error() -> None:
    reason = {"type": "abort", "message": "Out of memory", "status_code": 500}
    with pytest.raises(EngineError, match="gave up on the request: Out of memory"):
        UpdateReader(PREPARED, set()).read({"meta_info": {"finish_reason": reason}})


def test_reads_log_probabilities_with_alternatives() -> None:
    meta = {
        "output_token_logprobs": [(-0.5, 65, "A")],
        "output_top_logprobs": [[(-0.5, 65, "A"), (-1.5, 66, "B")]],
    }
    update = UpdateReader(PREPARED, set()).read(output(1, **meta))
    top = (TokenLogprob(65, "A", -0.5), TokenLogprob(66, "B", -1.5))
    assert update.logprobs == (TokenLogprob(65, "A", -0.5, top),)


@pytest.mark.parametrize(
    ("text", "alternatives"), [("x" * 100_000, 0), ("é\x00", 20)], ids=["text", "logprobs"]
)
def test_a_result_ends_when_it_is_certainly_larger_than_a_record(
    text: str, alternatives: int
) -> None:
    reader, kept = UpdateReader(PREPARED, set()), Output()
    top = [(-12.345678901234567, 66, text)] * alternatives
    meta = {"output_token_logprobs": [(-0.5, 65, text)], "output_top_logprobs": [top]}
    for done in count(1):
        update = reader.read(output(done, **meta if alternatives else {}) | {"text": text})
        if update.finish_reason is not None:
            break
        kept.add(update, 0.0)
    assert update == GenerationUpdate("", (), 7, done, 4, FinishReason.TOO_LARGE)
    assert not reader.finished, "SGLang has to be told"
    kept.finish_reason = FinishReason.LENGTH
    size_bytes = len(kept.result().model_dump_json())
    assert MAX_VALUE_BYTES * 0.9 < size_bytes < MAX_VALUE_BYTES * 3


def test_counts_no_more_than_a_result_has() -> None:
    reader, kept = UpdateReader(PREPARED, set()), Output()
    meta = {"output_token_logprobs": [(-1.0, 65, "")] * 9, "output_top_logprobs": [[]] * 9}
    kept.add(reader.read(output(9, {"type": "length", "length": 9}, **meta)), 0.0)
    assert reader.least_bytes <= len(kept.result().model_dump_json())
