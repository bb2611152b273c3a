"""SGLang on a CUDA device without its kernel wheel, for measurements.

Where `sgl-kernel` cannot be installed, SGLang takes the device as one that it has no kernels for:
an out-of-tree platform, on which every fused operator runs as plain torch, with attention in
Triton. That is slower than a production installation; what it shows is the scheduler's behaviour on
a real device, and ratios between policies under the same kernels.
"""

import importlib.util
from types import ModuleType
from typing import Any

WITHOUT_KERNELS = "plain torch operators, attention in Triton, no CUDA graphs"
ARGUMENTS = (
    *("--device", "cuda", "--attention-backend", "triton", "--sampling-backend", "pytorch"),
    *("--cuda-graph-backend-decode", "disabled", "--cuda-graph-backend-prefill", "disabled"),
)


def has_kernels() -> bool:
    return importlib.util.find_spec("sgl_kernel") is not None


def install() -> None:
    """Before anything else of SGLang is imported, in each of its processes."""
    from sglang.srt import platforms, utils
    from sglang.srt.platforms.cuda import CudaDeviceMixin
    from sglang.srt.platforms.device_mixin import PlatformEnum
    from sglang.srt.platforms.interface import PlatformCapabilities, SRTPlatform

    class PlainCuda(CudaDeviceMixin, SRTPlatform):  # type: ignore[misc]
        # OOT (out of tree) is what makes SGLang dispatch operators to `forward_native`.
        _enum = PlatformEnum.OOT
        capabilities = PlatformCapabilities(supports_triton=True)

        def get_default_attention_backend(self) -> str:
            return "triton"

        def is_pin_memory_available(self, device: Any = None) -> bool:
            return str(device) != "cpu"

    modules: tuple[ModuleType, ...] = (utils, utils.common)
    for module in modules:
        for name in ("is_cuda", "is_cuda_alike"):  # asked where kernels are imported
            setattr(module, name, lambda: False)
    platforms._current_platform = PlainCuda()
