"""The CPU platform itself; `workers.runtime.platform` decides whether it applies."""

from typing import Any

from sglang.srt.platforms.cpu import CpuDeviceMixin
from sglang.srt.platforms.device_mixin import PlatformEnum
from sglang.srt.platforms.interface import PlatformCapabilities, SRTPlatform


class NiyamaCpuPlatform(CpuDeviceMixin, SRTPlatform):  # type: ignore[misc]
    """A CPU on which every fused operator of SGLang runs as plain torch."""

    # OOT (out of tree) is what makes SGLang dispatch operators to `forward_native`.
    _enum = PlatformEnum.OOT
    capabilities = PlatformCapabilities()

    def get_default_attention_backend(self) -> str:
        return "torch_native"

    def is_pin_memory_available(self, device: Any = None) -> bool:
        return False

    def get_kv_pool_cls(self, *, kind: str) -> type | None:
        from workers.runtime.cpu_drafts import ChainKvPool  # imports most of SGLang

        return ChainKvPool if kind == "mha" else None

    def get_speculative_worker_cls(self, algorithm: str) -> type | None:
        from workers.runtime.cpu_drafts import NgramCpuWorker

        return NgramCpuWorker if algorithm == "NGRAM" else None
