"""Which of SGLang's modes Niyama schedules, and what an iteration's duration depends on."""

from pathlib import Path
from typing import Any

import sglang
import torch
from sglang.srt.platforms import current_platform
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


def latency_subject(scheduler: Any) -> dict[str, object]:
    """Everything that an iteration's duration depends on, besides its batch."""
    arguments = scheduler.server_args
    return {
        "model": arguments.model_path,
        "device": _device(scheduler.device),
        "tp": get_parallel().tp_size,
        "dtype": arguments.dtype,
        "quantization": arguments.quantization,
        "attention": arguments.attention_backend,
        "mixed": scheduler.is_mixed_chunk,
        "overlap": scheduler.enable_overlap,
        "speculative": arguments.speculative_algorithm,
        "sglang": sglang.__version__,
    }


def _device(device: str) -> str:
    if device != "cpu":
        return str(current_platform.get_device_name())
    return f"{_cpu_name()}, {torch.get_num_threads()} threads"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "cpu"
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), "cpu"
    )
