"""Events of jobs that nobody submitted."""

from typing import Any

from tests.chaos.hostile.kinds import HostileRecord, Setting, encoded, kind


def _event(setting: Setting, **changes: Any) -> dict[str, Any]:
    """A valid event of a job that nobody submitted, with `changes`."""
    fields = {
        "schema_version": 1,
        "event_id": str(setting.new_id()),
        "job_id": str(setting.new_id()),
        "type": "started",
        "at": "2026-11-21T09:30:00Z",
        "attempt": 1,
        "worker_id": "hostile",
        "pool": "default",
    }
    return fields | changes


@kind("odd-event")
def _odd_event(setting: Setting) -> HostileRecord:
    error = {"code": "engine_error", "message": "\x00"}
    changes: dict[str, Any] = setting.choose.choice(
        [
            {},
            {"type": "completed", "result": {"text": "a\x00b", "finish_reason": "stop"}},
            {"type": "failed", "error": error},
            {"type": "completed"},
            {"attempt": 2**31},
            {"attempt": 2**63},
            {"attempt": 10**30},
            {"usage": {"prompt_tokens": 2**63}},
            {"largest_gap_ms": 1e308},
            {"at": "0001-01-01T00:00:00Z"},
            {"at": "9999-12-31T23:59:59Z"},
            {"at": "0001-01-01T00:00:00+01:00"},
            {"at": "9999-12-31T23:59:59-01:00"},
            {"reason": "\x00\ud800"},
            {"worker_id": "\x00"},
            {"type": "exploded"},
            {"source": {"topic": "\x00" * 300, "partition": -1, "offset": 2**63}},
            {"source": {"topic": "", "partition": 2**31, "offset": -(2**70)}},
        ]
    )
    return HostileRecord(setting.topics.events.name, encoded(_event(setting, **changes)))
