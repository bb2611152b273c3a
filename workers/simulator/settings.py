"""Settings of `niyama simulate`, and the syntax of its flags."""

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from niyama.command_settings import CommandSettings
from workers.engine.scheduling import SchedulingOptions, parse_weights
from workers.latency.profiles import BUILT_IN
from workers.policy.settings import Settings
from workers.simulator.capacity import Scoring
from workers.simulator.devices import AS_PROFILE, EXACT, FIRST_GUESS_PROFILE, LAWS
from workers.simulator.experiment import SquareWave
from workers.simulator.intervals import MOST_SEEDS
from workers.simulator.policies import POLICIES
from workers.simulator.silo import SILO
from workers.simulator.workload import Tier


class SimulateSettings(SchedulingOptions, CommandSettings):
    """Plan capacity: serve a trace with a simulated GPU under several schedulers."""

    trace: Path = Field(
        description="Requests: Azure CSV, Mooncake JSONL, or a CSV with prompt_tokens,output_tokens"
    )
    profile: str = Field(
        default="a100-llama3-8b",
        description="What schedulers believe iterations take: a JSON file, one of"
        f" {', '.join(BUILT_IN)}; {FIRST_GUESS_PROFILE.name}, with which a worker begins on a"
        f" device that it does not know; or {EXACT}, the --law itself",
    )
    law: str = Field(
        default=AS_PROFILE,
        description=f"What they really take: {AS_PROFILE}, as the profile says, or one of"
        f" {', '.join(LAWS)} (docs/scheduler.md says what these are)",
    )
    learn: bool = Field(
        default=False,
        description="Schedulers fit their model to what iterations take, as in a worker",
    )
    overlap: bool = Field(
        default=False,
        description="Iterations are planned while the one before them runs, as in SGLang",
    )
    policy: str = Field(
        default="niyama,niyama-paper,edf,fcfs",
        description=f"Schedulers, comma-separated: {', '.join(sorted([*POLICIES, SILO]))}"
        "; baselines also with chunks of their own, edf-512 for example",
    )
    qps: str = Field(default="1:6:1", description="Requests per second: N, A,B,C or FROM:TO:STEP")
    slo: str = Field(
        default="Q1=6/0.05,Q2=600,Q3=1800",
        description="Tiers in equal shares, in seconds: NAME=TTFT/TBT (interactive), NAME=TTLT"
        " (batch), NAME=deadline:TTLT (the whole answer, awaited), NAME=task:TTLT/CALLS/THINK (of"
        " all calls of a task, their mean number, and the mean time between an answer and the next"
        " call; with +left at the end each call says how many follow)",
    )
    find_capacity: bool = Field(
        default=False, description="Find the highest rate with at most 1% misses in any tier"
    )
    gpus_for: float | None = Field(
        default=None, gt=0, description="Find how many replicas this many requests/s need"
    )
    scoring: Scoring = Field(
        default="envelope",
        description="What has to be met: first, the TTFT or TTLT; envelope, also token n by"
        " TTFT + (n - 1) * TBT; gaps, TTFT or TTLT and gaps within the TBT",
    )
    arrivals: Literal["poisson", "trace", "square"] = Field(
        default="poisson",
        description="Poisson; trace: its own times, scaled to --qps; square: see --square",
    )
    square: str = Field(
        default="2:5:900",
        description="Square wave, LOW:HIGH:SECONDS: two rates in requests/s, and the time of each",
    )
    duration_s: float = Field(default=10_800, gt=0, description="Simulated time, seconds")
    warm_up_s: float = Field(default=3_600, ge=0, description="Not scored at the start, seconds")
    low_importance: float = Field(
        default=0.0, ge=0, le=1, description="Share of requests of low importance, 0 to 1"
    )
    tenants: str = Field(
        default="",
        description="Who sends the requests: NAME=SHARE, comma-separated, the shares in proportion"
        " to each other; default: one tenant",
    )
    replicas: int = Field(
        default=1, ge=1, le=64, description="Replicas that share the load, 1 to 64"
    )
    interactive_replicas: int = Field(
        default=0,
        ge=0,
        description="Interactive requests go to this many replicas only; 0: round robin over all",
    )
    kv_tokens: int | None = Field(
        default=None,
        gt=0,
        description="KV memory of a replica, tokens; default: the law's, or the profile's",
    )
    speculate: float | None = Field(
        default=None,
        ge=1,
        description="Speculative decoding: tokens that a step yields, on average over requests."
        " Iterations are of prompts or of decodes, as in SGLang; only for niyama and its variants",
    )
    draft_tokens: int = Field(
        default=4,
        ge=1,
        le=64,
        description="--speculate: tokens that a step verifies of each decode; 1: there are no"
        " drafts, and decodes only take turns with prompts",
    )
    noise: float = Field(
        default=0.03,
        ge=0,
        le=0.3,
        description="Standard deviation of iteration times, as a share of them, 0 to 0.3",
    )
    predictor_factor: float = Field(
        default=1.0,
        gt=0.1,
        lt=10,
        description="Predicted over true iteration times, 0.1 to 10; 0.8: predicted too fast",
    )
    max_chunk_tokens: int = Field(
        default=Settings().max_chunk_tokens,
        ge=1,
        description="Prompt tokens of one iteration at most, of niyama; a worker has SGLang's "
        "--chunked-prefill-size",
    )
    seed: int = Field(default=1, description="Seed of lengths, tiers, arrivals and noise")
    seeds: int = Field(
        default=1,
        ge=1,
        le=MOST_SEEDS,
        description="Run with this many seeds, from --seed on, and show means with 95% confidence"
        f" intervals (Student's t), 1 to {MOST_SEEDS}",
    )
    json_out: Path | None = Field(default=None, description="Write all figures to this JSON file")
    png: Path | None = Field(default=None, description="Plot to this PNG file")
    timeline: Path | None = Field(
        default=None,
        description="Plot one second of iterations of the first policy and rate to this PNG file",
    )

    @field_validator("trace")
    @classmethod
    def _trace_exists(cls, path: Path) -> Path:
        if not path.is_file():
            raise ValueError(f"there is no file {path}")
        return path

    @field_validator("law")
    @classmethod
    def _law_exists(cls, name: str) -> str:
        if name not in (AS_PROFILE, *LAWS):
            raise ValueError(f"no law {name!r}; there are {', '.join((AS_PROFILE, *LAWS))}")
        return name

    @field_validator("json_out", "png", "timeline")
    @classmethod
    def _can_be_written(cls, path: Path | None) -> Path | None:
        if path is not None and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
            raise ValueError(f"{path} cannot be written: name a file in a folder that exists")
        return path

    @field_validator("qps")
    @classmethod
    def _qps_parses(cls, text: str) -> str:
        parse_rates(text)
        return text

    @field_validator("slo")
    @classmethod
    def _slo_parses(cls, text: str) -> str:
        parse_tiers(text)
        return text

    @field_validator("tenants")
    @classmethod
    def _tenants_parse(cls, text: str) -> str:
        parse_weights(text)
        return text

    @field_validator("square")
    @classmethod
    def _square_parses(cls, text: str) -> str:
        parse_square(text)
        return text

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if self.profile == EXACT and self.law == AS_PROFILE:
            raise ValueError(f"--profile {EXACT} is that of a --law: name one")
        searches = self.find_capacity or self.gpus_for is not None
        if self.arrivals == "square" and searches:
            raise ValueError("a square wave has its own rates: use it without capacity searches")
        if SILO in self.policies and self.arrivals == "square":
            raise ValueError("silo has pools of fixed size: use it without a square wave")
        if self.speculate is not None and self.speculate > self.draft_tokens:
            raise ValueError("--speculate cannot be more than --draft-tokens")
        if self.seeds > 1 and (searches or self.png is not None):
            raise ValueError("--seeds is for sweeps without a picture")
        if self.interactive_replicas > self.replicas:
            raise ValueError("--interactive-replicas cannot be more than --replicas")
        return self

    @property
    def policies(self) -> list[str]:
        return [name.strip() for name in self.policy.split(",") if name.strip()]


def parse_rates(text: str) -> list[float]:
    """`4`, `1,2,3` or `1:6:0.5`, the end included."""
    try:
        if ":" in text:
            start, stop, step = (float(part) for part in text.split(":"))
            if step <= 0 or stop < start:
                raise ValueError
            rates = [start + i * step for i in range(int((stop - start) / step + 1e-9) + 1)]
        else:
            rates = [float(part) for part in text.split(",")]
    except ValueError:
        rates = []
    if not rates or not all(0 < rate < 10_000 for rate in rates):
        raise ValueError(f"{text!r} is not a rate (4), a list (1,2,3) or a range (1:6:0.5)")
    return rates


def parse_tiers(text: str) -> tuple[Tier, ...]:
    """`chat=1/0.1,tool=deadline:8,agent=task:60/4/2,batch=600`: a tier for each."""
    return tuple(_tier(part) for part in text.split(","))


def _tier(text: str) -> Tier:
    name, equals, targets = text.partition("=")
    kind, colon, numbers = targets.rpartition(":")
    numbers, plus, said = numbers.partition("+left")
    try:
        values = [float(number) for number in numbers.split("/")]
    except ValueError:
        values = []
    is_task = kind.strip() == "task"
    valid = name.strip() and equals and not said and (is_task or not plus)
    if not valid or not values or min(values[:2]) <= 0 or min(values) < 0:
        raise ValueError(_TIER_SYNTAX.format(text))
    match kind.strip(), colon, values:
        case "", "", [ttlt_s]:
            return Tier.batch(name.strip(), ttlt_s=ttlt_s)
        case "", "", [ttft_s, tbt_s]:
            return Tier.interactive(name.strip(), ttft_s=ttft_s, tbt_s=tbt_s)
        case "deadline", ":", [ttlt_s]:
            return Tier.deadline(name.strip(), ttlt_s=ttlt_s)
        case "task", ":", [ttlt_s, calls, *think] if calls >= 1 and len(think) <= 1:
            return Tier.task(
                name.strip(),
                ttlt_s=ttlt_s,
                calls=calls,
                think_s=think[0] if think else 0.0,
                says_calls_left=bool(plus),
            )
        case _:
            raise ValueError(_TIER_SYNTAX.format(text))


_TIER_SYNTAX = (
    "{!r} is not NAME=TTFT/TBT, NAME=TTLT, NAME=deadline:TTLT or NAME=task:TTLT/CALLS/THINK,"
    " in seconds"
)


def parse_square(text: str) -> SquareWave:
    """`2:5:900`: low and high rate, seconds of each."""
    try:
        low, high, half_period_s = (float(part) for part in text.split(":"))
    except ValueError:
        low = 0.0
    if low <= 0 or high <= 0 or half_period_s <= 0:
        raise ValueError(f"{text!r} is not LOW:HIGH:SECONDS, as in 2:5:900")
    return SquareWave(low, high, half_period_s)
