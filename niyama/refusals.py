"""A record that a broker refuses must not cost its producer the partition.

An idempotent producer numbers the records of each partition, and a broker takes only the next
number. aiokafka counts a batch when it sends it. When the broker refuses it (too large, not
allowed), its numbers are never used, and the broker refuses everything after it as out of order.
"""

from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition


def reuse_refused_sequence_numbers(producer: AIOKafkaProducer) -> None:
    """Give the numbers of a refused batch to the next one of its partition.

    That is safe, because a partition has one batch in flight, and because a refusal says that
    nothing was written. An error that may be repaired says nothing: then the numbers stay used.
    """
    numbers, batches = producer._txn_manager, producer._message_accumulator
    if numbers is None:
        return
    take = batches._pop_batch

    def take_and_watch(partition: TopicPartition) -> Any:
        first = numbers.sequence_number(partition)
        batch = take(partition)
        fail = batch.failure

        def failed(exception: Exception) -> None:
            if not batch.future.done() and not getattr(exception, "retriable", True):
                numbers._sequence_numbers[partition] = first
            fail(exception)

        if numbers.sequence_number(partition) != first:  # not sent before
            batch.failure = failed
        return batch

    batches._pop_batch = take_and_watch
