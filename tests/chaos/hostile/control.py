"""Requests to cancel, of a time, with a reason or of a size that nobody would give."""

from typing import Any

from tests.chaos.hostile.kinds import HostileRecord, Setting, encoded, kind


def _control(setting: Setting, **changes: Any) -> dict[str, Any]:
    """A valid request to cancel a job that nobody submitted, with `changes`."""
    fields = {
        "schema_version": 1,
        "job_id": str(setting.new_id()),
        "requested_at": "2026-11-21T09:30:00Z",
    }
    return fields | changes


@kind("odd-control")
def _odd_control(setting: Setting) -> HostileRecord:
    changes: dict[str, Any] = setting.choose.choice(
        [
            {},
            {"requested_at": "0001-01-01T00:00:00Z"},
            {"requested_at": "9999-12-31T23:59:59Z"},
            {"requested_at": "2026-11-21T09:30:00"},
            {"requested_at": 0},
            {"requested_at": 2**62},
            {"action": "destroy"},
            {"reason": "\x00" * 100},
            {"reason": "x" * 100_000},
            {"job_id": None},
        ]
    )
    return _record(setting, _control(setting, **changes))


@kind("control-of-year-1")
def _control_of_year_1(setting: Setting) -> HostileRecord:
    # In UTC that is before year 1, or after year 9999.
    edges = ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"]
    return _record(setting, _control(setting, requested_at=setting.choose.choice(edges)))


@kind("large-control")
def _large_control(setting: Setting) -> HostileRecord:
    """Of a job that runs, which has to complete all the same: this is no request. Compressed, it
    is small enough for the topic."""
    job_ids = [str(job.job_id) for job in setting.running] or [str(setting.new_id())]
    document = _control(setting, job_id=setting.choose.choice(job_ids))
    faults = dict.fromkeys(map(str, range(100_000)), 0)
    large: dict[str, Any] = setting.choose.choice([{"reason": "x" * 9_000_000}, faults])
    return _record(setting, document | large, codec="gzip")


def _record(setting: Setting, document: dict[str, Any], codec: str | None = None) -> HostileRecord:
    return HostileRecord(setting.topics.control.name, encoded(document), codec=codec)
