"""Runs, capacity searches, clusters and the command, on small workloads."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from niyama.errors import ConfigurationError
from workers.latency.learner import FIRST_GUESS
from workers.latency.profiles import A100_LLAMA3_8B, load_profile, save_profile
from workers.policy.policy import NiyamaPolicy
from workers.policy.qos import Kind
from workers.policy.settings import Settings
from workers.simulator.capacity import Capacity, Pool, capacity_of, find_capacity, gpus_for
from workers.simulator.cluster import RoundRobin, TierAware
from workers.simulator.devices import LAWS
from workers.simulator.experiment import Experiment, SquareWave
from workers.simulator.intervals import interval
from workers.simulator.main import build_experiment, main
from workers.simulator.policies import POLICIES, policy_factory
from workers.simulator.settings import (
    SimulateSettings,
    parse_rates,
    parse_square,
    parse_tiers,
)
from workers.simulator.silo import run_silo
from workers.simulator.summary import ClassSummary, Summary, TierSummary, percentile
from workers.simulator.traces import Trace
from workers.simulator.workload import Lengths, Tier, poisson_times, square_wave_times

TRACE = Trace("small", tuple(Lengths(200 + 40 * i, 5 + i) for i in range(40)), None)
TIERS = (Tier.interactive("chat", ttft_s=2.0, tbt_s=0.05), Tier.batch("batch", ttlt_s=20.0))
EXPERIMENT = Experiment(TRACE, A100_LLAMA3_8B, TIERS, duration_s=90.0, warm_up_s=10.0)


SHORT = replace(EXPERIMENT, duration_s=45.0, warm_up_s=5.0)
BRIEF = replace(EXPERIMENT, duration_s=30.0, warm_up_s=2.0)
"""For searches, which run many times."""


@pytest.fixture(scope="module")
def silo_capacity() -> Capacity:
    return capacity_of(BRIEF, "silo", "first")


def _summary(qps: float, *, missed: float, late_gaps: float = 0.0) -> Summary:
    tiers = (TierSummary("chat", 10, missed / 2, missed, (1.0, 1.0, 1.0)),)
    nobody = ClassSummary(0, 0, 0)
    return Summary("p", qps, tiers, missed, nobody, nobody, (0.0,) * 10, 0, 0, late_gaps, 0, 0, qps)


@pytest.mark.parametrize("policy", [*sorted(POLICIES), "edf-384", "srpf-shed-384"])
def test_every_policy_serves_a_light_load_in_time(policy: str) -> None:
    summary = SHORT.run(policy, 2.0)
    assert summary.worst_tier("first") == 0
    assert summary.goodput_qps == pytest.approx(2.0, rel=0.4)
    assert [tier.tier for tier in summary.tiers] == ["chat", "batch"]


def test_policies_are_compared_on_the_same_requests() -> None:
    once, again = EXPERIMENT.requests(3.0), EXPERIMENT.requests(3.0)
    assert once == again
    faster = EXPERIMENT.requests(6.0)
    assert [r.output_tokens for r in faster[: len(once)]] == [r.output_tokens for r in once]
    assert faster[5].request.qos.arrival_s == pytest.approx(once[5].request.qos.arrival_s / 2)


def test_only_requests_of_the_window_are_scored() -> None:
    assert EXPERIMENT.window_s == (10.0, 70.0)
    tiers = EXPERIMENT.run("niyama", 2.0).tiers
    inside = [r for r in EXPERIMENT.requests(2.0) if 10.0 <= r.request.qos.arrival_s < 70.0]
    assert sum(tier.requests for tier in tiers) == len(inside)


def test_misses_are_told_by_class_and_by_tenths_of_the_prompt_lengths() -> None:
    summary = SHORT.run("niyama", 30.0)
    classes = (summary.interactive, summary.batch)
    assert [each.requests for each in classes] == [tier.requests for tier in summary.tiers]
    assert [each.missed for each in classes] == [tier.missed_envelope for tier in summary.tiers]
    assert summary.interactive.relegated + summary.batch.relegated > 0
    assert len(summary.missed_by_size) == 10
    assert sum(summary.missed_by_size) / 10 == pytest.approx(summary.missed, abs=0.01)
    assert summary.missed_by_size[0] < summary.missed < summary.missed_longest_prompts


def test_trace_arrivals_are_scaled_to_the_rate_and_repeated() -> None:
    trace = Trace("timed", (Lengths(10, 1), Lengths(20, 2)), (0.0, 1.0))
    experiment = Experiment(trace, A100_LLAMA3_8B, TIERS, duration_s=8.0, trace_arrivals=True)
    requests = experiment.requests(0.5)  # two requests in 2 s are stretched to 4 s
    assert [r.request.qos.arrival_s for r in requests] == pytest.approx([0.0, 2.0, 4.0, 6.0])
    assert [r.request.prompt_tokens for r in requests] == [10, 20, 10, 20]


def test_poisson_has_its_rate_and_a_square_wave_both_of_its() -> None:
    assert len(poisson_times(5.0, 2_000.0, random.Random(1))) == pytest.approx(10_000, rel=0.05)
    times = square_wave_times(1.0, 9.0, 100.0, 2_000.0, random.Random(1))
    low = sum(int(time / 100) % 2 == 0 for time in times)
    assert low == pytest.approx(1_000, rel=0.15)
    assert len(times) - low == pytest.approx(9_000, rel=0.05)
    assert times == sorted(times)


def test_capacity_is_found_by_bisection() -> None:
    capacity, runs = find_capacity(
        lambda qps: _summary(qps, missed=0.5 if qps > 3.3 else 0.0), "envelope"
    )
    assert capacity == pytest.approx(3.3, rel=0.01)
    assert len(runs) < 20


def test_capacity_is_zero_when_nothing_fits() -> None:
    assert find_capacity(lambda qps: _summary(qps, missed=1.0), "first")[0] == 0


def test_a_search_goes_on_from_what_is_known() -> None:
    def run(qps: float) -> Summary:
        return _summary(qps, missed=0.5 if qps > 3.3 else 0.0)

    _, known = find_capacity(run, "first", start_qps=3.2, growth=1.05)
    assert len(known) < 6
    capacity, runs = find_capacity(run, "gaps", known=known)
    assert capacity == pytest.approx(3.3, rel=0.01)
    assert runs == known


def test_scoring_by_gaps_wants_both_the_first_token_and_the_gaps() -> None:
    assert _summary(1.0, missed=0.0, late_gaps=0.005).meets("gaps")
    assert not _summary(1.0, missed=0.0, late_gaps=0.02).meets("gaps")
    assert not _summary(1.0, missed=0.5).meets("gaps")
    assert not _summary(1.0, missed=0.015).meets("envelope")
    assert _summary(1.0, missed=0.015).meets("first")


def test_silos_add_up_their_pools() -> None:
    capacity = Capacity("silo", (Pool("chat", 1 / 3, 2.0, ()), Pool("batch", 2 / 3, 4.0, ())))
    assert capacity.qps_per_gpu == pytest.approx(3.0)  # 1 / (1/6 + 1/6)
    assert gpus_for(12.0, capacity) == 2 + 2
    assert gpus_for(13.0, capacity) == 3 + 3


def test_no_number_of_replicas_helps_a_pool_without_capacity() -> None:
    capacity = Capacity("silo", (Pool("chat", 0.5, 0.0, ()), Pool("batch", 0.5, 4.0, ())))
    assert capacity.qps_per_gpu == 0
    assert gpus_for(1.0, capacity) is None


def test_silo_capacity_has_a_pool_per_kind(silo_capacity: Capacity) -> None:
    assert [pool.name for pool in silo_capacity.pools] == ["interactive", "batch"]
    assert silo_capacity.qps_per_gpu > 0


def test_a_silo_under_load_uses_its_pools_alike(silo_capacity: Capacity) -> None:
    capacities = [pool.capacity_qps for pool in silo_capacity.pools]
    shares: list[float] = []
    within, beyond = (run_silo(SHORT, capacities, qps, shares.append) for qps in (1.0, 60.0))
    assert [tier.tier for tier in within.tiers] == ["chat", "batch"]
    assert within.worst_tier("first") <= 0.01
    assert within.goodput_qps == pytest.approx(1.0, rel=0.4)
    assert all(tier.missed_first_or_last > 0.5 for tier in beyond.tiers)
    assert shares == [0.5, 1.0] * 2


def test_routers() -> None:
    replicas = [EXPERIMENT.replica("niyama", seed) for seed in range(3)]
    requests = EXPERIMENT.requests(5.0)
    chat = next(r for r in requests if r.request.qos.kind is Kind.INTERACTIVE)
    batch = next(r for r in requests if r.request.qos.kind is Kind.BATCH)
    around = RoundRobin()
    assert [around(chat, replicas) for _ in range(4)] == [0, 1, 2, 0]
    aware = TierAware(interactive=1)
    assert aware(chat, replicas) == 0
    replicas[0].submit(chat)
    assert aware(chat, replicas) == 0
    assert aware(batch, replicas) == 1


def test_a_cluster_carries_what_its_replicas_carry() -> None:
    pair = replace(SHORT, replicas=2)
    assert pair.run("niyama", 20.0).missed < SHORT.run("niyama", 20.0).missed


def test_other_seeds_have_other_requests_and_other_noise() -> None:
    other = replace(BRIEF, seed=2)
    assert other.requests(2.0) != BRIEF.requests(2.0)
    requests = BRIEF.requests(2.0)
    ends = []
    for experiment in (BRIEF, other):
        replica = experiment.replica("fcfs")
        replica.submit(requests[0])
        replica.run_until(30.0)
        ends.append(replica.outcomes[0].last_token_s)
    assert ends[0] != ends[1]


def test_percentiles_are_of_the_nearest_rank() -> None:
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile([], 99) == 0.0


def test_a_profile_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    save_profile(A100_LLAMA3_8B, path)
    assert load_profile(str(path)) == A100_LLAMA3_8B


def test_a_profile_from_before_attention_pairs_is_read(tmp_path: Path) -> None:
    regime = {"intercept_s": 0.01, "prefill_token_s": 1e-4, "decode_token_s": 1e-4}
    old = {"name": "old", "small": regime, "large": regime, "split_tokens": 512, "kv_tokens": 9}
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"schema_version": 1, **old}))
    assert load_profile(str(path)).latency.large.pair_s == 0
    free = regime | {"prefill_token_s": 0.0}
    path.write_text(json.dumps({"schema_version": 1, **old, "large": free}))
    with pytest.raises(ConfigurationError, match="must be above 0"):
        load_profile(str(path))


def test_a_wrong_profile_is_an_error_for_people(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="a100-llama3-8b"):
        load_profile("b200")
    path = tmp_path / "wrong.json"
    path.write_text('{"name": "x"}')
    with pytest.raises(ConfigurationError, match=r"wrong\.json"):
        load_profile(str(path))


def test_rates() -> None:
    assert parse_rates("4") == [4.0]
    assert parse_rates("1,2.5") == [1.0, 2.5]
    assert parse_rates("1:2:0.5") == [1.0, 1.5, 2.0]
    for wrong in ("", "x", "0", "2:1:1", "1:2", "1:2:0", "-1"):
        with pytest.raises(ValueError, match="is not a rate"):
            parse_rates(wrong)


def test_tiers() -> None:
    assert parse_tiers("chat=1/0.1,night=3600") == (
        Tier.interactive("chat", ttft_s=1.0, tbt_s=0.1),
        Tier.batch("night", ttlt_s=3600.0),
    )
    assert parse_tiers("tool=deadline:8,agent=task:60/4/2,sure=task:9/1+left") == (
        Tier.deadline("tool", ttlt_s=8.0),
        Tier.task("agent", ttlt_s=60.0, calls=4.0, think_s=2.0),
        Tier.task("sure", ttlt_s=9.0, calls=1.0, says_calls_left=True),
    )
    for wrong in ("chat", "chat=", "chat=x", "=1", "chat=1/2/3", "chat=0", "a=1+left"):
        with pytest.raises(ValueError, match="is not NAME="):
            parse_tiers(wrong)
    for wrong in ("a=deadline:8/1", "a=task:8", "a=task:8/0.5", "a=task:8/2/-1", "a=tusk:8/2"):
        with pytest.raises(ValueError, match="is not NAME="):
            parse_tiers(wrong)


def test_square() -> None:
    assert parse_square("2:5:900") == SquareWave(2.0, 5.0, 900.0)
    with pytest.raises(ValueError, match="LOW:HIGH:SECONDS"):
        parse_square("2:5")


def test_unknown_policies_name_the_known() -> None:
    with pytest.raises(ConfigurationError, match="niyama-paper"):
        policy_factory("lifo")


@pytest.mark.parametrize("name", ["niyama/no-cut", "niyama/no-give-back"])
def test_former_policy_names_are_accepted_and_shown_as_given(name: str) -> None:
    assert BRIEF.run(name, 1.0).policy == name


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "small.csv"
    rows = "".join(f"{200 + 40 * i},{5 + i}\n" for i in range(40))
    path.write_text(f"prompt_tokens,output_tokens\n{rows}")
    return path


FLAGS = ["--slo", "chat=2/0.05,batch=8", "--duration-s", "16", "--warm-up-s", "1"]


def test_a_sweep_prints_a_table_and_writes_json_and_a_picture(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, picture, second = (tmp_path / name for name in ("out.json", "out.png", "second.png"))
    arguments = ["--trace", str(trace), "--policy", "niyama,silo", "--qps", "2,4", *FLAGS]
    arguments += ["--json-out", str(out), "--png", str(picture), "--timeline", str(second)]
    assert main(arguments) == 0
    results = json.loads(out.read_text())
    assert [(r["policy"], r["qps"]) for r in results] == [
        ("niyama", 2.0), ("niyama", 4.0), ("silo", 2.0), ("silo", 4.0)
    ]  # fmt: skip
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert second.read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert shown.count("silo") == 4  # two rates, in two tables
    assert "who misses" in shown
    assert "value and fairness" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_tenants_have_a_table_of_their_own(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--trace", str(trace), "--policy", "niyama", "--qps", "2", *FLAGS]
    assert main([*arguments, "--tenants", "big=3,small=1"]) == 0
    assert "value and fairness" in capsys.readouterr().out


def test_several_seeds_are_shown_as_means_with_their_confidence(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    arguments = ["--trace", str(trace), "--policy", "srpf,edf", "--qps", "9", "--seeds", "3"]
    assert main([*arguments, *FLAGS, "--json-out", str(out)]) == 0
    runs = json.loads(out.read_text())
    assert [(run["policy"], run["seed"]) for run in runs] == [
        (policy, seed) for policy in ("srpf", "edf") for seed in (1, 2, 3)
    ]
    assert len({run["missed"] for run in runs}) > 2
    shown = capsys.readouterr().out
    assert shown.count("±") == 1 + 2 * 6
    mean, half_width = interval([100 * run["missed"] for run in runs[3:]])
    assert f"{mean:.1f}" in shown
    assert f"±{half_width:.1f}" in shown
    assert "…" not in shown


def test_an_interval_is_by_students_t() -> None:
    # Standard deviation 1, of four values 0.5, and t is 3.182 for three degrees of freedom.
    values = [5 + delta * 0.75**0.5 for delta in (-1, -1, 1, 1)]
    assert interval(values) == pytest.approx((5.0, 3.182 / 2))
    assert interval([2.0]) == (2.0, float("inf"))


def test_what_never_came_is_null_in_json(trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = ["--trace", str(trace), "--policy", "fcfs", "--qps", "200", *FLAGS]
    assert main([*arguments, "--json-out", str(out)]) == 0
    assert json.loads(out.read_text())[0]["tiers"][0]["latency_s"][-1] is None


def test_an_interrupted_sweep_shows_what_it_has(
    trace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Experiment.run

    def interrupted(
        experiment: Experiment, policy: str, qps: float, progress: Callable[[float], None]
    ) -> Summary:
        if qps > 2.0:
            raise KeyboardInterrupt
        return run(experiment, policy, qps, progress)

    monkeypatch.setattr(Experiment, "run", interrupted)
    assert main(["--trace", str(trace), "--policy", "edf", "--qps", "2,4", *FLAGS]) == 130
    shown = capsys.readouterr().out
    assert shown.count("edf") == 2  # one rate, in two tables


def test_gpus_for_a_load(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--trace", str(trace), "--policy", "niyama,silo", "--scoring", "first", *FLAGS]
    assert main([*arguments, "--gpus-for", "200"]) == 0
    assert "GPUs for 200 req/s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "lifo"], "no policy 'lifo'"),
        (["--policy", "silo", "--arrivals", "square"], "pools of fixed size"),
        (["--replicas", "2", "--interactive-replicas", "3"], "cannot be more than --replicas"),
        (["--arrivals", "trace"], "no arrival times"),
        (["--arrivals", "square", "--find-capacity"], "has its own rates"),
        (["--seeds", "2", "--find-capacity"], "--seeds is for sweeps"),
        (["--qps", "fast"], "is not a rate"),
        (["--slo", "chat"], "is not NAME="),
        (["--profile", "b200"], "no profile"),
        (["--profile", "exact"], "is that of a --law"),
        (["--law", "b200"], "no law 'b200'; there are profile, a100, h100"),
        (["--kv-tokens", "300"], "raise --kv-tokens"),
        (["--json-out", "/no/such/folder/out.json"], "cannot be written"),
    ],
)
def test_wrong_settings_are_errors_for_people(
    trace: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        main(["--trace", str(trace), *arguments])
    assert message in str(caught.value)


def test_a_trace_that_is_not_there() -> None:
    with pytest.raises(ConfigurationError, match="there is no file"):
        main(["--trace", "nowhere.csv"])


def test_the_experiment_follows_the_settings(trace: Path) -> None:
    settings = SimulateSettings(
        trace=trace,
        arrivals="square",
        kv_tokens=60_000,
        replicas=3,
        interactive_replicas=2,
        profile="first-guess",
        law="convex",
        learn=True,
        overlap=True,
    )
    experiment = build_experiment(settings)
    assert isinstance(experiment.router(), TierAware)
    assert experiment.square_wave == SquareWave(2.0, 5.0, 900.0)
    assert (experiment.kv_tokens, experiment.replicas) == (60_000, 3)
    assert experiment.profile.latency == FIRST_GUESS
    assert (experiment.law, experiment.learn, experiment.overlap) == (LAWS["convex"], True, True)


def test_the_policy_follows_the_settings_and_a_variant_changes_its_own(trace: Path) -> None:
    experiment = build_experiment(
        SimulateSettings(trace=trace, size_bias=0.25, park=False, max_chunk_tokens=512)
    )
    settings = Settings(size_bias=0.25, park=False, max_chunk_tokens=512)
    for name, expected in (
        ("niyama", settings),
        ("niyama/size-bias-50", replace(settings, size_bias=0.5)),
    ):
        policy = experiment.replica(name).policy
        assert isinstance(policy, NiyamaPolicy)
        assert policy.settings == expected
