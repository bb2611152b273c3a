"""The figures of docs/scheduler.md: `python -m tests.benchmarks.policy.run --traces DIR`.

Those that come from other commands have these beside them there.

DIR holds the public traces under their usual names (gzipped), see `parts.FILES`. Results go to a
JSON file after each run; what is already there is not run again. `report.py` makes the tables.
"""

import json
import re
import sys
from pathlib import Path

from pydantic import Field

from niyama.command_settings import CommandSettings
from tests.benchmarks.policy.parts import parts

_PROGRAM = "python -m tests.benchmarks.policy.run"


class BenchSettings(CommandSettings):
    """Measure what docs/scheduler.md reports."""

    traces: Path = Field(description="Folder with the public traces")
    out: Path = Field(default=Path("bench-policy.json"), description="Results, kept and added to")
    duration_s: float = Field(
        default=10_800.0,
        gt=0,
        description="Simulated time of parts without one of their own; one result file for each",
    )
    warm_up_s: float = Field(default=3_600.0, ge=0, description="Not scored at their start")
    only: str = Field(default="", description="Run the parts whose name matches this expression")


def main(arguments: list[str]) -> int:
    settings = BenchSettings.from_command_line(arguments, _PROGRAM)
    results = json.loads(settings.out.read_text()) if settings.out.exists() else {}
    for part in parts(settings.traces, settings.duration_s, settings.warm_up_s):
        if re.search(settings.only, part.name) and part.name not in results:
            results[part.name] = part.run()
            settings.out.write_text(json.dumps(results, indent=1))
            shown = {k: v for k, v in results[part.name].items() if k != "runs"}
            print(part.name, json.dumps(shown), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
