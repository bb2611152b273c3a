"""Quality of service: what a job asks for, the named classes, and the deadlines that follow."""

import tomllib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from schemas.message import Name, Payload


class Kind(StrEnum):
    """Which deadlines a job has."""

    INTERACTIVE = "interactive"
    """The first token is due `ttft_ms` after arrival, each later one `tbt_ms` after the last."""
    BATCH = "batch"
    """The last token is due `ttlt_s` after arrival."""


DAY_S = 86_400
TtftMs = Annotated[float, Field(gt=0, le=DAY_S * 1000, allow_inf_nan=False)]
TbtMs = Annotated[float, Field(gt=0, le=60_000, allow_inf_nan=False)]
TtltS = Annotated[float, Field(gt=0, le=7 * DAY_S, allow_inf_nan=False)]


class QosTargets(Payload):
    """Explicit targets: `ttft_ms` and `tbt_ms` (interactive), or `ttlt_s` (batch)."""

    ttft_ms: TtftMs | None = None
    tbt_ms: TbtMs | None = None
    ttlt_s: TtltS | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        interactive = self.ttft_ms is not None and self.tbt_ms is not None
        half = (self.ttft_ms is None) != (self.tbt_ms is None)
        if half or interactive == (self.ttlt_s is not None):
            raise ValueError("give either ttft_ms and tbt_ms, or ttlt_s")
        return self

    @property
    def kind(self) -> Kind:
        return Kind.INTERACTIVE if self.ttlt_s is None else Kind.BATCH


@dataclass(frozen=True, slots=True)
class Qos:
    """A resolved quality of service. Interactive: `ttft_s` and `tbt_s`; batch: `ttlt_s`."""

    name: str | None
    """The class, or None when the job gave explicit targets."""
    kind: Kind
    ttft_s: float | None
    tbt_s: float | None
    ttlt_s: float | None

    def deadline_at(self, arrived_at: datetime) -> datetime:
        """When the first token (interactive) or the last one (batch) of a job is due.

        The job arrived at `arrived_at`. Both times are UTC.
        """
        due_s = self.ttlt_s if self.ttft_s is None else self.ttft_s
        assert due_s is not None
        return arrived_at + timedelta(seconds=due_s)


# q1, q2 and q3 are the evaluation tiers of the Niyama paper (arXiv 2503.22562, section 4).
SHIPPED_CLASSES: dict[str, QosTargets] = {
    "chat": QosTargets(ttft_ms=1000, tbt_ms=100),
    "q1": QosTargets(ttft_ms=6000, tbt_ms=50),
    "q2": QosTargets(ttlt_s=600),
    "q3": QosTargets(ttlt_s=1800),
    "batch-1h": QosTargets(ttlt_s=3600),
    "batch-24h": QosTargets(ttlt_s=DAY_S),
}

_CLASSES = TypeAdapter(dict[Name, QosTargets])


class UnknownQosClassError(ValueError):
    """A job names a class that is not configured."""


@dataclass(frozen=True, slots=True)
class QosCatalog:
    """The named classes of one installation."""

    classes: dict[str, QosTargets]

    @classmethod
    def shipped(cls) -> Self:
        return cls(dict(SHIPPED_CLASSES))

    @classmethod
    def load(cls, path: Path | None) -> Self:
        """Shipped classes, overridden and extended by a TOML file of `[name]` tables.

        Raises ValueError with a sentence that names the file and what to change.
        """
        if path is None:
            return cls.shipped()
        try:
            own = _CLASSES.validate_python(tomllib.loads(path.read_text()))
        except OSError as error:
            raise ValueError(f"QoS file {path} cannot be read: {error.strerror}") from error
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"QoS file {path} is not valid TOML: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ValueError(f"QoS file {path}, class {where}: {first['msg']}") from error
        return cls(SHIPPED_CLASSES | own)

    def resolve(self, qos: str | QosTargets) -> Qos:
        """The targets behind a job's `qos` field. Raises UnknownQosClassError."""
        if isinstance(qos, QosTargets):
            return _qos(None, qos)
        if qos not in self.classes:
            known = ", ".join(sorted(self.classes))
            raise UnknownQosClassError(
                f"unknown QoS class {qos!r}; this installation has {known}; "
                "or give ttft_ms and tbt_ms, or ttlt_s"
            )
        return _qos(qos, self.classes[qos])


def _qos(name: str | None, targets: QosTargets) -> Qos:
    ttft_s, tbt_s = _seconds(targets.ttft_ms), _seconds(targets.tbt_ms)
    return Qos(name, targets.kind, ttft_s, tbt_s, targets.ttlt_s)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
