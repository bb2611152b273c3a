"""`niyama workers`: who serves what, how busy, and how far behind, as a live table."""

import json
import time
from collections.abc import Callable
from typing import Any

from pydantic import Field
from pydantic_settings import SettingsConfigDict
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from niyama.api import Api, ApiSettings
from niyama.errors import NiyamaError
from niyama.workers_table import tables

Document = dict[str, Any]
Ask = Callable[[], Document]


class WorkersSettings(ApiSettings):
    """Show who serves what, how busy, and how far behind: a table that is kept up to date."""

    model_config = SettingsConfigDict(cli_shortcuts={"as-json": "json"})

    pool: str | None = Field(default=None, description="Only workers of this pool")
    once: bool = Field(default=False, description="Print the table once, instead of keeping it")
    as_json: bool = Field(
        default=False, description="Print what the API says of workers and pools, once"
    )
    interval_s: float = Field(
        default=1.0, ge=0.2, le=3600, description="Seconds between two looks at the API"
    )


def main(arguments: list[str]) -> int:
    """Run the command. Raises NiyamaError with a sentence for people."""
    settings = WorkersSettings.from_command_line(arguments, "niyama workers")
    console = Console(highlight=False)

    api = Api(settings)

    def ask() -> Document:
        return _asked(api, settings.pool)

    if settings.as_json:
        console.print(json.dumps(ask(), indent=2), soft_wrap=True, markup=False)
    elif settings.once or not console.is_terminal:
        console.print(*tables(ask(), console.width, settings.pool), sep="\n")
    else:
        _keep_showing(ask, console, settings)
    return 0


def _asked(api: Api, pool: str | None) -> Document:
    """The workers, and their pools."""
    workers = api.get("/v1/workers", pool=pool)
    return workers | {"pools": api.get("/v1/pools", pool=pool)["pools"]}


def _keep_showing(ask: Ask, console: Console, settings: WorkersSettings) -> None:
    """Until Ctrl-C. Raises NiyamaError when the first look finds nothing."""

    def look() -> RenderableType:
        return Group(*tables(ask(), console.width, settings.pool))

    shown = look()
    with Live(shown, console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        try:
            while True:
                time.sleep(settings.interval_s)
                try:
                    shown = look()
                    live.update(shown, refresh=True)
                except NiyamaError as error:
                    live.update(Group(shown, Text(str(error), style="red")), refresh=True)
        except KeyboardInterrupt:
            return
