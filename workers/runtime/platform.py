"""SGLang's platform entry point: the real runtime on a machine without an accelerator.

SGLang's own CPU platform needs its CPU kernels. As an out-of-tree platform, every fused operator
takes its plain torch implementation instead: slow, but it runs everywhere.
"""

import os
from typing import Any

CPU_VARIABLE = "NIYAMA_CPU"
"""Set to 1, a machine with an accelerator uses the CPU anyway."""


def activate() -> str | None:
    """The platform's class, or None where an accelerator exists and CPU was not asked for."""
    if os.environ.get("SGLANG_USE_CPU_ENGINE") == "1":
        return None  # SGLang's own CPU platform was asked for.
    if os.environ.get(CPU_VARIABLE) != "1" and has_accelerator():
        return None
    return "workers.runtime.cpu_platform.NiyamaCpuPlatform"


def has_accelerator() -> bool:
    """Whether torch, as installed, can use a device that SGLang supports."""
    import torch

    npu: Any = getattr(torch, "npu", None)
    return (
        torch.cuda.is_available()
        or torch.xpu.is_available()
        or torch.backends.mps.is_available()
        or hasattr(torch.version, "musa")
        or (npu is not None and npu.is_available())
    )
