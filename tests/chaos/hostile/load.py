"""Load reports of workers that there are not, and records that are none."""

from tests.chaos.hostile.kinds import HostileRecord, Setting, kind


@kind("odd-load-report")
def _odd_load_report(setting: Setting) -> HostileRecord:
    """It shows somebody who is not there, or nothing at all; no job depends on it."""
    value = setting.choose.choice(
        [
            None,
            b"",
            b"{",
            b"null",
            b'{"schema_version": 9}',
            b'{"schema_version": 1, "worker_id": "\\u001b[2J"}',
            b"[" * 1_000,
            b"x" * 100_000,
        ]
    )
    return HostileRecord(setting.topics.load.name, value, headers=(("odd", None), ("é", b"\xff")))
