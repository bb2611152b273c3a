"""Asking the allow-list of SGLang's features.

`python -m workers.runtime.features` prints the table of docs/worker.md.
"""

from collections.abc import Iterator, Mapping

from workers.runtime.feature import Argument, Feature, Support
from workers.runtime.feature_list import FEATURES


def feature_of(name: str, group: str) -> Feature | None:
    """The feature that an argument belongs to, by its own name or else by its group's."""
    for key in (name, group):
        for feature in FEATURES:
            if key in feature.switches or key in feature.options:
                return feature
    return None


def refusals(arguments: Mapping[str, Argument]) -> Iterator[str]:
    """Why SGLang cannot be started with these: a sentence for each reason, with what to change."""
    for feature in FEATURES:
        if feature.support is Support.REFUSED and feature.is_on(arguments):
            yield feature.sentence
    for name, argument in arguments.items():
        if argument.is_set and feature_of(name, argument.group) is None:
            yield f"Niyama does not know what {_flag(name)} is: start without it"


def unplanned(arguments: Mapping[str, Argument]) -> Iterator[str]:
    """What is on and works, but is not planned for: a sentence for each."""
    for feature in FEATURES:
        if feature.support is Support.UNPLANNED and feature.is_on(arguments):
            yield f"{feature.name}: works, but is not planned for. {feature.sentence}"


def table() -> str:
    """All features, as Markdown."""
    parts = []
    for support in Support:
        rows = [_row(feature) for feature in FEATURES if feature.support is support]
        parts.append(f"| {support} | Turned on by | |\n|---|---|---|\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"


def _row(feature: Feature) -> str:
    flags = [f"`{_flag(name)}`" for name in feature.switches]
    turned_on_by = ", ".join([*flags, *filter(None, [feature.otherwise])])
    return f"| {feature.name} | {turned_on_by} | {feature.sentence} |"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


if __name__ == "__main__":
    print(table(), end="")  # noqa: T201
