"""Records that nobody should publish, sprinkled into every topic that is read.

Each module has the kinds of one sort, and is imported here so that `KINDS` has them all:

- `values`: bytes that are no message
- `jobs`: jobs that are refused, and valid ones with odd fields
- `headers`: of valid and of invalid jobs
- `replies`: jobs that name topics where no reply can go
- `identity`: further records with the id of somebody else's job
- `transport`: compressed records, and aborted ones
- `control`, `events`: requests to cancel, and events of jobs that nobody submitted
- `load`: load reports of workers that there are not
"""

from tests.chaos.hostile import (  # noqa: F401  each adds its kinds
    control,
    events,
    headers,
    identity,
    jobs,
    load,
    replies,
    transport,
    values,
)
from tests.chaos.hostile.kinds import KINDS, HostileRecord, Setting, kinds_for
from tests.chaos.hostile.plan import plan_records
from tests.chaos.hostile.producer import HostileProducer, SentRecord

__all__ = [
    "KINDS",
    "HostileProducer",
    "HostileRecord",
    "SentRecord",
    "Setting",
    "kinds_for",
    "plan_records",
]
