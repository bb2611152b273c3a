"""The coefficients of `workers/simulator/devices.py`, from the public tables that they come from.

`python -m tests.benchmarks.policy.device_tables --tables DIR`, where DIR has the files that `FILES`
names, each gzipped as its source has it, or as a plain CSV.

Dense points are the sum over one layer's operators, medians, times 32 layers. Attention is a least
squares fit of relative error: a constant, and seconds per pair or per token of context.
"""

import csv
import gzip
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy
from pydantic import Field

from niyama.command_settings import CommandSettings
from workers.latency.model import attention_pairs

FILES = {
    "a100 dense": "vidur_a100_llama3_8b_mlp.csv.gz",
    "a100 attention": "vidur_a100_llama3_8b_tp1_attention_excerpt.csv",
    "h100 dense": "llmservingsim_h100_llama31_8b_tp1_layers.csv.gz",
    "h100 prefill": "blis_h100_mha_prefill.csv",
    "h100 decode": "blis_h100_mha_decode.csv.gz",
    "rtx dense": "llmservingsim_rtxpro6000_llama31_8b_tp1_dense.csv.gz",
    "rtx attention": "llmservingsim_rtxpro6000_llama31_8b_tp1_attention.csv.gz",
    "host": "vidur_a100_cpu_overheads_v2.csv.gz",
}
LAYERS = 32
POINTS = (1, 16, 32, 64, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192)
_VIDUR_OPERATORS = (
    "input_layernorm", "attn_pre_proj", "attn_rope", "attn_post_proj", "post_attention_layernorm",
    "mlp_up_proj", "mlp_act", "mlp_down_proj", "add",
)  # fmt: skip
_OUTSIDE_LAYERS = ("attn", "embedding", "final_layernorm", "lm_head")
_NORMS_PER_LAYER = {"layernorm": 2}
_HOST_STEPS = (
    "schedule_median", "sampler_e2e_median", "prepare_inputs_e2e_median",
    "model_execution_launch_median", "process_model_outputs_median",
)  # fmt: skip
_HEADS = {"q_heads": "32", "kv_heads": "8"}

Row = dict[str, str]
Point = tuple[int, float]


class TableSettings(CommandSettings):
    """Print the coefficients of the measured devices."""

    tables: Path = Field(description="Folder with the public tables")


def main(arguments: list[str]) -> int:
    settings = TableSettings.from_command_line(arguments, "device-tables")
    tables = {name: _read(settings.tables / file) for name, file in FILES.items()}
    for part in (_a100, _h100, _rtx, _host):
        print(*part(tables), sep="\n", end="\n\n")
    return 0


def _a100(tables: dict[str, list[Row]]) -> Iterable[str]:
    alone = (r for r in tables["a100 dense"] if r["num_tensor_parallel_workers"] == "1")
    dense = {
        int(r["num_tokens"]): sum(float(r[f"time_stats.{o}.median"]) for o in _VIDUR_OPERATORS)
        for r in alone
    }
    yield f"a100 dense {_points(dense, 1e-3)}"
    rows = tables["a100 attention"]
    size, context = "prefill_chunk_size", "kv_cache_size"
    prefill = [
        (attention_pairs(int(r[size]), int(r[context])), float(r["attn_prefill_median_ms"]))
        for r in rows
        if r["is_prefill"] == "True"
    ]
    decode = [
        (int(r["batch_size"]) * int(r[context]), float(r["attn_decode_median_ms"]))
        for r in rows
        if r["is_prefill"] != "True"
    ]
    yield f"a100 prefill attention {_fit(prefill, 1e-3)}"
    yield f"a100 decode attention {_fit(decode, 1e-3)}"


def _h100(tables: dict[str, list[Row]]) -> Iterable[str]:
    dense: dict[int, float] = defaultdict(float)
    for r in tables["h100 dense"]:
        if r["layer_name"] not in _OUTSIDE_LAYERS:
            dense[int(r["input"])] += float(r["latency(ns)"])
    yield f"h100 dense {_points(dense, 1e-9)}"
    prefill = [
        (attention_pairs(int(r["seq_len"]), 0), float(r["latency_us"]))
        for r in tables["h100 prefill"]
        if r.items() >= _HEADS.items()
    ]
    decode = [
        (int(r["batch_size"]) * int(r["kv_len"]), float(r["latency_us"]))
        for r in tables["h100 decode"]
        if r.items() >= _HEADS.items() and r["tp"] == "1"
    ]
    yield f"h100 prefill attention {_fit(prefill, 1e-6)}"
    yield f"h100 decode attention {_fit(decode, 1e-6)}"


def _rtx(tables: dict[str, list[Row]]) -> Iterable[str]:
    dense: dict[int, float] = defaultdict(float)
    for r in tables["rtx dense"]:
        if r["layer"] not in _OUTSIDE_LAYERS:
            dense[int(r["tokens"])] += _NORMS_PER_LAYER.get(r["layer"], 1) * float(r["time_us"])
    yield f"rtx dense {_points(dense, 1e-6)}"
    prefill: dict[tuple[int, int], float] = {}
    decode: dict[tuple[int, int], float] = {}
    mixed: dict[tuple[int, int, int, int], float] = {}
    for r in tables["rtx attention"]:
        chunk, before = int(r["prefill_chunk"]), int(r["kv_prefill"])
        sequences, context = int(r["n_decode"]), int(r["kv_decode"])
        time_us = float(r["time_us"])
        if not sequences:
            prefill[chunk, before] = time_us
        elif not chunk:
            decode[sequences, context] = time_us
        else:
            mixed[chunk, before, sequences, context] = time_us
    prompts = [(attention_pairs(*at), time_us) for at, time_us in prefill.items()]
    decodes = [(float(n * context), time_us) for (n, context), time_us in decode.items()]
    yield f"rtx prefill attention {_fit(prompts, 1e-6)}"
    yield f"rtx decode attention {_fit(decodes, 1e-6)}"
    ratios = [
        time_us / (prefill[at[:2]] + decode[at[2:]])
        for at, time_us in mixed.items()
        if at[:2] in prefill and at[2:] in decode
    ]
    yield f"rtx mixed over the sum of both: median {numpy.median(ratios):.2f}"


def _host(tables: dict[str, list[Row]]) -> Iterable[str]:
    rows = [r for r in tables["host"] if "Llama-2-7b" in r["model_name"]]
    points = [(float(r["batch_size"]), sum(float(r[s]) for s in _HOST_STEPS)) for r in rows]
    yield f"host, by sequences {_fit(points, 1e-3, layers=1)}"


def _points(dense: dict[int, float], unit_s: float) -> list[Point]:
    return [(at, round(LAYERS * dense[at] * unit_s, 5)) for at in POINTS if at in dense]


def _fit(points: Sequence[tuple[float, float]], unit_s: float, layers: int = LAYERS) -> str:
    times = numpy.array([time for _, time in points])
    rows = numpy.array([(1.0, at) for at, _ in points]) / times[:, None]
    solution = numpy.linalg.lstsq(rows, numpy.ones(len(points)), rcond=None)[0]
    error = float(numpy.abs(rows @ solution - 1).mean())
    constant_s, each_s = layers * unit_s * solution
    return f"{constant_s:.3g} s, {each_s:.3g} s each; mean error {100 * error:.0f}%"


def _read(path: Path) -> list[Row]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as stream:
        return list(csv.DictReader(stream))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
