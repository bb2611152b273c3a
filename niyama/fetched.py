"""What a consumer fetched, made readable before aiokafka decodes it.

aiokafka decodes a batch while it hands out its records. Whatever it cannot decode is raised from
`getmany`, after records of other partitions were taken out for the same call: they would be lost,
and the consumer would meet the same batch again after every restart. A producer needs no more for
that than a header's name that is not UTF-8, or a few kilobytes that decompress to gigabytes.
"""

import asyncio
import logging
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import DefaultRecordBase, DefaultRecordBatch
from aiokafka.record.util import calc_crc32c

from niyama.decompression import Codec, decompress

log = logging.getLogger(__name__)

MAX_FETCH_BYTES = 64 * 1024 * 1024
"""Of one response, decompressed; the rest is fetched again. No larger batch is read at all."""
SKIPPING_S = 0.1
"""In one response and partition, for batches that turn out to be unreadable; the rest is fetched
again. Two kilobytes may cost as much as 64 MiB, and other partitions wait meanwhile."""
CRC_ATTEMPTS = 3
"""A batch whose checksum is wrong is fetched this often: it may have been damaged on its way."""

Place = tuple[str, int, int]
"""Topic, partition, offset."""

_HEADER: struct.Struct = DefaultRecordBase.HEADER_STRUCT
_PREFIX = struct.Struct(">qi")  # of every format: the base offset, and the length that follows
_LENGTH, _ATTRIBUTES, _COUNT = 1, 5, 12  # among the header's fields
_MAGIC, _MAGIC_AT = 2, 16
_CRC_AT: int = DefaultRecordBase.CRC_OFFSET
_ATTRIBUTES_AT: int = DefaultRecordBase.ATTRIBUTES_OFFSET


def make_readable(consumer: AIOKafkaConsumer) -> None:
    """Have all that `consumer` fetches pass through a `FetchReader`."""
    client, reader = consumer._client, FetchReader()
    send, close = client.send, client.close
    # Of its own: what else waits for a thread of this process does not hold up fetches.
    thread = ThreadPoolExecutor(1, "fetched")

    async def send_and_read(node_id: int, request: Any, **options: Any) -> Any:
        response = await send(node_id, request, **options)
        if isinstance(request, FetchRequest):
            # In a thread: records that are tiny and many take seconds.
            loop = asyncio.get_running_loop()
            response.topics = await loop.run_in_executor(thread, reader.read, response.topics)
        return response

    async def close_all() -> None:
        thread.shutdown(wait=False)
        await close()

    client.send, client.close = send_and_read, close_all


class FetchReader:
    """Replaces what aiokafka cannot decode, and remembers which checksums were wrong."""

    def __init__(
        self, max_bytes: int = MAX_FETCH_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` gives seconds."""
        self._max_bytes = max_bytes
        self._clock = clock
        self._wrong_crcs: Counter[Place] = Counter()

    def read(self, topics: list[Any]) -> list[Any]:
        """The topics of one fetch response. Of each partition the last field is its batches."""
        room = self._max_bytes
        readable = []
        for topic, partitions in topics:
            read = []
            for number, *fields, data in partitions:
                data = self.read_partition(topic, number, data or b"", room)
                room -= len(data)
                read.append((number, *fields, data))
            readable.append((topic, read))
        return readable

    def read_partition(self, topic: str, partition: int, data: bytes, room: int) -> bytes:
        """`data` with every batch readable, at the same offsets, up to what is fetched again.

        At most `room` bytes and one batch.
        """
        found = list(_batches(data))
        if not found:
            return data  # nothing, or less than one batch: aiokafka says so
        kept: list[bytes] = []
        skipping_s = 0.0
        for raw in found:
            if room <= 0 or skipping_s > SKIPPING_S:
                break
            started_s = self._clock()
            try:
                batch = self._readable_batch(topic, partition, raw)
            except Exception as error:  # whatever a decoder says to bytes that anybody may write
                batch = _skipped(topic, partition, raw, error)
                skipping_s += self._clock() - started_s
            if batch is None:
                break
            room -= len(batch)
            kept.append(batch)
        return b"".join(kept)

    def _readable_batch(self, topic: str, partition: int, raw: bytes) -> bytes | None:
        """None: to be fetched again. Raises whatever a decoder raises."""
        if len(raw) < _HEADER.size or raw[_MAGIC_AT] != _MAGIC:
            return raw  # of a format that brokers before 4.0 kept in their logs
        batch = DefaultRecordBatch(raw)
        if not self._is_whole(batch, (topic, partition, batch.base_offset)):
            return None
        return _with_readable_records(raw, self._max_bytes)

    def _is_whole(self, batch: DefaultRecordBatch, place: Place) -> bool:
        """False: fetch it again. Raises ValueError when that was done often enough."""
        if batch.validate_crc():
            self._wrong_crcs.pop(place, None)
            return True
        self._wrong_crcs[place] += 1
        if self._wrong_crcs[place] == CRC_ATTEMPTS:
            del self._wrong_crcs[place]
            raise ValueError("its checksum is wrong")
        return False


def _batches(data: bytes) -> Iterator[bytes]:
    """The whole batches in `data`; the last one may have been cut off by the fetch's limit."""
    at = 0
    while at + _PREFIX.size <= len(data):
        _, length = _PREFIX.unpack_from(data, at)
        end = at + _PREFIX.size + length
        if length <= 0 or end > len(data):
            return
        yield data[at:end]
        at = end


def _skipped(topic: str, partition: int, raw: bytes, error: Exception) -> bytes:
    """The batch without its records."""
    batch = DefaultRecordBatch(raw)
    log.error(
        "skipped offsets %d to %d of %s/%d, which cannot be read: %r",
        *(batch.base_offset, batch.next_offset - 1, topic, partition, error),
    )
    return _with_payload(raw, b"", count=0)


def _with_readable_records(raw: bytes, max_bytes: int) -> bytes:
    """The batch, uncompressed, with names that can be decoded. Raises what a decoder raises."""
    batch = DefaultRecordBatch(raw)
    if batch.is_control_batch:
        return raw
    codec = Codec(batch.compression_type)
    if codec is not Codec.NONE:
        raw = _with_payload(raw, decompress(codec, raw[_HEADER.size :], max_bytes))
    try:
        _decode(raw)
    except UnicodeDecodeError:
        raw = _with_payload(raw, _with_readable_names(raw))
        _decode(raw)
    return raw


def _decode(raw: bytes) -> None:
    for _record in DefaultRecordBatch(raw):
        pass


def _with_payload(raw: bytes, payload: bytes, *, count: int | None = None) -> bytes:
    """The batch with other, uncompressed records at the same offsets."""
    fields = list(_HEADER.unpack_from(raw))
    fields[_LENGTH] = _HEADER.size - _PREFIX.size + len(payload)
    fields[_ATTRIBUTES] &= ~DefaultRecordBase.CODEC_MASK
    if count is not None:
        fields[_COUNT] = count
    header = bytearray(_HEADER.pack(*fields))
    crc = calc_crc32c(bytes(header[_ATTRIBUTES_AT:]) + payload)
    struct.pack_into(">I", header, _CRC_AT, crc)
    return bytes(header) + payload


def _with_readable_names(raw: bytes) -> bytes:
    """The records of an uncompressed batch; where a header's name is not UTF-8, with ? in it."""
    payload = bytearray(raw[_HEADER.size :])
    at = 0
    for _ in range(_HEADER.unpack_from(raw)[_COUNT]):
        _length, at = _varint(payload, at)
        at += 1  # attributes
        _timestamp, at = _varint(payload, at)
        _offset, at = _varint(payload, at)
        at = _after_bytes(payload, at)  # key
        at = _after_bytes(payload, at)  # value
        headers, at = _varint(payload, at)
        for _ in range(headers):
            size, start = _varint(payload, at)
            payload[start : start + size] = _readable_name(payload[start : start + size])
            at = _after_bytes(payload, start + size)
    return bytes(payload)


def _readable_name(name: bytearray) -> bytes | bytearray:
    """As long as `name`."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return bytes(byte if byte < 0x80 else ord("?") for byte in name)
    return name


def _after_bytes(payload: bytearray, at: int) -> int:
    """The position after a field that is its length and as many bytes; -1: null."""
    size, at = _varint(payload, at)
    return at + max(0, size)


def _varint(payload: bytearray, at: int) -> tuple[int, int]:
    """The number at `at`, and where the next field begins. Raises IndexError at the end.

    aiokafka's own, in C, checks no bounds.
    """
    number = shift = 0
    while True:
        byte = payload[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at
