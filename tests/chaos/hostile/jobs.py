"""Jobs that are refused, and valid ones with odd fields."""

import time
from typing import Any

from tests.chaos.hostile.kinds import (
    HostileRecord,
    Setting,
    encoded,
    invalid_job,
    kind,
    valid_job,
)
from tests.chaos.journal import Expectation
from tests.chaos.workload import REPLY_TOPICS

FAR_FUTURE_MS = 30 * 60 * 1000
"""A broker refuses timestamps more than an hour ahead."""


@kind("refused-job")
def _refused_job(setting: Setting) -> HostileRecord:
    changes: dict[str, Any] = setting.choose.choice(
        [
            {"schema_version": 2},
            {"qos": "gold"},
            {"qos": {"ttft_ms": -1, "tbt_ms": 1e308}},
            {"model": "another"},
            {"max_tokens": 2**63},
            {"max_tokens": -1},
            {"temperature": "hot"},
            {"unknown": None},
            {"input_ids": [1]},
            {"prompt": None},
            {"prompt": "long " * 9000},
            {"metadata": {"key": "x" * 513}},
        ]
    )
    reply_topic = setting.choose.choice([None, *REPLY_TOPICS])
    return invalid_job(setting, setting.job(reply_topic=reply_topic, **changes))


@kind("odd-job-id")
def _odd_job_id(setting: Setting) -> HostileRecord:
    odd: Any = setting.choose.choice([None, 7, "", "x", [], {}, "0" * 4096, "\x00"])
    value = encoded(setting.job(job_id=odd, qos="gold"))
    return HostileRecord(setting.job_topic(), value, refused=True)


@kind("nul-in-text")
def _nul_in_text(setting: Setting) -> HostileRecord:
    document = setting.job(prompt="a\x00b \ud7ff", metadata={"nul": "\x00", "\x00": "\\u0000"})
    return valid_job(setting, document)


@kind("odd-timestamp")
def _odd_timestamp(setting: Setting) -> HostileRecord:
    ahead_ms = int(time.time() * 1000) + FAR_FUTURE_MS
    return valid_job(setting, setting.job(), timestamp_ms=setting.choose.choice([1, ahead_ms]))


@kind("json-schema", engine="sglang")
def _json_schema(setting: Setting) -> HostileRecord:
    schema = {"name": "answer", "schema": {"type": "object"}}
    document = setting.job(response_format={"type": "json_schema", "json_schema": schema})
    return valid_job(setting, document, expectation=Expectation())  # its length is the grammar's


@kind("extreme-top-k", engine="sglang")
def _extreme_top_k(setting: Setting) -> HostileRecord:
    either = frozenset({"completed", "failed"})
    return valid_job(setting, setting.job(top_k=2**31), expectation=Expectation(statuses=either))
