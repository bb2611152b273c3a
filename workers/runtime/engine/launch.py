"""Starting SGLang: our child processes, with their signals, environment, files and failures."""

import contextlib
import logging
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sglang.srt.entrypoints.engine import Engine as SglangRuntime
from sglang.srt.utils import kill_process_tree

from workers.engine.port import EngineStartError
from workers.runtime.engine.arguments import child_environment
from workers.runtime.engine.logs import own_logging
from workers.runtime.engine.process import run_detokenizer, run_scheduler
from workers.runtime.messages import SCHEDULER_INFO_KEY

log = logging.getLogger(__name__)


def launch(
    make_arguments: Callable[[], Any], model_path: str, variables: Mapping[str, str], folder: str
) -> Any:
    """Start SGLang's engine, with Niyama's scheduler in it, and return it.

    `make_arguments` gives SGLang's ServerArgs, `variables` are added to its processes' environment
    and `folder` has its temporary files. Raises EngineStartError; no process is left behind then.
    """
    others = set(multiprocessing.active_children())
    environment = {**child_environment(), **variables}
    try:
        with (
            _default_signals(),
            own_logging(),
            _environment(environment),
            _temporary_files_in(folder),
        ):
            runtime = _Runtime(server_args=make_arguments())
        _check_scheduler(runtime)
    except Exception as error:
        kill_processes(p.pid for p in set(multiprocessing.active_children()) - others)
        raise start_error(error, model_path) from error
    return runtime


def kill_processes(pids: Iterable[int | None]) -> None:
    """Kill processes and their children, whatever state they are in."""
    for pid in pids:
        try:
            kill_process_tree(pid, wait_timeout=10)
        except RuntimeError as error:  # such as one that waits for its device in the kernel
            log.error("a process of SGLang survived SIGKILL: %s", error)


def start_error(error: Exception, model_path: str) -> EngineStartError:
    """What to tell the user about a start that failed with `error`."""
    if isinstance(error, EngineStartError):
        return error
    if isinstance(error, OSError | ValueError) and not os.path.exists(model_path):
        return EngineStartError(
            f"model {model_path!r} cannot be loaded: it is neither a local folder nor a model "
            f"that could be fetched from the hub; check the name ({error})"
        )
    return EngineStartError(f"SGLang cannot start with model {model_path!r}: {error}")


def _check_scheduler(runtime: Any) -> None:
    if not runtime._scheduler_init_result.scheduler_infos[0].get(SCHEDULER_INFO_KEY):
        raise EngineStartError(
            "SGLang did not load Niyama's scheduler: install this project so that its entry "
            "points are known, and name niyama in SGLANG_PLUGINS if that is set"
        )


class _Runtime(SglangRuntime):  # type: ignore[misc]
    """SGLang's engine with our child processes; when they fail to start, that raises here."""

    run_scheduler_process_func = staticmethod(run_scheduler)
    run_detokenizer_process_func = staticmethod(run_detokenizer)

    @classmethod
    def _launch_scheduler_processes(cls, *args: Any, **kwargs: Any) -> Any:
        signal.signal(signal.SIGQUIT, _raise_start_error)
        return super()._launch_scheduler_processes(*args, **kwargs)


def _raise_start_error(signum: int, frame: Any) -> None:
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)  # one report is enough
    raise EngineStartError("SGLang's scheduler failed while it started; its log above says why")


@contextlib.contextmanager
def _default_signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM end the start immediately: the event loop cannot handle them now."""
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the child processes that are started within."""
    before = os.environ.copy()
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]


@contextlib.contextmanager
def _temporary_files_in(folder: str) -> Iterator[None]:
    """SGLang names its sockets after temporary files that it leaves: `close` deletes them."""
    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        yield
    finally:
        tempfile.tempdir = before
