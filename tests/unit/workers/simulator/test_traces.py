"""Trace readers, on small files of each format, and on wrong ones."""

import gzip
from pathlib import Path

import pytest

from workers.simulator.traces import TraceError, read_trace
from workers.simulator.workload import Lengths


def _write(path: Path, text: str) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:17:03.9799600,4808,10\n"
    "2023-11-16 18:17:04.2299600,3180,0\n"
)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_azure(tmp_path: Path, name: str) -> None:
    trace = read_trace(_write(tmp_path / name, AZURE))
    assert trace.lengths == (Lengths(4808, 10), Lengths(3180, 1))
    assert trace.arrivals_s == pytest.approx((0.0, 0.25))


def test_mooncake_in_milliseconds_sorted_by_time(tmp_path: Path) -> None:
    text = (
        '{"timestamp": 3000, "input_length": 7, "output_length": 2, "hash_ids": [1]}\n'
        '{"timestamp": 1000, "input_length": 5, "output_length": 3, "hash_ids": []}\n'
    )
    trace = read_trace(_write(tmp_path / "m.jsonl", text))
    assert trace.lengths == (Lengths(5, 3), Lengths(7, 2))
    assert trace.arrivals_s == (0.0, 2.0)


def test_blocks_of_a_prompt_are_whole_and_leave_its_last_token(tmp_path: Path) -> None:
    text = "".join(
        f'{{"timestamp": {at}, "input_length": 1100, "output_length": 1, "hash_ids": {blocks}}}\n'
        for at, blocks in ((0, [1, 2, 3]), (1, []))
    )
    whole = '{"timestamp": 2, "input_length": 1024, "output_length": 1, "hash_ids": [1, 2]}\n'
    trace = read_trace(_write(tmp_path / "m.jsonl", text + whole))
    assert [each.blocks for each in trace.lengths] == [(1, 2), (), (1,)]
    assert trace.shares_prefixes


def test_plain_csv_without_times(tmp_path: Path) -> None:
    trace = read_trace(_write(tmp_path / "p.csv", "num_prefill_tokens,num_decode_tokens\n74,918\n"))
    assert trace.lengths == (Lengths(74, 918),)
    assert trace.arrivals_s is None


def test_plain_csv_with_times(tmp_path: Path) -> None:
    text = "arrival_s,prompt_tokens,output_tokens\n1.5,10,20\n4,30,40\n"
    assert read_trace(_write(tmp_path / "p.csv", text)).arrivals_s == (0.0, 2.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins with ''"),
        ("hello\nworld\n", "no format known here"),
        ("prompt_tokens,output_tokens\n", "has no requests"),
        ("prompt_tokens,output_tokens\n10,20\n10,many\n", "line 3"),
        ("prompt_tokens,output_tokens\n0,20\n", "at least one token"),
        ("prompt_tokens,output_tokens\n5\n", "line 2"),
        ('{"timestamp": 0, "input_length": 3}\n', "output_length"),
        ('{"timestamp": 0, "input_length": 3, "output_length": 1}\n{oops\n', "line 2"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,2\n", "line 2"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = _write(tmp_path / "wrong.csv", text)
    with pytest.raises(TraceError, match=r"wrong\.csv") as caught:
        read_trace(path)
    assert message in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="there is no trace file"):
        read_trace(tmp_path / "none.csv")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "binary.csv"
    path.write_bytes(bytes(range(128, 256)))
    with pytest.raises(TraceError, match="is not text"):
        read_trace(path)


def test_a_broken_archive(tmp_path: Path) -> None:
    path = tmp_path / "broken.csv.gz"
    path.write_bytes(gzip.compress(AZURE.encode())[:40])
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(path)
