"""The tables and the picture, from results that are complete and from those that are not."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.policy import report

RUN = {"missed": 0.0827, "important": 0.0002}
BY_CLASS = {"interactive": 0.2, "batch": 0.05, "by_size": [0.0] * 9 + [1.0]}
RESULTS = {
    "bound code": {"throughput_limit_qps": 4.8, "least_missed": {"1.3": 0.058, "1.6": 0.11}},
    "capacity code niyama": {"first": 4.7, "envelope": 4.65, "gaps": 4.6, "runs": [RUN]},
    "overload code 1.3 niyama seed 1": RUN,
    "overload code 1.6 niyama seed 1": {"missed": 0.141, "important": 0.141, **BY_CLASS},
    "ablation conv 1.6 niyama/no-cutoff": {"missed": 1.0, "important": 1.0},
    "diurnal 1.3 niyama": {**RUN, "value_kept": 0.9, "tenants": {"a": 0.05}},
    "busy hour code smooth Q1": {"fcfs-256": 0.5, "edf-shed-256": 1.0},
    "capacity code niyama/no-alternation": {"first": 3.2, "envelope": 3.2, "gaps": 3.2},
    "jitserve conv 1.0 jitserve-512 seed 1": {"goodput_qps": 3.4, "goodput_tokens_per_s": 769.1},
    "jitserve conv 1.0 jitserve-512 seed 2": {"goodput_qps": 3.2, "goodput_tokens_per_s": 760.9},
    "jitserve conv bursty niyama": {"goodput_qps": 2.5, "goodput_tokens_per_s": 600.0},
    "learned h100 code seed 1": {"learned_qps": 9.0, "known_qps": 9.5, "learned_late_gaps": 0.001},
    "learned h100 code seed 2": {"learned_qps": 10.0, "known_qps": 10.5, "learned_late_gaps": 0.0},
    "silo code": {"qps_per_gpu": 1.5, "runs": []},
}


def test_tables_have_what_was_measured_and_dashes_for_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results.json"
    results.write_text(json.dumps(RESULTS))
    pictures = {flag: tmp_path / f"{flag}.png" for flag in ("--png", "--day-png")}
    flags = [str(part) for pair in pictures.items() for part in pair]
    assert report.main(["--results", str(results), *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| niyama | 4.70 / 4.65 / 4.60 | - / - / - | - / - / - |" in lines
    assert "| limit | 4.80 | - | - |" in lines
    assert "| niyama seed 1 | 8.27 / 14.10 / - | - / - / - | - / - / - |" in lines
    assert "| bound | 5.80 / 11.00 / - | - / - / - | - / - / - |" in lines
    assert "| niyama seed 1 | 20.00 / 5.00; 0 0 0 0 0 0 0 0 0 100 | - | - |" in lines
    assert "| niyama/no-cutoff | - | 100.00 | - |" in lines
    parts = "important 0.02, interactive -, batch -, value_kept 90.00, fairness -, a 5.00"
    assert f"| diurnal 1.3 niyama | 8.27: {parts} |" in lines
    assert '| silo code | {"qps_per_gpu": 1.5} |' in lines
    # Peaks of 2.13 requests/s at 1 per GPU and 4.27 at 4.8, against 6.4 at 3.2.
    row = "| code, smooth, 0 | 5 / 4 / 2 | 10 / 9 / 5 | 27 / 27 / 18 | 50% / 44% / 33% |"
    # Without shedding, interactive GPUs carry half as much.
    assert [line for line in lines if line.startswith(f"{row} 67% / 64% / 61% |")]
    assert "| smooth, Q1 | fcfs-256 0.50, edf-shed-256 1.00 | - | - |" in lines
    nothing = "- / - / -; - / - / -"
    assert f"| jitserve-512 | {nothing} | - / 3.30 / -; - / 765 / - | {nothing} |" in lines
    assert "| bursty niyama | -; - | 2.50; 600 | -; - |" in lines
    assert "| h100 | 95.0; 0.10 | - | - |" in lines
    for picture in pictures.values():
        assert picture.read_bytes().startswith(b"\x89PNG")
