"""Kafka's codecs, with a bound: a few kilobytes on the wire can be gigabytes in memory."""

import struct
import zlib
from collections.abc import Callable, Iterator
from enum import IntEnum

import cramjam

MAX_GZIP_MEMBERS = 100
"""Empty ones take time all the same, and each leaves a copy of what follows it."""
_GZIP_WINDOW_BITS = 31
_GZIP_MAGIC = b"\x1f\x8b"
_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16
_FIRST_GUESS_BYTES = 64 * 1024


class Codec(IntEnum):
    """The lowest three bits of a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


class DecompressionError(ValueError):
    """The data is no such stream, or has more bytes than allowed."""


def decompress(codec: Codec, data: bytes, limit_bytes: int) -> bytes:
    """At most `limit_bytes`, or DecompressionError."""
    try:
        match codec:
            case Codec.NONE:
                return data
            case Codec.GZIP:
                return _gzip(data, limit_bytes)
            case Codec.SNAPPY:
                return _snappy(data, limit_bytes)
            case Codec.LZ4:
                return _into_growing_buffer(cramjam.lz4.decompress_into, data, limit_bytes)
            case Codec.ZSTD:
                return _into_growing_buffer(cramjam.zstd.decompress_into, data, limit_bytes)
    except (zlib.error, cramjam.DecompressionError, struct.error, OverflowError) as error:
        raise DecompressionError(f"{codec.name.lower()}: {error}") from error


def _gzip(data: bytes, limit_bytes: int) -> bytes:
    """All members, without what comes after the last one: as Java's clients read it."""
    found = bytearray()
    for _ in range(MAX_GZIP_MEMBERS):
        member = zlib.decompressobj(_GZIP_WINDOW_BITS)
        found += member.decompress(data, limit_bytes - len(found) + 1)
        if not member.eof or len(found) > limit_bytes:
            raise DecompressionError(f"gzip: cut off, or more than {limit_bytes:,} bytes")
        data = member.unused_data
        if not data.startswith(_GZIP_MAGIC):
            return bytes(found)
    raise DecompressionError(f"gzip: more than {MAX_GZIP_MEMBERS} members")


def _snappy(data: bytes, limit_bytes: int) -> bytes:
    found = bytearray()
    for block in _snappy_blocks(data):
        if len(found) + cramjam.snappy.decompress_raw_len(block) > limit_bytes:
            raise DecompressionError(f"snappy: more than {limit_bytes:,} bytes")
        found += cramjam.snappy.decompress_raw(block)
    return bytes(found)


def _snappy_blocks(data: bytes) -> Iterator[bytes]:
    """Java's clients write blocks, each after its length; librdkafka writes a single bare one."""
    if not data.startswith(_XERIAL_MAGIC):
        yield data
        return
    at = _XERIAL_HEADER_BYTES
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        at += 4
        yield data[at : at + size]
        at += size


def _into_growing_buffer(
    decompress_into: Callable[[bytes, bytearray], int], data: bytes, limit_bytes: int
) -> bytes:
    """cramjam fills a buffer of a fixed size, and fails when it is too small."""
    size = min(limit_bytes, max(_FIRST_GUESS_BYTES, 4 * len(data)))
    while True:
        buffer = bytearray(size)
        try:
            return bytes(memoryview(buffer)[: decompress_into(data, buffer)])
        except cramjam.DecompressionError:
            if size == limit_bytes:
                raise
        size = min(limit_bytes, 8 * size)
