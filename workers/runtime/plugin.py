"""SGLang's plugin entry point: any start of SGLang that loads it schedules with Niyama.

    SGLANG_PLUGINS=niyama python -m sglang.launch_server --model-path ...

Entry points are loaded in every process of SGLang, so nothing heavy is imported here.
"""


def register() -> None:
    """Put NiyamaScheduler in the place of SGLang's Scheduler."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    from workers.runtime.scheduler.niyama_scheduler import NiyamaScheduler

    HookRegistry.register(
        "sglang.srt.managers.scheduler.Scheduler", NiyamaScheduler, HookType.REPLACE
    )
