"""Laws by name, with the measurements that they were made of.

`python -m tests.benchmarks.policy.device_tables --tables DIR` derives the coefficients of the
measured devices from the public tables; here they are rounded. All are of Llama 3 8B (32 layers)
in bfloat16 on one GPU.
"""

from collections.abc import Mapping
from dataclasses import replace

from workers.latency.learner import FIRST_GUESS
from workers.latency.profiles import Profile
from workers.simulator.exact_model import exact_model
from workers.simulator.laws import (
    Convex,
    Form,
    Law,
    Operators,
    SlowMix,
    heavy_tail,
    linear,
    slow_phases,
    stalls,
)

A100 = Operators(
    dense=(
        (1, 0.00970), (16, 0.01013), (32, 0.01091), (64, 0.01123), (128, 0.01318), (192, 0.01677),
        (256, 0.01949), (384, 0.02774), (512, 0.03464), (768, 0.05294), (1024, 0.07514),
        (2048, 0.14557), (4096, 0.27357), (8192, 0.54517),
    ),
    pair_s=3.62e-9,
    decode_context_token_s=8.01e-8,
    prefill_attention_s=0.00049,
    decode_attention_s=0.00054,
)  # fmt: skip
H100 = Operators(
    dense=(
        (1, 0.00764), (16, 0.00866), (32, 0.00864), (64, 0.00893), (128, 0.00959), (192, 0.01025),
        (256, 0.01091), (384, 0.01369), (512, 0.01632), (768, 0.02138), (1024, 0.02696),
        (2048, 0.05608),
    ),
    pair_s=7.08e-10,
    decode_context_token_s=4.20e-8,
    prefill_attention_s=0.00085,
    decode_attention_s=0.00057,
    head_s=0.00037,
)  # fmt: skip
RTX_PRO_6000 = Operators(
    dense=(
        (1, 0.01014), (16, 0.01010), (32, 0.01056), (64, 0.01097), (128, 0.01158), (192, 0.01294),
        (256, 0.01389), (384, 0.01714), (512, 0.02220), (768, 0.03144), (1024, 0.03972),
        (2048, 0.07666),
    ),
    pair_s=2.58e-9,
    decode_context_token_s=9.38e-8,
    prefill_attention_s=0.00035,
    decode_attention_s=0.00040,
    mixed_factor=1.2,
    head_s=0.00074,
)  # fmt: skip

_A100_TABLES = (
    "operator times of microsoft/vidur at 7d475133 (MIT), Llama-3-8B on an A100; attention from an"
    " excerpt of 149 points, without the time of saving KV"
)
_H100_TABLES = (
    "Llama-3.1-8B layers of casys-kaist/LLMServingSim at 5daddb21 (MIT), attention kernels of"
    " inference-sim/inference-sim at a410740f (Apache-2.0)"
)
_RTX_TABLES = "Llama-3.1-8B inside vLLM, casys-kaist/LLMServingSim at 5daddb21 (MIT), RTX PRO 6000"
_A100_KV, _H100_KV, _RTX_KV = 430_000, 430_000, 560_000
"""The released predictor's figure; by memory (80 GB, 96 GB; 0.9 of it, less the weights)."""


def _a100(name: str, form: Form, source: str) -> Law:
    return Law(name, form, _A100_KV, source)


_PLAIN = _a100("a100", A100, _A100_TABLES)
LAWS: Mapping[str, Law] = {
    law.name: law
    for law in (
        _PLAIN,
        Law("h100", H100, _H100_KV, _H100_TABLES),
        Law("rtx-pro-6000", RTX_PRO_6000, _RTX_KV, _RTX_TABLES),
        _a100("convex", Convex(A100, 3e-8), "a100, and 30 ns per prompt token squared"),
        _a100(
            "host",
            replace(A100, host_s=0.0009, host_sequence_s=4.2e-5),
            "a100, and the host time of vLLM's steps as microsoft/vidur measured it at 6d98aa8f",
        ),
        _a100(
            "slow-mix",
            SlowMix(A100, 2e-6),
            "a100, and 2 us per token of a decode's context beside prompts",
        ),
        replace(
            _PLAIN,
            name="stalls",
            source="a100, and every 20 s a pause of 0.2 s on average",
            disturbances=(stalls(20.0, 0.2),),
        ),
        replace(
            _PLAIN,
            name="heavy-tail",
            source="a100, and one iteration in 50 takes a Pareto multiple (index 3) of its time",
            disturbances=(heavy_tail(0.02, 3.0),),
        ),
        replace(
            _PLAIN,
            name="slow-phases",
            source="a100, and 8 s of every 40 s at 0.8 of the speed",
            disturbances=(slow_phases(40.0, 8.0, 1.25),),
        ),
    )
}
"""What `niyama simulate --law` knows, beside the profile's own form."""


AS_PROFILE = "profile"
"""Names `law_of` among the laws."""

FIRST_GUESS_PROFILE = Profile(
    "first-guess", FIRST_GUESS, _A100_KV, "what a worker plans by on a device that it does not know"
)
EXACT = "exact"
"""Names `exact_profile` among the profiles."""


def exact_profile(law: Law) -> Profile:
    """What no scheduler can know: the law itself, undisturbed."""
    return Profile(EXACT, exact_model(law.form), law.kv_tokens, law.source)


def law_of(profile: Profile) -> Law:
    """The device is as the profile says."""
    return Law(profile.name, linear(profile.latency), profile.kv_tokens, profile.provenance)
