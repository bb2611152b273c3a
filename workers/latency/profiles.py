"""Latency profiles, built in or from a file: coefficients, KV memory, and where they come from."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from niyama.errors import ConfigurationError
from workers.latency.files import write_atomically
from workers.latency.model import Coefficients, LatencyModel


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    latency: LatencyModel
    kv_tokens: int
    provenance: str


def _vllm_step(intercept_us: float, prefill_us: float, decode_us: float) -> LatencyModel:
    regime = Coefficients(intercept_us / 1e6, 0.0, prefill_us / 1e6, decode_us / 1e6, 0.0, 0.0)
    return LatencyModel(regime, regime, split_tokens=512)


_BLIS = (
    "fitted end to end to vLLM 0.8.4 serving runs: inference-sim/inference-sim, defaults.yaml at"
    " 5197fc95 (Apache-2.0); no context-length term, so optimistic for long contexts"
)

A100_LLAMA3_8B = Profile(
    name="a100-llama3-8b",
    latency=LatencyModel(
        small=Coefficients(0.014936, 5.882e-5, 2.248e-5, 3.635e-5, 1.111e-7, 7.555e-7),
        large=Coefficients(0.005004, 2.719e-5, 6.863e-5, -4.144e-5, 1.663e-7, 2.727e-6),
        split_tokens=512,
    ),
    kv_tokens=430_000,
    provenance="the predictor released with Niyama (arXiv 2503.22562): A100, Llama-3-8B, TP 1",
)

BUILT_IN = {
    profile.name: profile
    for profile in (
        A100_LLAMA3_8B,
        Profile("a100-llama31-8b-vllm", _vllm_step(16_441.5, 47.8374, 18.2056), 29_205 * 16, _BLIS),
        Profile("h100-llama31-8b-vllm", _vllm_step(5_752.7, 17.2509, 5.9991), 29_205 * 16, _BLIS),
    )
}


class _Regime(BaseModel):
    model_config = ConfigDict(extra="forbid")

    intercept_s: float = Field(ge=0, allow_inf_nan=False)
    total_token_s: float = Field(default=0.0, allow_inf_nan=False)
    prefill_token_s: float = Field(allow_inf_nan=False)
    decode_token_s: float = Field(allow_inf_nan=False)
    decode_context_token_s: float = Field(default=0.0, allow_inf_nan=False)
    prefill_context_token_s: float = Field(default=0.0, allow_inf_nan=False)
    pair_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _tokens_take_time(self) -> Self:
        if self.total_token_s + self.prefill_token_s <= 0:
            raise ValueError("total_token_s + prefill_token_s must be above 0")
        return self


class _ProfileFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    schema_version: int = Field(default=2, ge=1, le=2)
    name: str
    small: _Regime
    large: _Regime
    split_tokens: int = Field(gt=0)
    decode_only: _Regime | None = None
    kv_tokens: int = Field(gt=0)
    provenance: str = ""


def load_profile(name_or_path: str) -> Profile:
    """A built-in profile by name, or one saved as JSON. Raises ConfigurationError."""
    if name_or_path in BUILT_IN:
        return BUILT_IN[name_or_path]
    path = Path(name_or_path)
    if not path.exists():
        raise ConfigurationError(
            f"no profile {name_or_path!r}: give a JSON file or one of {', '.join(BUILT_IN)}"
        )
    try:
        file = _ProfileFile.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigurationError(f"profile {path} cannot be used: {error}") from error
    return Profile(
        file.name,
        LatencyModel(
            Coefficients(**file.small.model_dump()),
            Coefficients(**file.large.model_dump()),
            file.split_tokens,
            Coefficients(**file.decode_only.model_dump()) if file.decode_only else None,
        ),
        file.kv_tokens,
        file.provenance,
    )


def save_profile(profile: Profile, path: Path) -> None:
    """Write a profile that `load_profile` reads back; atomically."""
    file = _ProfileFile(
        name=profile.name,
        small=_Regime(**asdict(profile.latency.small)),
        large=_Regime(**asdict(profile.latency.large)),
        split_tokens=profile.latency.split_tokens,
        decode_only=_Regime(**asdict(alone)) if (alone := profile.latency.decode_only) else None,
        kv_tokens=profile.kv_tokens,
        provenance=profile.provenance,
    )
    write_atomically(path, file.model_dump_json(indent=1) + "\n")
