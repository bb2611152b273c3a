"""The benchmark's parts, and the cost of planning."""

import gzip
import json
from pathlib import Path

from tests.benchmarks.policy import run as bench
from tests.benchmarks.policy.parts import FILES, parts
from tests.benchmarks.policy.plan_cost import bytes_per_waiting


def _traces(folder: Path) -> Path:
    azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
        f"2023-11-16 18:17:{i:02d}.0000000,{300 + i},{5 + i}\n" for i in range(30)
    )
    plain = "num_prefill_tokens,num_decode_tokens\n" + "".join(f"{200 + i},9\n" for i in range(30))
    mooncake = "".join(
        f'{{"timestamp": {i}, "input_length": 600, "output_length": 5, "hash_ids": [1, {i + 2}]}}\n'
        for i in range(30)
    )
    texts = {"sharegpt": plain, "mooncake": mooncake}
    for name, file in FILES.items():
        text = texts.get(name, azure)
        (folder / file).write_bytes(gzip.compress(text.encode()))
    return folder


def test_every_part_has_a_name_of_its_own(tmp_path: Path) -> None:
    names = [part.name for part in parts(_traces(tmp_path))]
    assert len(names) == len(set(names))
    assert {name.split()[0] for name in names} == {
        "ablation", "bound", "burst", "busy", "cached", "capacity", "cluster", "diurnal",
        "fairness", "held-out", "jitserve", "learned", "little", "minute", "nonnegative",
        "overload", "predictor", "silo",
    }  # fmt: skip


def test_results_are_kept_and_not_made_again(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = ["--traces", str(_traces(tmp_path)), "--out", str(out), "--duration-s", "60"]
    arguments += ["--only", "burst kv 60000 edf"]
    assert bench.main(arguments) == 0
    results = json.loads(out.read_text())
    assert list(results) == ["burst kv 60000 edf"]
    results["burst kv 60000 edf"]["missed"] = 0.123
    out.write_text(json.dumps(results))
    bench.main(arguments)
    assert json.loads(out.read_text()) == results


def test_a_waiting_request_takes_less_than_two_kilobytes() -> None:
    assert bytes_per_waiting(2_000) < 2_048
