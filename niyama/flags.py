"""The flags of a command: one for each of its settings, and help that reads well."""

from argparse import Action, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from enum import Enum
from inspect import get_annotations, getdoc
from pathlib import Path
from textwrap import wrap
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from niyama.suggestions import with_suggestions

VARIABLE_PREFIX = "NIYAMA_"
ENVIRONMENT = """\
Options can also be set in the environment, where {flag}
is {variable}. The command line wins."""


class _Formatter(RawDescriptionHelpFormatter):
    """Leaves the line breaks of the description, and names such as SCRAM-SHA-512 in one piece."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrap(text, width, break_on_hyphens=False)


class SettingsParser(ArgumentParser):
    """Parses the flags of one settings class, grouped by the class that declares them.

    pydantic-settings adds the flags, by `add_setting`, and parses, by `parse`.
    """

    def __init__(self, settings: type[BaseSettings], program: str, *, hint: str = "") -> None:
        """`hint` is printed with unknown arguments."""
        super().__init__(
            prog=program,
            usage=f"{program} [options]",
            description=getdoc(settings),
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        any_setting = next(iter(settings.model_fields))
        self.epilog = ENVIRONMENT.format(
            flag=flag_of(any_setting), variable=variable_of(any_setting)
        )
        self.flags = ["--help"]
        self._settings = settings
        self._hint = f" ({hint})" if hint else ""
        self._shared: dict[type, Callable[..., Action]] = {}

    def add_setting(self, *names: str, **options: Any) -> Action:
        """Add the flag of one field, with help and placeholder made from the field.

        A shortcut takes the flag's place. A field without a flag takes the arguments that belong
        to none: one where it is required, otherwise any number of them.
        """
        name = options.get("dest", names[0])
        field = self._settings.model_fields[name]
        options["help"] = _help(field).replace("%", "%%")
        if "dest" not in options:
            placeholder = options["metavar"] = name.removesuffix("s").upper()
            taken = placeholder if _takes_one(field) else f"[{placeholder} ...]"
            self.usage = f"{self.usage} {taken}"
        elif "metavar" in options:  # a switch takes no value
            options["metavar"] = _placeholder(name, field.annotation)
        if flag_of(name).removeprefix("--") in (self._settings.model_config["cli_shortcuts"] or {}):
            names = tuple(each for each in names if each != flag_of(name))
        action = self._adder(name)(*names, **options)
        self.flags.extend(action.option_strings)
        return action

    def parse(self, arguments: Sequence[str], namespace: Namespace | None = None) -> Namespace:
        """Exits with a message on unknown flags, unless the settings collect them."""
        parsed, unknown = self.parse_known_args(arguments, namespace)
        if unknown and not self._settings.model_config.get("cli_ignore_unknown_args"):
            shown = with_suggestions(unknown, self.flags)
            self.error(f"unknown arguments: {shown}{self._hint}")
        return parsed

    def _adder(self, name: str) -> Callable[..., Action]:
        """The command's own settings come first; those of a base class make a group after them."""
        owner = next(base for base in self._settings.__mro__ if name in get_annotations(base))
        if owner is self._settings:
            return self.add_argument
        if owner not in self._shared:
            title = (getdoc(owner) or "").partition("\n")[0].rstrip(".")
            self._shared[owner] = self.add_argument_group(title).add_argument
        return self._shared[owner]


def flag_of(setting: str) -> str:
    """`--log-level` for `log_level`."""
    return f"--{setting.replace('_', '-')}"


def variable_of(setting: str) -> str:
    """`NIYAMA_LOG_LEVEL` for `log_level`."""
    return f"{VARIABLE_PREFIX}{setting.upper()}"


def _help(field: FieldInfo) -> str:
    """The description and the default; the description itself gives a default that is computed.

    A switch is described as what its flag does, `--no-…` where it is on by default.
    """
    text = field.description or ""
    if field.is_required():
        return f"{text} (required)"
    if field.default_factory is not None or isinstance(field.default, NoneType | bool):
        return text
    return f"{text} (default: {field.default})"


def _takes_one(field: FieldInfo) -> bool:
    return field.is_required() and get_origin(field.annotation) is not list


def _placeholder(name: str, annotation: Any) -> str:
    """Shown in place of a value: its choices, its unit, or its type."""
    if isinstance(annotation, UnionType):
        [annotation] = set(get_args(annotation)) - {NoneType}
    if get_origin(annotation) is Literal:
        return f"{{{','.join(get_args(annotation))}}}"
    if issubclass(annotation, Enum):
        return f"{{{','.join(each.value for each in annotation)}}}"
    if issubclass(annotation, Path):
        return "PATH"
    if issubclass(annotation, int | float):
        return {"s": "SECONDS", "ms": "MS"}.get(name.rpartition("_")[2], "N")
    return "TEXT"
