"""Which of SGLang's modes Niyama schedules."""

from typing import Any

from sglang.srt.runtime_context import get_disagg, get_parallel

from workers.policy.settings import TokenTiming


def check_supported(scheduler: Any) -> None:
    """Raise ValueError, with what to change, for a mode whose batches the policy cannot plan."""
    wrong = {
        "Niyama orders requests by deadline: start without --enable-priority-scheduling": (
            scheduler.enable_priority_scheduling
        ),
        "Niyama sizes prefill chunks: start with a --chunked-prefill-size above 0": (
            scheduler.chunked_prefill_size is None
        ),
        "Niyama does not schedule disaggregated prefill and decode: "
        "start without --disaggregation-mode": get_disagg().disaggregation_mode != "null",
        "Niyama does not schedule pipelines: start with --pp-size 1": get_parallel().pp_size > 1,
        "Niyama does not schedule multiplexed prefill and decode: start without --enable-pdmux": (
            scheduler.enable_pdmux
        ),
        "Niyama does not schedule diffusion language models: start without --dllm-algorithm": (
            scheduler.dllm_config is not None
        ),
        "Niyama does not schedule MLX's overlap: start with --disable-overlap-schedule": (
            scheduler.enable_overlap_mlx
        ),
    }
    for sentence, applies in wrong.items():
        if applies:
            raise ValueError(sentence)


def check_timing(timing: TokenTiming, *, has_worker: bool) -> None:
    """Raise ValueError for a token timing that nothing would enforce."""
    if timing is TokenTiming.PACED and not has_worker:
        raise ValueError(
            "NIYAMA_TOKEN_TIMING is paced, and there is no niyama worker to hold tokens back: "
            "use gaps or envelope"
        )
