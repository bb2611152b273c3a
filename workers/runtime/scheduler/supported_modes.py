"""Which of SGLang's modes Niyama schedules."""

import logging
from typing import Any

from workers.policy.settings import TokenTiming
from workers.runtime.features import refusals, unplanned
from workers.runtime.sglang_arguments import resolved

log = logging.getLogger(__name__)


def check_supported(scheduler: Any, *, announce: bool) -> None:
    """Raise ValueError, with what to change, for a mode whose batches the policy cannot plan.

    `announce`: log which features are on that plans know nothing of.
    """
    arguments = resolved(scheduler.server_args)
    reasons = list(refusals(arguments))
    if scheduler.chunked_prefill_size is None:
        reasons.append("Niyama sizes prefill chunks: start with a --chunked-prefill-size above 0")
    if scheduler.enable_overlap_mlx:
        reasons.append(
            "Niyama does not schedule MLX's overlap: start with --disable-overlap-schedule"
        )
    if reasons:
        raise ValueError("; ".join(reasons))
    for sentence in unplanned(arguments) if announce else ():
        log.warning("%s", sentence)


def check_timing(timing: TokenTiming, *, has_worker: bool) -> None:
    """Raise ValueError for a token timing that nothing would enforce."""
    if timing is TokenTiming.PACED and not has_worker:
        raise ValueError(
            "NIYAMA_TOKEN_TIMING is paced, and there is no niyama worker to hold tokens back: "
            "use gaps or envelope"
        )
