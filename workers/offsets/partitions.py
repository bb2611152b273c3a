"""The partitions that this worker reads: their progress and their commits.

Kafka's classic protocol takes every partition away for the length of a rebalance, and most come
back to where they were. So a rebalance interrupts no job:

- Revoked: what is finished is committed, with the attempts that running jobs have had, so that a
  new owner can continue from there. Running jobs keep running, and what finishes is committed for
  as long as the group waits for its members.
- Given back, or new: the partition is paused until its last commit has been read and merged with
  what is known here. Then reading resumes at the first offset that needs it.
- Given to another worker: its jobs are released. The new owner runs them again, with a higher
  attempt number; a job that both happen to finish has two terminal events, of which the first
  counts.

`workers.intake.rebalance` is what aiokafka calls.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from niyama.waiting import is_set_within
from workers.offsets.group_commits import GroupCommits
from workers.offsets.lease import Lease
from workers.offsets.membership import Membership
from workers.offsets.reading import Reading
from workers.offsets.tracked_record import TrackedRecord
from workers.offsets.watermark import CommitPoint, PartitionProgress

log = logging.getLogger(__name__)

COALESCE_S = 0.02
"""What finishes within this time is committed together."""

WRITE_AHEAD_RETRY_S = 0.05


class Partitions:
    """Progress by partition, in step with the consumer group."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        admin: AIOKafkaAdminClient,
        group: str,
        *,
        session_timeout_s: float,
        clock: Callable[[], float],
    ) -> None:
        """`clock` gives seconds that go on while the process is stopped."""
        self._consumer = consumer
        self._clock = clock
        self._readings: dict[TopicPartition, Reading] = {}
        self._revoked: dict[TopicPartition, PartitionProgress] = {}
        self._membership: Membership | None = None
        """Between a revocation and the next assignment: that of the generation that ends."""
        self._assigned = asyncio.Event()
        self._commit_lock = asyncio.Lock()
        self._commit_wanted = asyncio.Event()
        self.lease = Lease(session_timeout_s, self.commit_soon, clock)
        self._commits = GroupCommits(consumer, admin, group, lease=self.lease, clock=clock)

    def __iter__(self) -> Iterator[tuple[TopicPartition, PartitionProgress]]:
        readings = list(self._readings.items())  # another thread may be asking, for /metrics
        return ((tp, reading.progress) for tp, reading in readings)

    def get(self, partition: TopicPartition) -> PartitionProgress | None:
        """None: not assigned, or its last commit is not known yet."""
        reading = self._readings.get(partition)
        return None if reading is None else reading.progress

    def reading(self, partition: TopicPartition) -> Reading | None:
        """What is fetched now belongs to it. None: not assigned, or not known yet where to read."""
        return self._readings.get(partition)

    def is_current(self, reading: Reading) -> bool:
        """False: it has ended."""
        return self._readings.get(reading.partition) is reading

    @property
    def is_idle(self) -> bool:
        """Nothing is assigned, and nothing that was assigned before may come back as it was."""
        return self._assigned.is_set() and not self._readings

    def owns(self, tracked: TrackedRecord) -> bool:
        """Whether the record is still this worker's to finish."""
        is_current = self.get(tracked.partition) is tracked.progress
        return tracked.pending.is_orphan or (is_current and tracked.is_unfinished)

    def truncate(self, partition: TopicPartition, end: int) -> None:
        """The partition's log was cut off at `end`: read on there."""
        progress = self._readings[partition].progress
        progress.truncate(end)
        self._log_changed(partition, progress)

    def restart(self, partition: TopicPartition) -> None:
        """Behind the partition's name is another log: read it from its beginning.

        What was read when the old one was last seen is certainly of that: it is nobody else's.
        """
        old = self._readings[partition].progress
        old.orphan(range(old.confirmed or 0))
        self._log_changed(partition, PartitionProgress())

    def _log_changed(self, partition: TopicPartition, progress: PartitionProgress) -> None:
        progress.replaces_commit = True
        self._commits.forget(partition)
        self._read(partition, progress)
        self.commit_soon()

    def _read(self, partition: TopicPartition, progress: PartitionProgress) -> None:
        """Read on at the first offset that needs it."""
        self._readings[partition] = Reading(partition, progress)
        if progress.position or progress.replaces_commit:  # otherwise Kafka knows no commit, either
            self._consumer.seek(partition, progress.resume_at)

    async def until_sure(self) -> None:
        """Return when what this worker works on is known to be its own.

        That is not known once its session may have ended, and between the moment when every
        member has joined again and the one when the new assignment is known.
        """
        while self._membership is not None and not self._membership.is_current(self._consumer):
            await self._assigned.wait()
        await self.lease.wait_until_valid()

    # ---- commits

    def commit_soon(self) -> None:
        """What has changed is worth a commit, together with what changes in the next moments."""
        self._commit_wanted.set()

    async def keep_committed(self, interval_s: float) -> None:
        """Commit until cancelled: every `interval_s`, and earlier after `commit_soon`.

        Commits are at least COALESCE_S apart, and take at most a fifth of the time.
        """
        while True:
            await is_set_within(self._commit_wanted, interval_s)
            self._commit_wanted.clear()
            started_s = self._clock()
            await self.commit()
            await asyncio.sleep(max(COALESCE_S, 4 * (self._clock() - started_s)))

    async def write_ahead(self, records: Sequence[TrackedRecord]) -> None:
        """Return when the state of `records` is committed.

        Or when none of them is this worker's any longer; during a rebalance nobody knows yet.
        """
        while any(map(self._may_own, records)):
            if await self.commit():
                return
            await asyncio.sleep(WRITE_AHEAD_RETRY_S)

    async def commit(self, *, crashed: bool = True) -> bool:
        """Commit what has changed, and renew the lease. `crashed` False: this worker is giving up
        its partitions.

        False, without having committed, when the group has moved on, or is about to: then a later
        commit, by this worker or by the partitions' next owner, covers at least as much.
        """
        async with self._commit_lock:
            if self._revoked:
                await self._commit_revoked()
                return False
            readings = dict(self._readings)
            due = self._commits.due(self._points(dict(self), crashed=crashed))
            if due and not await self._commits.write(due):
                return False
            for tp in due:
                if self.is_current(readings[tp]):
                    readings[tp].progress.replaces_commit = False
            return True

    async def _commit_revoked(self) -> None:
        """Commit what finishes while the group waits for all of its members."""
        if self._membership is None or not self._membership.is_current(self._consumer):
            return
        due = self._commits.due(self._points(self._revoked, crashed=False))
        if due or self.lease.is_due:
            await self._commits.write_as(self._membership, due)

    def _points(
        self, progress: Mapping[TopicPartition, PartitionProgress], *, crashed: bool
    ) -> dict[TopicPartition, CommitPoint]:
        """Of those partitions of which something was read, or committed before.

        Not of a topic that is gone: aiokafka would retry it forever, and commit nothing else.
        """
        return {
            tp: each.commit_point(crashed=crashed)
            for tp, each in progress.items()
            if self._exists(tp) and (each.position > 0 or each.replaces_commit)
        }

    def _exists(self, tp: TopicPartition) -> bool:
        return self._consumer.partitions_for_topic(tp.topic) is not None

    def _may_own(self, tracked: TrackedRecord) -> bool:
        held = (self.get(tracked.partition), self._revoked.get(tracked.partition))
        return tracked.progress in held and tracked.is_unfinished

    # ---- rebalances

    async def revoke(self) -> None:
        """Give up every partition, but remember its progress until the next `assign`."""
        self._membership = self._commits.membership()
        self._assigned.clear()
        try:
            await self.commit(crashed=False)
        except KafkaError as error:
            log.warning("not committed before a rebalance: %s", error)
        self._revoked |= dict(self)
        self._readings = {}
        self._commits.forget_all()

    async def assign(self, assigned: set[TopicPartition]) -> None:
        """Take over partitions where their last owner, possibly this worker, left them."""
        joined_s, self._membership = self._clock(), None
        for tp in self._revoked.keys() - assigned:
            self._leave(tp, self._revoked.pop(tp))
        self._assigned.set()
        committed = await self._commits.read(assigned)
        for tp in assigned:
            progress = self._revoked.pop(tp, None) or PartitionProgress()
            if tp in committed and not progress.replaces_commit:
                progress.merge(committed[tp])
            self._read(tp, progress)
        self._commits.forget_all()
        self.lease.renew(joined_s)

    def _leave(self, tp: TopicPartition, progress: PartitionProgress) -> None:
        if self._exists(tp):
            progress.give_away()
        else:  # the topic is gone: nobody else can run what was read of it
            progress.orphan(range(progress.position))
