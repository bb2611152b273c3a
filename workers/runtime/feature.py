"""A feature of SGLang, and the arguments that turn it on."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Support(StrEnum):
    TESTED = "Supported and tested"
    UNPLANNED = "Works, but plans know nothing of it: said at start"
    REFUSED = "Refused at start"


class Argument(NamedTuple):
    """One of SGLang's server arguments as it was given, or as SGLang has resolved it."""

    value: object
    default: object
    group: str
    """The namespace of SGLang's configuration that it is in, such as `exec.moe`."""

    @property
    def is_set(self) -> bool:
        return bool(self.value) and self.value != self.default


@dataclass(frozen=True, slots=True)
class Feature:
    name: str
    support: Support
    sentence: str
    """What becomes of it; for a refused one, what to change."""
    switches: tuple[str, ...] = ()
    """The arguments that turn it on."""
    options: tuple[str, ...] = ()
    """Further arguments that belong to it, and groups of them: all others in the group."""
    otherwise: str = ""
    """What turns it on beside arguments."""

    def is_on(self, arguments: Mapping[str, Argument]) -> bool:
        return any(name in arguments and arguments[name].is_set for name in self.switches)
