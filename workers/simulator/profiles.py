"""Named latency profiles: coefficients with their provenance, and the KV memory that goes along."""

from dataclasses import dataclass

from workers.niyama.latency import Coefficients, LatencyModel


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    latency: LatencyModel
    kv_tokens: int
    provenance: str


A100_LLAMA3_8B = Profile(
    name="a100-llama3-8b",
    latency=LatencyModel(
        small=Coefficients(0.014936, 5.882e-5, 2.248e-5, 3.635e-5, 1.111e-7, 7.555e-7),
        large=Coefficients(0.005004, 2.719e-5, 6.863e-5, -4.144e-5, 1.663e-7, 2.727e-6),
        split_tokens=512,
    ),
    kv_tokens=430_000,
    provenance="the predictor released with Niyama (arXiv 2503.22562): A100 80 GB, Llama-3-8B, TP 1",
)
