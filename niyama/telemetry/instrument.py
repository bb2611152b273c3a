"""What can be measured, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    COUNTER = "counter"
    """Only ever grows."""
    GAUGE = "gauge"
    """A value that goes up and down, observed when the metrics are collected."""
    HISTOGRAM = "histogram"
    """How many values there were in each of some ranges, and their sum."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """A dimension of an instrument."""

    name: str
    description: str
    bounded: bool = True
    """The values are few and known. False: they come from outside, and only so many get series of
    their own."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric under its OpenTelemetry name."""

    name: str
    kind: Kind
    unit: str
    """In UCUM: "s", "By", "1", or what is counted: "{job}"."""
    description: str
    attributes: tuple[Attribute, ...] = ()
    constant: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Attributes that conventions require and that are the same on every series."""
    buckets: tuple[float, ...] = ()
    """Of a histogram: upper bounds, each included in its bucket."""

    @property
    def is_open(self) -> bool:
        """Whether values of some attribute come from outside."""
        return not all(attribute.bounded for attribute in self.attributes)
