"""`niyama up`: the local stack in the foreground, until Ctrl-C."""

import asyncio
import signal
from pathlib import Path
from typing import ClassVar

from pydantic import Field
from rich.console import Console
from rich.markup import escape

from niyama.command_settings import CommandSettings
from niyama.errors import ConfigurationError
from niyama.local.folders import default_state_dir
from niyama.local.ports import LOOPBACK
from niyama.local.stack import LocalStack, StackOptions
from niyama.local.supervisor import Notice

STYLES = {"starting": "dim", "ready": "green", "died": "bold red", "stopping": "dim"}


class UpSettings(CommandSettings):
    """Start the whole stack on this machine, until Ctrl-C.

    Arguments after -- go to `niyama worker`, SGLang's included.
    """

    unknown_arguments_hint: ClassVar[str] = "arguments for the worker go after --"

    state: Path = Field(
        default_factory=default_state_dir,
        description="Folder that keeps everything (default: ~/.local/state/niyama; as root: "
        "/var/lib/niyama)",
    )
    fresh: bool = Field(
        default=False,
        description="Delete the jobs and the ledger of earlier runs first",
    )
    model: str | None = Field(
        default=None,
        description="Name or path of a model for SGLang; without one, a tiny model",
    )
    api_host: str = Field(default=LOOPBACK, description="Address that the API listens on")
    api_port: int = Field(
        default=8080, ge=0, le=65535, description="Port that the API listens on; 0 takes a free one"
    )
    kafka_port: int = Field(
        default=9092, ge=0, le=65535, description="Port of Kafka; 0 takes a free one"
    )
    health_port: int = Field(
        default=8081,
        ge=0,
        le=65535,
        description="Port of the worker's /readyz and /metrics; 0 takes a free one",
    )
    kafka_bootstrap: str | None = Field(
        default=None,
        description="Bootstrap servers of a Kafka to use; without them, start one",
    )
    database_url: str | None = Field(
        default=None, description="A Postgres database to use; without one, start a Postgres"
    )


def main(arguments: list[str]) -> int:
    """Run until a signal. Raises NiyamaError when the stack cannot be started or stays dead."""
    own, worker_arguments = _split(arguments)
    settings = UpSettings.from_command_line(own, "niyama up")
    options = StackOptions(
        state_dir=settings.state.expanduser().absolute(),
        fresh=settings.fresh,
        api_host=settings.api_host,
        api_port=settings.api_port,
        kafka_port=settings.kafka_port,
        health_port=settings.health_port,
        kafka_bootstrap=settings.kafka_bootstrap,
        database_url=settings.database_url,
        model=settings.model,
        worker_arguments=worker_arguments,
    )
    asyncio.run(_run(options, Console(highlight=False)))
    return 0


def _split(arguments: list[str]) -> tuple[list[str], tuple[str, ...]]:
    if "--" not in arguments:
        return arguments, ()
    at = arguments.index("--")
    own, worker_arguments = arguments[:at], tuple(arguments[at + 1 :])
    if any(each.startswith("--health-port") for each in worker_arguments):
        raise ConfigurationError("--health-port goes before --: niyama up asks the worker there")
    return own, worker_arguments


async def _run(options: StackOptions, console: Console) -> None:
    stack = LocalStack(options, notify=lambda notice: _show(console, notice))
    serving = asyncio.create_task(_serve(stack, options, console))
    _end_on_signals(serving, stack, console)
    try:
        await serving
    except asyncio.CancelledError:
        console.print("stopped; the state is kept in", str(options.state_dir))


async def _serve(stack: LocalStack, options: StackOptions, console: Console) -> None:
    async with stack:
        _show_addresses(console, stack, options)
        await stack.wait()


def _end_on_signals(serving: "asyncio.Task[None]", stack: LocalStack, console: Console) -> None:
    """The first signal stops the stack in order, a second one immediately."""
    asked = False

    def end() -> None:
        nonlocal asked
        if asked:
            stack.kill()
            return
        asked = True
        console.print("stopping; once more to stop immediately")
        serving.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            loop.add_signal_handler(number, end)


def _show(console: Console, notice: Notice) -> None:
    style = STYLES[notice.state]
    console.print(
        f"[{style}]{notice.part:<9} {notice.state}[/{style}] {escape(notice.detail)}",
        soft_wrap=True,
    )


def _show_addresses(console: Console, stack: LocalStack, options: StackOptions) -> None:
    rows = {
        "API": f"{stack.api_url}  (documentation: {stack.api_url}/docs)",
        "Kafka": stack.kafka_bootstrap,
        "Postgres": stack.database_url,
        "Metrics": f"{stack.api_url}/metrics (gateway), {stack.worker_url}/metrics (worker)",
        "State": f"{options.state_dir}  (logs: */*.log)",
    }
    console.print("\n[bold]Niyama is up.[/bold] Ctrl-C stops it.")
    for name, value in rows.items():
        console.print(f"  {name:<9} {escape(value)}", soft_wrap=True)
