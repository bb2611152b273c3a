"""What an iteration's duration depends on: `LatencyFile` has one file for each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sglang
import torch
from sglang.srt.platforms import current_platform
from sglang.srt.runtime_context import get_parallel

from workers.runtime.feature import Argument
from workers.runtime.sglang_arguments import resolved


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
        "speculative": _drafts(resolved(arguments)),
        "sglang": sglang.__version__,
    }


def _drafts(arguments: Mapping[str, Argument]) -> str | None:
    algorithm = arguments["speculative_algorithm"].value
    if algorithm is None:
        return None
    return f"{algorithm}, {arguments['speculative_num_draft_tokens'].value} tokens"


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
