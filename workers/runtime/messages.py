"""What SGLang's scheduler process says to the worker, and how it is encoded.

Decisions, and how busy the scheduler is, are one-way messages, never awaited. A decision that ends
a request goes with SGLang's own answer to it instead, so that the end and its reason arrive
together; so do, with the end of every request, where its time went and when the chunks of its
prompt ran, and, with its first token, the schedule by which its tokens are to be shown.

Heartbeats take the way of generated tokens, through every process that a token passes: they stop
when any of these hangs.
"""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from http import HTTPStatus
from typing import Any

import zmq
from pydantic import ConfigDict, TypeAdapter

from workers.engine.load import EngineLoad
from workers.engine.port import PrefillChunk, PrefillChunks
from workers.policy.account import EngineTimes
from workers.policy.decision import Decision, DecisionKind, Forecast
from workers.policy.release import Release

ADDRESS_VARIABLE = "NIYAMA_DECISIONS"
"""The worker's ZeroMQ address, in the environment that SGLang's processes inherit."""

SCHEDULER_INFO_KEY = "niyama"
"""Niyama's part of what a scheduler process reports when it is ready, and of its state later."""
RELEASE_KEY = "niyama_release"
"""Where SGLang carries the schedule: in the outputs' `meta_info`, one entry per token."""

TIMES_KEY = "niyama_times"
"""Where a request's time went, in its finish reason, as JSON: SGLang has texts and integers there.
Entries in `meta_info` would be one per token."""
PREFILL_KEY = "niyama_prefill"
"""Likewise of how a traced request's prompt was computed."""
TRACEPARENT_KEY = "traceparent"
"""In a request's `custom_params`: its W3C trace context."""

HEARTBEAT_S = 1.0
"""Between two heartbeats of a scheduler whose iterations are shorter."""
_HEARTBEAT_PREFIX = "niyama-heartbeat-"


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """How busy one scheduler is."""

    replica: int
    """Its data-parallel rank."""
    load: EngineLoad

    __pydantic_config__ = ConfigDict(ser_json_inf_nan="constants")  # null is no number


_LOADS: TypeAdapter[ReplicaLoad] = TypeAdapter(ReplicaLoad)

_FINISH_REASON_KEY = "niyama_decision"
_UNREAD_MESSAGES = 100_000
"""Kept for a worker that does not read for a while; later ones are dropped."""


class DecisionSender:
    """The scheduler's end. Without an address, as in a plain SGLang server, it does nothing."""

    def __init__(self, address: str | None, unread_messages: int = _UNREAD_MESSAGES) -> None:
        self._pending: list[Decision] = []
        self._socket: zmq.Socket[bytes] | None = None
        if address is not None:
            self._socket = zmq.Context.instance().socket(zmq.PUSH)
            self._socket.setsockopt(zmq.SNDHWM, unread_messages)
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.connect(address)

    @classmethod
    def from_environment(cls, enabled: bool = True) -> "DecisionSender":
        return cls(os.environ.get(ADDRESS_VARIABLE) if enabled else None)

    @property
    def pending(self) -> int:
        """Decisions that `flush` would send."""
        return len(self._pending)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def add(self, decision: Decision) -> None:
        if self._socket is not None:
            self._pending.append(decision)

    def send_load(self, load: EngineLoad, replica: int) -> None:
        """How busy the scheduler of this data-parallel rank is. Never blocks."""
        if self._socket is not None:
            self._send(_LOADS.dump_json(ReplicaLoad(replica, load)))

    def flush(self) -> None:
        """Send what was added as one message. Never blocks: serving goes before reporting."""
        if self._socket is None or not self._pending:
            return
        message, self._pending = encode(self._pending), []
        self._send(message)

    def _send(self, message: bytes) -> None:
        assert self._socket is not None
        with contextlib.suppress(zmq.Again):
            self._socket.send(message, zmq.DONTWAIT)


def encode(decisions: Sequence[Decision]) -> bytes:
    names = [field.name for field in fields(Decision)]  # `asdict` copies deeply, ten times slower
    rows = [{name: getattr(decision, name) for name in names} for decision in decisions]
    return json.dumps(rows).encode()


def decode(message: bytes) -> list[Decision]:
    return [_decision(**fields) for fields in json.loads(message)]


def received(message: bytes) -> list[Decision] | ReplicaLoad:
    """What one message of the scheduler says."""
    return _LOADS.validate_json(message) if message.startswith(b"{") else decode(message)


def heartbeat_id(replica: int) -> str:
    """The request id in the heartbeats of one scheduler; `replica` is its data-parallel rank."""
    return f"{_HEARTBEAT_PREFIX}{replica}"


def replica_of(request_id: str) -> int | None:
    """Whose heartbeat an output is; None when it is a request's."""
    if not request_id.startswith(_HEARTBEAT_PREFIX):
        return None
    return int(request_id.removeprefix(_HEARTBEAT_PREFIX))


def as_finish_reason(decision: Decision) -> dict[str, str | int]:
    """SGLang's finish reason of a request that was dropped: for its other clients an error,
    with the status that SGLang's waiting timeout has.
    """
    return {
        "type": "abort",
        "status_code": HTTPStatus.SERVICE_UNAVAILABLE,
        "message": f"The request has {decision.kind}: {decision.reason}.",
        _FINISH_REASON_KEY: encode([decision]).decode(),  # SGLang has texts and integers here
    }


def from_finish_reason(reason: Mapping[str, Any]) -> Decision | None:
    """The decision that ended a request; None when something else did."""
    message = reason.get(_FINISH_REASON_KEY)
    return None if message is None else decode(message.encode())[0]


def as_aborted(message: str | None) -> dict[str, str | int]:
    """The finish reason that SGLang makes of the message of an abort, for one without a reason."""
    return {"type": "abort", "message": message or "Abort in waiting queue"}


def with_account(
    reason: Mapping[str, Any], times: EngineTimes, prefill: PrefillChunks | None
) -> dict[str, Any]:
    """The finish reason of a request, with where its time went and how its prompt was computed."""
    told = {**reason, TIMES_KEY: json.dumps(times)}
    return (
        told
        if prefill is None
        else {**told, PREFILL_KEY: json.dumps((prefill.chunks, prefill.left_out))}
    )


def times_in(meta_info: Mapping[str, Any]) -> EngineTimes | None:
    """Where the time of a request that has ended went; None where nobody says so."""
    reason = meta_info.get("finish_reason") or {}
    return EngineTimes(*json.loads(reason[TIMES_KEY])) if TIMES_KEY in reason else None


def prefill_in(meta_info: Mapping[str, Any]) -> PrefillChunks | None:
    """The chunks of a request that has ended; None where nobody says so."""
    reason = meta_info.get("finish_reason") or {}
    if PREFILL_KEY not in reason:
        return None
    chunks, left_out = json.loads(reason[PREFILL_KEY])
    return PrefillChunks(tuple(PrefillChunk(*chunk) for chunk in chunks), left_out)


def release_in(meta_info: Mapping[str, Any]) -> Release | None:
    """The schedule in an output's `meta_info`, in monotonic seconds; None where there is none."""
    entries = meta_info.get(RELEASE_KEY) or ()
    return next((Release(*entry) for entry in entries if entry), None)


def _decision(kind: str, forecast: list[float] | None, **fields: Any) -> Decision:
    known = None if forecast is None else Forecast(*forecast)
    return Decision(kind=DecisionKind(kind), forecast=known, **fields)
