"""`niyama <command>`: finds the command among the installed ones and hands over."""

import sys
from importlib.metadata import EntryPoint, entry_points, version

from niyama.errors import NiyamaError
from niyama.suggestions import suggest

GROUP = "niyama.commands"
SUMMARIES = {
    "up": "start the whole stack here: Kafka, Postgres, gateway, worker",
    "demo": "run a mixed workload through a stack of its own",
    "gateway": "serve the HTTP API and keep the ledger",
    "worker": "serve a model: take jobs from Kafka into SGLang",
    "status": "show a job, where its time went, and why it was late",
    "workers": "show who serves what, how busy, and how far behind",
    "simulate": "predict how scheduling policies fare on a trace, without a GPU",
    "replies": "list, retry or drop undeliverable replies",
    "migrate": "bring the ledger's database to this version's schema",
}
OPTIONS = ("--help", "--version")
EXTRAS = {"worker": "worker", "simulate": "simulator", "up": "local", "demo": "local"}
"""What to install for a command; the other commands come with the gateway."""


def main() -> None:
    """Run one command. Errors meant for people are printed as such, without a traceback."""
    arguments = sys.argv[1:]
    match arguments:
        case []:
            print(_usage())  # noqa: T201
            raise SystemExit(2)
        case ["-h" | "--help" | "help", *_]:
            print(_usage())  # noqa: T201
        case ["-V" | "--version", *_]:
            print(f"niyama {version('niyama')}")  # noqa: T201
        case [name, *rest]:
            _run(_command(name), rest)


def _run(command: EntryPoint, arguments: list[str]) -> None:
    try:
        raise SystemExit(command.load()(arguments))
    except NiyamaError as error:
        raise SystemExit(f"niyama {command.name}: {error}") from error
    except ModuleNotFoundError as error:
        raise SystemExit(_missing_extra(command.name, error)) from error


def _command(name: str) -> EntryPoint:
    commands = entry_points(group=GROUP)
    if name in commands.names:
        return commands[name]
    kind, known = ("option", OPTIONS) if name.startswith("-") else ("command", commands.names)
    if close := suggest(name, known):
        raise SystemExit(f"niyama: there is no {kind} {name!r}; did you mean {close}?")
    raise SystemExit(f"niyama: there is no {kind} {name!r}\n\n{_usage()}")


def _usage() -> str:
    names = sorted(entry_points(group=GROUP).names)
    commands = "\n".join(f"  {name:<14} {SUMMARIES.get(name, '')}" for name in names)
    return f"""\
usage: niyama <command> [options]

commands:
{commands}

options:
  -h, --help     show this help message and exit
  -V, --version  show the version and exit

`niyama <command> --help` lists the options of a command."""


def _missing_extra(command: str, error: ModuleNotFoundError) -> str:
    if (error.name or "").partition(".")[0] in ("gateway", "niyama", "schemas", "workers"):
        raise error  # a broken installation, not a missing extra
    extra = EXTRAS.get(command, "gateway")
    return f"niyama {command} needs {error.name}: pip install 'niyama[{extra}]'"
