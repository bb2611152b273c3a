"""`niyama worker`: one replica of one model."""

import asyncio
import contextlib
import logging

from niyama import garbage
from niyama.ending import exit_within
from niyama.errors import ConfigurationError
from niyama.log_lines import secrets_of
from niyama.logs import configure_logging, log_uncaught_errors
from niyama.telemetry.metrics import Metrics
from niyama.telemetry.telemetry import Telemetry
from schemas.job import DEFAULT_TENANT
from workers.bootstrap import run_worker
from workers.engine.port import Engine, EngineStartError
from workers.engine.scheduling import parse_weights
from workers.health import Health, serving, watched_loop
from workers.settings import WorkerSettings
from workers.stop import Stop

log = logging.getLogger(__name__)

TINY_MODEL = "niyama-tiny"


def main(arguments: list[str]) -> int:
    """Run until a signal. Raises NiyamaError when the worker cannot start or serve."""
    settings = WorkerSettings.from_command_line(arguments, "niyama worker")
    settings.check()
    garbage.search_less_often()
    configure_logging(settings.log_level, settings.log_format, secrets_of(settings))
    log_uncaught_errors()
    health = Health()
    with (
        contextlib.closing(telemetry_of(settings)) as telemetry,
        serving(health, telemetry.metrics, settings.health_host, settings.health_port),
        asyncio.Runner(loop_factory=_loop_factory()) as runner,
    ):
        runner.run(_serve(settings, health, telemetry))
    return 0


def telemetry_of(settings: WorkerSettings) -> Telemetry:
    """The tenants that the operator names, and jobs that name none, are always measured."""
    weighted = [name for name, _ in parse_weights(settings.tenant_weights)]
    tenants = [DEFAULT_TENANT, *weighted]
    return Telemetry(settings, "niyama-worker", settings.pool, settings.worker_id, tenants)


async def _serve(settings: WorkerSettings, health: Health, telemetry: Telemetry) -> None:
    engine = _engine(settings, telemetry.metrics)
    try:
        try:
            await engine.start()
        except EngineStartError as error:
            raise ConfigurationError(str(error)) from error
        garbage.leave_out_what_exists()
        health.engine = True
        log.info("serving %s as %s", engine.model, settings.worker_id)
        stop = Stop()
        stop.on_signals()
        async with watched_loop(health, settings.hang_limit_s):
            await run_worker(settings, engine, health, stop, telemetry)
    finally:
        exit_within()
        await engine.close()


def _engine(settings: WorkerSettings, metrics: Metrics) -> Engine:
    """The engine that the settings ask for. SGLang is imported only when it is used.

    Where there is a port for it, /metrics has SGLang's own metrics, too.
    """
    if settings.engine == "null":
        from workers.engine.null import NullEngine

        return NullEngine(
            settings.served_model_name or settings.model or "null",
            token_delay_s=settings.null_token_delay_ms / 1000,
        )
    from workers.runtime.engine.sglang_engine import SglangEngine

    arguments = settings.sglang_arguments
    if settings.metrics and settings.health_port:
        from workers.runtime.engine.metrics import ARGUMENT, SglangMetrics

        metrics.registry.register(SglangMetrics())
        arguments = [ARGUMENT, *arguments]
    model, name = _model(settings)
    # SGLang's info is our debug: a line for every batch.
    level = {"debug": "info", "info": "warning"}.get(settings.log_level, settings.log_level)
    return SglangEngine(
        model,
        name,
        arguments,
        level,
        settings,
        settings.flags(),
        start_limit_s=settings.start_limit_s,
        hang_limit_s=settings.hang_limit_s,
    )


def _model(settings: WorkerSettings) -> tuple[str, str | None]:
    """Path or name of the model, and the name that jobs use."""
    if settings.model is not None:
        return settings.model, settings.served_model_name
    from workers.runtime.tiny_model import make_tiny_model

    folder = settings.model_dir.expanduser() / TINY_MODEL
    try:
        path = make_tiny_model(folder)
    except OSError as error:
        raise ConfigurationError(
            f"cannot make the tiny model in {folder}: {error.strerror}; choose another --model-dir "
            "(NIYAMA_MODEL_DIR), or name a --model (NIYAMA_MODEL)"
        ) from error
    return str(path), settings.served_model_name or TINY_MODEL


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    with contextlib.suppress(ImportError):
        import uvloop

        return uvloop.Loop
    return None
