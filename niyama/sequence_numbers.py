"""A record that cannot be written must not cost its producer the partition.

An idempotent producer numbers the records of each partition, and a broker takes only the next
number. aiokafka counts a batch when it takes it out of its queue, and goes on counting from there
whatever becomes of it. If its numbers are never used, because the broker refuses it (too large, not
allowed) or because it expires while the partition has no leader, the broker refuses everything
after it as out of order.
"""

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import OutOfOrderSequenceNumber, UnknownProducerId
from aiokafka.producer.transaction_manager import (
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    PidAndEpoch,
    TransactionManager,
)
from aiokafka.util import create_future


def keep_in_step(producer: AIOKafkaProducer) -> None:
    """After a batch that failed, let `producer` number the next one as the broker expects it.

    A batch that was refused, or never sent, is not in the log: the next one gets its numbers. That
    is safe, because a partition has one batch in flight. Of a batch that was sent and then expired
    nobody knows whether it was written: the producer goes on under a new producer id, from which a
    broker takes any partition's numbers from 0. So it does after a batch that is out of order. A
    transactional producer keeps its id.
    """
    numbers, batches = producer._txn_manager, producer._message_accumulator
    if numbers is None:
        return
    take = batches._pop_batch

    def take_and_watch(partition: TopicPartition) -> Any:
        first, producer_id = numbers.sequence_number(partition), numbers.producer_id
        batch = take(partition)
        fail = batch.failure

        def failed(exception: Exception) -> None:
            if not batch.future.done() and numbers.producer_id == producer_id:
                if not _was_sent(batch) or _is_refusal(exception):
                    numbers._sequence_numbers[partition] = first
                elif numbers.transactional_id is None:
                    # Not at once: the batches that are being taken need the id.
                    loop = asyncio.get_running_loop()
                    loop.call_soon(_forget_producer_id, numbers, producer_id)
            fail(exception)

        if numbers.sequence_number(partition) != first:  # not taken before
            batch.failure = failed
        return batch

    batches._pop_batch = take_and_watch


def _was_sent(batch: Any) -> bool:
    """Whether it may have been: its bytes are put together only for a request."""
    return batch._builder._buffer is not None


def _is_refusal(exception: Exception) -> bool:
    """Whether it says that nothing was written, by a broker that counts as the producer does."""
    if isinstance(exception, OutOfOrderSequenceNumber | UnknownProducerId):
        return False
    return not getattr(exception, "retriable", True)


def _forget_producer_id(numbers: TransactionManager, producer_id: int) -> None:
    """The sender asks for another before it sends anything else, except what it sends again."""
    if numbers.producer_id == producer_id:
        numbers._pid_and_epoch = PidAndEpoch(NO_PRODUCER_ID, NO_PRODUCER_EPOCH)
        numbers._pid_waiter = create_future()
        numbers._sequence_numbers.clear()
