"""What SGLang's outputs say about where a request's time went: one account with its last output."""

from collections.abc import Sequence

from workers.policy.account import EngineTimes
from workers.runtime.messages import TIMES_KEY
from workers.runtime.scheduler.seams import EngineRequest


def ended(req: EngineRequest, now_s: float) -> EngineTimes:
    """The account of a request that ends now."""
    account = req.niyama.account
    account.generated(len(req.output_ids), now_s)
    return account.ended(now_s)


def of_outputs(reqs: Sequence[EngineRequest], now_s: float) -> dict[str, list[list[object]]]:
    """What goes with the outputs that are sent for `reqs`, one entry for each; empty if none ends.

    SGLang hands on the entries of an output's own tokens, counted from the request's first token,
    so as many empty ones come before.
    """
    if not any(req.finished() for req in reqs):
        return {}
    return {TIMES_KEY: [_entries(req, now_s) if req.finished() else [] for req in reqs]}


def _entries(req: EngineRequest, now_s: float) -> list[object]:
    return [*[None] * len(req.output_ids), tuple(ended(req, now_s))]
