"""Load reports."""

from datetime import UTC, datetime
from typing import Any

from schemas import LoadReport
from schemas.load import WorkerLimits

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def load_report(worker_id: str = "w1", **fields: Any) -> LoadReport:
    """Of an idle worker of the pool `default`."""
    known: dict[str, Any] = {
        "pool": "default",
        "model": "tiny",
        "version": "1.0",
        "started_at": NOON,
        "reported_at": NOON,
        "limits": WorkerLimits(interactive_jobs=4096, batch_jobs=1024, kv_tokens=10_000),
    }
    return LoadReport(worker_id=worker_id, **(known | fields))
