"""Writes the published schemas from the code: `python -m schemas.publish [--check]`.

A JSON Schema for each message, in `schemas/published`; `gateway.contract` writes the AsyncAPI
document beside them. With `--check` nothing is written, and the exit status says whether the files
are up to date.
"""

import json
import sys
from pathlib import Path
from typing import Any

from schemas.control import JobControl
from schemas.event import JobEvent
from schemas.job import JobRequest
from schemas.load import LoadReport
from schemas.message import SCHEMA_VERSION, Message
from schemas.reply import ReplySent
from schemas.tokens import TokenChunk

FOLDER = Path(__file__).parent / "published"
MESSAGES: dict[str, type[Message]] = {
    "job-request": JobRequest,
    "job-event": JobEvent,
    "job-control": JobControl,
    "token-chunk": TokenChunk,
    "reply-sent": ReplySent,
    "load-report": LoadReport,
}


def documents() -> dict[str, str]:
    """File name to content, of everything that is published."""
    return {
        f"{name}.v{SCHEMA_VERSION}.schema.json": as_json(_schema(name, message))
        for name, message in MESSAGES.items()
    }


def outdated(folder: Path) -> list[str]:
    """Names of published files in `folder` that differ from what the code says."""
    return [
        name
        for name, content in documents().items()
        if not (folder / name).is_file() or (folder / name).read_text() != content
    ]


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: python -m schemas.publish [--check]\n")
        return 2
    if arguments:
        stale = outdated(FOLDER)
        sys.stdout.write(f"out of date, run make schemas: {', '.join(stale)}\n" if stale else "")
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for name, content in documents().items():
        (FOLDER / name).write_text(content)
    return 0


def as_json(document: dict[str, Any]) -> str:
    """As published. Sorted, because FastStream lists channels in no particular order."""
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _schema(name: str, message: type[Message]) -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:niyama:{name}:v{SCHEMA_VERSION}",
        **message.model_json_schema(),
    }


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
