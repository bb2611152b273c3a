"""Arguments that neither the worker nor SGLang knows, found before anything is started."""

from collections.abc import Collection, Sequence

from niyama.suggestions import suggest

_HELP = (
    "`niyama worker --help` lists the worker's own arguments, "
    "`python -m sglang.launch_server --help` SGLang's"
)


def explain_unknown(
    arguments: Sequence[str], sglang_flags: Collection[str], worker_flags: Collection[str]
) -> str | None:
    """A sentence about the first `--flag` in `arguments` that SGLang does not know; None: no such.

    `--flag=value` is understood, and so is the beginning of a flag, as SGLang's parser takes it:
    where it is ambiguous, SGLang says so itself.
    """
    for argument in arguments:
        flag = argument.partition("=")[0]
        is_flag = flag.startswith("--") and len(flag) > 2 and " " not in flag
        if is_flag and not any(known.startswith(flag) for known in sglang_flags):
            suggestion = _suggestion(flag, sglang_flags, worker_flags)
            return f"unknown argument {flag}{suggestion} {_HELP}"
    return None


def _suggestion(flag: str, sglang_flags: Collection[str], worker_flags: Collection[str]) -> str:
    owners = dict.fromkeys(sglang_flags, "SGLang") | dict.fromkeys(worker_flags, "niyama worker")
    close = suggest(flag, owners)
    return f": did you mean {close} (of {owners[close]})?" if close else ";"
