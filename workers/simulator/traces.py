"""Reading traces: Azure CSV, Mooncake JSONL, and plain CSV, each plain or gzipped.

| Format | Needs | Arrival times |
|---|---|---|
| Azure LLM inference 2023 CSV | `TIMESTAMP,ContextTokens,GeneratedTokens` | yes |
| Mooncake JSONL | `timestamp` (ms), `input_length`, `output_length`; optionally `hash_ids` | yes |
| plain CSV | a prompt and an output column; optionally `arrival_s` | if `arrival_s` is there |

A plain CSV calls its columns `prompt_tokens,output_tokens`, or `num_prefill_tokens` and
`num_decode_tokens`. With `hash_ids`, replicas find prefixes in their caches.
"""

import csv
import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple, TextIO

from niyama.errors import ConfigurationError
from workers.simulator.workload import BLOCK_TOKENS, Lengths


class Row(NamedTuple):
    arrival_s: float | None
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    """Blocks of the prompt, equal where the text up to their end is equal."""


_AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_PLAIN = (("prompt_tokens", "output_tokens"), ("num_prefill_tokens", "num_decode_tokens"))
_KNOWN = (
    "a trace is an Azure LLM inference CSV (TIMESTAMP,ContextTokens,GeneratedTokens), a Mooncake"
    " JSONL (timestamp, input_length, output_length), or a CSV with the columns"
    " prompt_tokens,output_tokens and optionally arrival_s"
)


class TraceError(ConfigurationError):
    """A trace cannot be used; the message names the file, the line and what to change."""


@dataclass(frozen=True, slots=True)
class Trace:
    name: str
    lengths: tuple[Lengths, ...]
    arrivals_s: tuple[float, ...] | None
    """Seconds from the first request, ascending; None when the file has no times."""

    @property
    def shares_prefixes(self) -> bool:
        """It says which prompts begin alike."""
        return any(lengths.blocks for lengths in self.lengths)


def read_trace(path: Path) -> Trace:
    """Raises TraceError for a file that is missing, unreadable, of no known format, or empty."""
    try:
        with _open(path) as stream:
            rows = list(_rows(path, stream))
    except FileNotFoundError:
        raise TraceError(f"there is no trace file {path}") from None
    except (OSError, EOFError) as error:
        raise TraceError(f"trace {path} cannot be read: {error}") from error
    except UnicodeDecodeError:
        raise TraceError(f"trace {path} is not text; {_KNOWN}") from None
    if not rows:
        raise TraceError(f"trace {path} has no requests")
    return _trace(path, rows)


def _trace(path: Path, rows: list[Row]) -> Trace:
    timed = sorted(
        (row.arrival_s, index) for index, row in enumerate(rows) if row.arrival_s is not None
    )
    if timed and len(timed) != len(rows):
        raise TraceError(f"trace {path} has arrival times in some rows only")
    if timed:
        rows = [rows[index] for _, index in timed]
    arrivals_s = tuple(time_s - timed[0][0] for time_s, _ in timed) if timed else None
    return Trace(path.name, tuple(map(_lengths, rows)), arrivals_s)


def _lengths(row: Row) -> Lengths:
    """The last token of a prompt is always computed, so its block is none to be found again."""
    blocks = row.blocks[: (row.prompt_tokens - 1) // BLOCK_TOKENS]
    return Lengths(row.prompt_tokens, row.output_tokens, blocks)


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _rows(path: Path, stream: TextIO) -> Iterator[Row]:
    first = stream.readline()
    if first.lstrip().startswith("{"):
        return _checked(path, 1, _chain(first, stream), _mooncake)
    columns = next(csv.reader([first]), [])
    index = {name.strip(): position for position, name in enumerate(columns)}
    if all(name in index for name in _AZURE):
        at = [index[name] for name in _AZURE]
        return _checked(path, 2, stream, partial(_azure, at))
    for prompt, output in _PLAIN:
        if prompt in index and output in index:
            at = [index[prompt], index[output]]
            arrival = index.get("arrival_s")
            return _checked(path, 2, stream, partial(_plain, at, arrival))
    shown = first.strip()[:60]
    raise TraceError(f"trace {path} begins with {shown!r}, which is no format known here: {_KNOWN}")


def _chain(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def _checked(
    path: Path, number: int, lines: Iterable[str], parse: Callable[[str], Row]
) -> Iterator[Row]:
    for at, line in enumerate(lines, number):
        if not line.strip():
            continue
        try:
            row = parse(line)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise TraceError(f"trace {path}, line {at}: {line.strip()[:80]!r}: {error}") from error
        if row.prompt_tokens < 1 or row.output_tokens < 0:
            raise TraceError(f"trace {path}, line {at}: prompts have at least one token")
        # A request that generated nothing still computed its prompt and one token.
        yield row._replace(output_tokens=max(1, row.output_tokens))


def _azure(at: list[int], line: str) -> Row:
    fields = next(csv.reader([line]))
    # Seven decimals in the file; datetime reads six.
    moment = datetime.fromisoformat(fields[at[0]][:26])
    return Row(moment.timestamp(), int(fields[at[1]]), int(fields[at[2]]))


def _plain(at: list[int], arrival: int | None, line: str) -> Row:
    fields = next(csv.reader([line]))
    arrival_s = None if arrival is None else float(fields[arrival])
    return Row(arrival_s, int(fields[at[0]]), int(fields[at[1]]))


def _mooncake(line: str) -> Row:
    record = json.loads(line)
    return Row(
        record["timestamp"] / 1000,
        int(record["input_length"]),
        int(record["output_length"]),
        tuple(record.get("hash_ids", ())),
    )
