"""Statistics and tables that the benchmarks share."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from niyama.report import percentile

__all__ = ["console", "milliseconds", "percentile", "show"]

console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print one table; the first column names the row."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
