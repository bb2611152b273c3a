"""What Niyama remembers of a request that SGLang's scheduler has."""

from dataclasses import dataclass

from workers.policy.account import Account
from workers.policy.decision import Decision
from workers.policy.qos import RequestQos
from workers.runtime.scheduler.chunk_notes import ChunkNotes


@dataclass(slots=True)
class Progress:
    """Kept on SGLang's request itself, as `req.niyama`, for as long as SGLang has the request."""

    qos: RequestQos
    account: Account
    """By this rank's own clock."""
    queued: bool = False
    """SGLang has queued it, and the policy knows it."""
    started: bool = False
    """A chunk of its prompt has been launched."""
    parked: bool = False
    """It waits after it was parked, or is about to."""
    place: int = 0
    """In the queue: higher than that of every request that was appended before it."""
    relegated: bool = False
    """It was reported as relegated, and not as restored since."""
    restored: Decision | None = None
    """The policy has restored it; this is reported when it is launched."""
    keeps_kv: bool = True
    """The policy counts on what it has computed."""
    chunks: ChunkNotes | None = None
    """Of a request that is traced."""
