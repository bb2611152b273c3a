"""What SGLang's last output of a request says about it: where its time went, and its chunks."""

from collections.abc import Mapping
from typing import Any

from workers.runtime.messages import with_account
from workers.runtime.scheduler.seams import EngineRequest


def with_account_of(req: EngineRequest, reason: Mapping[str, Any], now_s: float) -> dict[str, Any]:
    """The finish reason of a request that ends now, by a monotonic clock, with its account."""
    account, notes = req.niyama.account, req.niyama.chunks
    account.generated(len(req.output_ids), now_s)
    if notes is not None:
        notes.ended(now_s)
    return with_account(reason, account.ended(now_s), None if notes is None else notes.all())
