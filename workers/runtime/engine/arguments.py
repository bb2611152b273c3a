"""SGLang's server arguments for a worker: ours first, then whatever the user passed."""

import os
from argparse import ArgumentParser
from collections.abc import Collection, Sequence
from typing import Any

from sglang.srt.platforms import current_platform
from sglang.srt.server_args import ServerArgs, prepare_server_args

from workers.engine.port import EngineStartError
from workers.runtime.cpu_platform import NiyamaCpuPlatform
from workers.runtime.engine.flags import explain_unknown
from workers.runtime.engine.logs import own_logging
from workers.runtime.features import refusals
from workers.runtime.sglang_arguments import given

_ALWAYS = (
    "--enable-mixed-chunk",  # decodes run beside every prefill chunk
    "--incremental-streaming-output",  # what GenerationUpdate is made from
)
_CPU = (
    *("--device", "cpu"),
    *("--attention-backend", "torch_native"),
    *("--sampling-backend", "pytorch"),
    *("--dtype", "float32"),
    *("--chunked-prefill-size", "128"),  # some 80 ms on two cores: a chat's gap
    *("--max-total-tokens", "65536"),
    *("--mem-fraction-static", "0.3"),
    *("--cuda-graph-backend-decode", "disabled"),
    *("--cuda-graph-backend-prefill", "disabled"),
    "--sleep-on-idle",  # an idle scheduler would spin on one of few cores
)


def child_environment() -> dict[str, str]:
    """Defaults for SGLang's child processes; what the user has set stays."""
    variables = {
        # SGLang imports its 250 model files to find one; with this it looks here first.
        "SGLANG_EXTERNAL_MODEL_PACKAGE": "workers.runtime.models",
        # SGLang's log says once which kernels a machine lacks.
        "PYTHONWARNINGS": "ignore",
    }
    if _is_on_cpu():
        # With a thread per core, all of torch's wait for the one that another process displaced:
        # on two busy cores, two threads were ten times slower than one.
        variables["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // 2))
    return {name: value for name, value in variables.items() if name not in os.environ}


def server_arguments(
    model: str, extra: Sequence[str], log_level: str, worker_flags: Collection[str] = ()
) -> Any:
    """SGLang's ServerArgs for `model`; in `extra`, any further argument of SGLang's server.

    `worker_flags` are suggested, too, in place of an unknown argument. Raises EngineStartError.
    """
    if (unknown := explain_unknown(extra, _sglang_flags(), worker_flags)) is not None:
        raise EngineStartError(unknown)
    device = _CPU if _is_on_cpu() else ()
    arguments = ["--model-path", model, "--log-level", log_level, *_ALWAYS, *device, *extra]
    try:
        with own_logging():
            found = prepare_server_args(arguments)
    except SystemExit as error:  # argparse has printed what is wrong
        raise EngineStartError(
            f"SGLang does not accept these arguments: {' '.join(extra)}"
        ) from error
    if reasons := list(refusals(given(found))):
        raise EngineStartError("; ".join(reasons))
    return found


def _sglang_flags() -> Collection[str]:
    parser = ArgumentParser(add_help=False)
    ServerArgs.add_cli_args(parser)
    flags: Collection[str] = parser._option_string_actions.keys()
    return flags


def _is_on_cpu() -> bool:
    return isinstance(current_platform, NiyamaCpuPlatform)
