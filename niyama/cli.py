"""``niyama <command>``: finds the command among the installed ones and hands over."""

import sys
from importlib.metadata import EntryPoint, entry_points

from niyama.errors import NiyamaError

GROUP = "niyama.commands"
SUMMARIES = {
    "up": "start the whole stack on this machine: Kafka, Postgres, gateway, worker",
    "demo": "start the stack, publish a mixed workload, show how it went, stop",
    "gateway": "serve the HTTP API and keep the ledger",
    "worker": "serve a model: take jobs from Kafka into SGLang",
    "simulate": "predict how scheduling policies fare on a trace, without a GPU",
    "migrate": "bring the ledger's database to this version's schema",
}


def main() -> None:
    """Run one command. Errors meant for people are printed as such, without a traceback."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())  # noqa: T201
        raise SystemExit(0 if arguments else 2)
    command = _command(arguments[0])
    try:
        run = command.load()
        raise SystemExit(run(arguments[1:]))
    except NiyamaError as error:
        raise SystemExit(f"niyama {command.name}: {error}") from error
    except ModuleNotFoundError as error:
        raise SystemExit(_missing_extra(command.name, error)) from error


def _command(name: str) -> EntryPoint:
    found = entry_points(group=GROUP, name=name)
    if not found:
        raise SystemExit(f"niyama: no command {name!r}\n\n{_usage()}")
    return next(iter(found))


def _usage() -> str:
    names = sorted(entry_points(group=GROUP).names)
    lines = [f"  {name:<10} {SUMMARIES.get(name, '')}" for name in names]
    return "\n".join(
        ["usage: niyama <command> [options]", "", *lines, "", "niyama <command> --help tells more"]
    )


def _missing_extra(command: str, error: ModuleNotFoundError) -> str:
    if (error.name or "").partition(".")[0] in ("gateway", "niyama", "schemas", "workers"):
        raise error  # a broken installation, not a missing extra
    extra = {"worker": "worker", "simulate": "simulator", "up": "local", "demo": "local"}.get(
        command, "gateway"
    )
    return f"niyama {command} needs {error.name}: pip install 'niyama[{extra}]'"
