"""Whatever a broker serves is decoded, or skipped with a notice; it stops no consumer."""

import asyncio
import gzip
import itertools
import logging
import random
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import cramjam
import pytest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from niyama.decompression import MAX_GZIP_MEMBERS, Codec, DecompressionError, decompress
from niyama.fetched import CRC_ATTEMPTS, SKIPPING_S, FetchReader, make_readable

MAX_BYTES = 1024 * 1024
CRC_AT, ATTRIBUTES_AT, HEADER_BYTES = 17, 21, 61
Records = list[tuple[int, bytes, list[tuple[str, bytes | None]]]]


def batch(
    *values: bytes, base: int = 0, codec: Codec = Codec.NONE, name: str = "name", key: bytes = b"k"
) -> bytes:
    """A batch of records from offset `base` on, each with a header."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, 0, 2**31)
    for offset, value in enumerate(values):
        builder.append(offset, 1_000, key, value, [(name, None)])
    return with_crc(base.to_bytes(8, "big") + builder.build()[8:])


def with_crc(raw: bytes) -> bytes:
    crc = calc_crc32c(raw[ATTRIBUTES_AT:])
    return raw[:CRC_AT] + crc.to_bytes(4, "big") + raw[ATTRIBUTES_AT:]


def damaged(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])


def records(data: bytes) -> Records:
    """What aiokafka decodes."""
    found: Records = []
    batches = MemoryRecords(data)
    while batches.has_next():
        each = batches.next_batch()
        assert each.validate_crc()
        found += [(record.offset, record.value, record.headers) for record in each]
    return found


def read(data: bytes) -> Records:
    """In no time, however busy the machine is: skipping is bounded in time."""
    reader = FetchReader(MAX_BYTES, clock=lambda: 0.0)
    return records(reader.read_partition("jobs", 0, data, MAX_BYTES))


@pytest.mark.parametrize("codec", Codec)
def test_every_codec_is_read(codec: Codec) -> None:
    data = batch(b"one", b"two", base=7, codec=codec) + batch(b"three", base=9)
    values = [(7, b"one"), (8, b"two"), (9, b"three")]
    assert [(offset, value) for offset, value, _ in read(data)] == values


def test_what_is_readable_is_left_as_it_is() -> None:
    data = batch(b"one") + batch(b"two", base=1)
    assert FetchReader(MAX_BYTES).read_partition("jobs", 0, data, MAX_BYTES) == data


@pytest.mark.parametrize("codec", Codec)
def test_a_name_that_is_not_utf8_is_readable_and_the_value_untouched(codec: Codec) -> None:
    raw = batch(b"one", b"n\xffme", name="nüme", key=b"\xff")
    body = raw[HEADER_BYTES:].replace("nüme".encode(), b"n\xff\xfeme", 1)
    if codec is Codec.GZIP:
        body = zlib.compress(body, wbits=31)
    elif codec is not Codec.NONE:
        body = compressed(codec, body)
    raw = raw[:8] + (HEADER_BYTES - 12 + len(body)).to_bytes(4, "big") + raw[12:HEADER_BYTES] + body
    raw = with_crc(raw[: ATTRIBUTES_AT + 1] + bytes([codec]) + raw[ATTRIBUTES_AT + 2 :])
    assert read(raw) == [(0, b"one", [("n??me", None)]), (1, b"n\xffme", [("nüme", None)])]


def compressed(codec: Codec, data: bytes) -> bytes:
    if codec is Codec.SNAPPY:
        return bytes(cramjam.snappy.compress_raw(data))
    return bytes({Codec.LZ4: cramjam.lz4, Codec.ZSTD: cramjam.zstd}[codec].compress(data))


def test_a_damaged_batch_is_fetched_again_and_then_skipped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = batch(b"one") + damaged(batch(b"two", b"three", base=1)) + batch(b"four", base=3)
    reader = FetchReader(MAX_BYTES)
    for _ in range(CRC_ATTEMPTS - 1):
        found = records(reader.read_partition("jobs", 0, data, MAX_BYTES))
        assert [each[:2] for each in found] == [(0, b"one")]
    with caplog.at_level(logging.ERROR):
        found = records(reader.read_partition("jobs", 0, data, MAX_BYTES))
    assert [each[:2] for each in found] == [(0, b"one"), (3, b"four")]
    assert "skipped offsets 1 to 2 of jobs/0" in caplog.text


def test_the_place_of_a_skipped_batch_is_passed_over() -> None:
    """aiokafka takes the next position from the batch's header, as after a compaction."""
    raw = batch(b"one", b"two", base=5)
    data = with_crc(raw[:HEADER_BYTES] + b"\xff" * (len(raw) - HEADER_BYTES))
    batches = MemoryRecords(FetchReader(MAX_BYTES).read_partition("jobs", 0, data, MAX_BYTES))
    assert batches.has_next()
    skipped = batches.next_batch()
    assert (list(skipped), skipped.next_offset) == ([], 7)


@pytest.mark.parametrize("codec", [Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD])
def test_a_batch_that_decompresses_to_gigabytes_is_skipped(codec: Codec) -> None:
    bomb = batch(bytes(MAX_BYTES + 1), codec=codec)
    assert [each[:2] for each in read(bomb + batch(b"next", base=1))] == [(1, b"next")]


def test_one_response_is_decompressed_up_to_a_limit() -> None:
    large = bytes(MAX_BYTES // 2 + 1)
    data = b"".join(batch(large, base=base, codec=Codec.LZ4) for base in range(3))
    topics = [("jobs", [(0, None, data), (1, None, data)])]
    [(_, [first, second])] = FetchReader(MAX_BYTES).read(topics)
    assert [each[0] for each in records(first[-1])] == [0, 1]
    assert second == (1, None, b"")


def test_a_partition_full_of_bombs_does_not_keep_the_others_waiting() -> None:
    """Each of them costs a consumer as much as the most that it reads."""
    now_s = itertools.count(step=0.6 * SKIPPING_S)
    reader = FetchReader(MAX_BYTES, clock=lambda: next(now_s))
    bombs = [batch(bytes(MAX_BYTES + 1), base=base, codec=Codec.ZSTD) for base in range(99)]
    readable = [batch(b"one"), batch(b"two", base=1)]
    passed, rounds = 0, 0
    while passed < len(bombs):
        data = (b"".join(bombs[passed:]), b"".join(readable))
        [(_, parts)] = reader.read([("jobs", [(n, each) for n, each in enumerate(data)])])
        assert parts[1] == (1, data[1])
        skipped = MemoryRecords(parts[0][-1])
        while skipped.has_next():
            passed = skipped.next_batch().next_offset
        rounds += 1
    assert rounds == 50  # two each


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_an_unknown_codec_is_skipped(codec: int) -> None:
    raw = batch(b"one")
    raw = with_crc(raw[: ATTRIBUTES_AT + 1] + bytes([codec]) + raw[ATTRIBUTES_AT + 2 :])
    assert read(raw + batch(b"two", base=1))[0][:2] == (1, b"two")


def test_data_that_ends_in_the_middle_of_a_batch_is_read_up_to_there() -> None:
    data = batch(b"one") + batch(b"two", base=1)
    assert [each[:2] for each in read(data[:-5])] == [(0, b"one")]
    assert FetchReader(MAX_BYTES).read_partition("jobs", 0, data[:20], MAX_BYTES) == data[:20]


def test_random_damage_stops_nobody() -> None:
    """The checksum is right, as of bytes that a producer chose."""
    choose = random.Random(9)
    whole = batch(*(b"value" * 5 for _ in range(20)), base=3)
    for _ in range(2_000):
        raw = bytearray(whole)
        for _ in range(choose.randint(1, 4)):
            raw[choose.randrange(HEADER_BYTES, len(raw))] = choose.randrange(256)
        following = batch(b"next", base=23)
        assert read(with_crc(bytes(raw)) + following)[-1][:2] == (23, b"next")


@pytest.mark.parametrize("codec", [Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD])
def test_what_is_no_compressed_data_is_an_error(codec: Codec) -> None:
    with pytest.raises(DecompressionError):
        decompress(codec, b"\x82SNAPPY\x00" + b"\xff" * 40, 1_000)


@pytest.mark.parametrize("after", [b"", b"\x00" * 8, b"no member"])
def test_gzip_data_may_have_several_members(after: bytes) -> None:
    """Java's clients read all of them, and ignore whatever comes after the last."""
    data = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two") + after
    assert decompress(Codec.GZIP, data, 7) == b"one two"
    for limit_bytes in (3, 4, 6):
        with pytest.raises(DecompressionError, match="more than"):
            decompress(Codec.GZIP, data, limit_bytes)


def test_a_gzip_member_that_is_cut_off_or_one_too_many_is_an_error() -> None:
    member = gzip.compress(b"")
    with pytest.raises(DecompressionError, match="cut off"):
        decompress(Codec.GZIP, member + member[:-1], 7)
    assert decompress(Codec.GZIP, member * MAX_GZIP_MEMBERS, 7) == b""
    with pytest.raises(DecompressionError, match="members"):
        decompress(Codec.GZIP, member * (MAX_GZIP_MEMBERS + 1), 7)


class FakeClient:
    """Answers every fetch with nothing."""

    closed = False

    async def send(self, _node_id: int, request: FetchRequest) -> SimpleNamespace:
        return SimpleNamespace(topics=[("jobs", [(0, 0, b"")])])

    async def close(self) -> None:
        self.closed = True


async def test_a_fetch_waits_for_no_other_work_in_threads() -> None:
    client, go_on = FakeClient(), threading.Event()
    consumer: Any = SimpleNamespace(_client=client)
    make_readable(consumer)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    other = loop.run_in_executor(None, go_on.wait, 60)
    async with asyncio.timeout(60):
        fetched = await client.send(0, FetchRequest(1, 500, 1, 1, 0, []))
    assert not other.done()
    go_on.set()
    await other
    await client.close()
    assert client.closed
    assert fetched.topics == [("jobs", [(0, 0, b"")])]
