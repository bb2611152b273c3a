"""The scheduler's parts at SGLang's seams, with the real policy and without the engine."""

import pytest

from tests.support.requests import FLAT_MODEL
from tests.support.sglang import FakeEngine, FakeRequest, request
from workers.policy.decision import DecisionKind
from workers.policy.settings import Settings, TokenTiming
from workers.runtime.messages import RELEASE_KEY, from_finish_reason
from workers.runtime.scheduler.seams import EngineRequest

CHUNK_TOKENS = 256


def make_engine(
    *, kv_tokens: int = 100_000, overlap: bool = False, timing: TokenTiming = TokenTiming.GAPS
) -> FakeEngine:
    return FakeEngine(
        FLAT_MODEL,
        Settings(token_timing=timing, max_chunk_tokens=CHUNK_TOKENS),
        kv_tokens=kv_tokens,
        overlap=overlap,
        paces=timing is TokenTiming.PACED,
    )


@pytest.fixture(params=[False, True], ids=["in step", "overlapped"])
def engine(request: pytest.FixtureRequest) -> FakeEngine:
    return make_engine(overlap=request.param)


def chat(name: str, prompt_tokens: int, max_new_tokens: int = 4) -> FakeRequest:
    return request(name, prompt_tokens, max_new_tokens, ttft_ms=1000, tbt_ms=200)


def batch(name: str, prompt_tokens: int, **qos: float) -> FakeRequest:
    return request(name, prompt_tokens, **{"ttlt_s": 600, **qos})


def prompt_tokens_run(engine: FakeEngine, name: str) -> int:
    return sum(iteration.get(name, 0) for iteration in engine.launched)


def parked(engine: FakeEngine) -> FakeRequest:
    """A batch prompt of 1,000 tokens, parked for a chat after its first chunk."""
    long = batch("long", 1000)
    engine.arrive(long)
    engine.step()
    engine.arrive(chat("chat", 300))
    engine.step()
    assert engine.reported("long") == ["started", "parked"]
    return long


# ---- parking


def test_a_chat_parks_a_batch_prompt_and_each_decision_is_reported_once(
    engine: FakeEngine,
) -> None:
    parked(engine)
    engine.run()
    assert engine.reported("long") == ["started", "parked", "resumed"]
    assert engine.reported("chat") == ["started"]


def test_a_parked_prompt_waits_again_once_its_last_chunk_has_run(engine: FakeEngine) -> None:
    long = batch("long", 1000)
    engine.arrive(long)
    engine.step()
    engine.arrive(chat("chat", 300))
    was_busy: list[bool] = []
    engine.building = lambda: was_busy.append(engine.niyama.parking.is_busy)
    engine.step()
    assert was_busy == [True]
    assert not engine.niyama.parking.is_busy
    assert engine.waiting_queue == [long]
    assert long.niyama.parked


def test_parking_is_no_retraction(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    retracted: list[str] = []
    monkeypatch.setattr(engine.driver, "retracted", lambda rid, now_s: retracted.append(rid))
    parked(engine)
    engine.run()
    assert retracted == []


def test_a_parked_prompt_continues_from_what_it_has_computed(engine: FakeEngine) -> None:
    parked(engine)
    assert engine.cached["long"] == CHUNK_TOKENS
    engine.run()
    assert prompt_tokens_run(engine, "long") == 1000
    assert prompt_tokens_run(engine, "chat") == 300


def test_what_the_cache_evicts_of_a_parked_prompt_is_computed_again(engine: FakeEngine) -> None:
    parked(engine)
    engine.cached["long"] = 100
    engine.run()
    assert prompt_tokens_run(engine, "long") == CHUNK_TOKENS + 1000 - 100


def test_the_policy_counts_a_parked_prompts_kv_as_held(engine: FakeEngine) -> None:
    parked(engine)
    assert engine.niyama.parking.kept_tokens == CHUNK_TOKENS
    free = engine.free_kv_tokens()
    engine.step()
    assert engine.planned_kv_tokens[-1] == free - CHUNK_TOKENS
    engine.run()
    assert engine.niyama.parking.kept_tokens == 0


def test_kv_that_is_given_back_counts_as_free(engine: FakeEngine) -> None:
    parked(engine)
    engine.niyama.parking.reclaim_kv(["long", "unknown"])
    assert engine.niyama.parking.kept_tokens == 0
    engine.run()
    assert engine.reported("long") == ["started", "parked", "resumed"]


def test_a_prompt_that_gives_its_kv_back_while_in_progress_keeps_none_when_parked(
    engine: FakeEngine,
) -> None:
    engine.arrive(batch("long", 1000))
    engine.step()
    engine.niyama.parking.reclaim_kv(["long"])
    engine.arrive(chat("chat", 300))
    engine.step()
    assert engine.reported("long") == ["started", "parked"]
    assert engine.niyama.parking.kept_tokens == 0
    engine.run()


def test_without_memory_for_another_prompt_the_one_in_progress_continues() -> None:
    engine = make_engine()
    engine.arrive(batch("long", 1000))
    engine.step()
    engine.arrive(chat("chat", 300))

    def take_memory() -> None:
        engine.kv_tokens = 0

    engine.building = take_memory
    engine.step()
    assert engine.reported("long") == ["started"]
    assert engine.launched[-1] == {"long": CHUNK_TOKENS}
    assert engine.reported("chat") == []
    engine.building, engine.kv_tokens = lambda: None, 100_000
    engine.run()
    assert engine.reported("chat") == ["started"]


def test_a_request_that_sglang_refused_closes_the_batch_to_nobody_else(
    engine: FakeEngine,
) -> None:
    """SGLang keeps more memory for answers than the policy does, and refuses what that plans."""
    engine.arrive(batch("answer", 100, max_new_tokens=50))
    engine.step()
    engine.running.batch_is_full = True
    engine.arrive(chat("chat", 100))
    engine.step()
    engine.step()
    assert engine.reported("chat") == ["started"]


def test_a_prompt_that_cannot_be_resumed_is_not_parked(engine: FakeEngine) -> None:
    long = batch("long", 1000)
    long.skip_radix_cache_insert = True
    engine.arrive(long)
    engine.step()
    engine.arrive(chat("chat", 300))
    engine.run()
    assert engine.reported("long") == ["started"]


def test_prefixes_of_parked_prompts_are_refreshed_in_the_cache(engine: FakeEngine) -> None:
    parked(engine)
    for _ in range(32):
        engine.niyama.parking.planned()
    assert engine.touched == ["long"]


# ---- arrivals


def test_what_arrives_while_a_batch_is_being_made_is_planned_next(engine: FakeEngine) -> None:
    engine.arrive(batch("first", 100))
    engine.building = lambda: engine.arrive(chat("late", 50))
    engine.step()
    engine.building = lambda: None
    assert engine.launched == [{"first": 100}]
    assert [req.rid for req in engine.waiting_queue] == ["late"]
    engine.step()
    assert engine.launched[1] == {"late": 50}
    engine.run()


def test_when_sglang_raises_nothing_is_lost() -> None:
    engine = make_engine()
    engine.arrive(batch("a", 100), batch("b", 100))

    def fail() -> None:
        raise RuntimeError("no memory")

    engine.building = fail
    with pytest.raises(RuntimeError, match="no memory"):
        engine.step()
    assert [req.rid for req in engine.waiting_queue] == ["a", "b"]
    assert engine.chunked_prefill_size == CHUNK_TOKENS


def test_an_unreadable_quality_of_service_is_answered_with_the_reason(engine: FakeEngine) -> None:
    wrong = request("wrong", 100, ttft_ms=1000)
    engine.arrive(wrong)
    assert wrong.abort_reason is not None
    assert "needs one of: ttft_ms and tbt_ms; ttlt_ms; ttlt_s; task" in wrong.abort_reason
    engine.run()
    assert engine.driver.policy.decodes == 0


def test_a_retracted_decode_computes_its_prompt_and_answer_again(engine: FakeEngine) -> None:
    engine.arrive(chat("a", 100, max_new_tokens=10))
    while len(engine.running.reqs) == 0 or len(engine.running.reqs[0].output_ids) < 3:
        engine.step()
    engine.retract("a")
    engine.cached.clear()
    engine.run()
    assert prompt_tokens_run(engine, "a") > 200
    assert engine.reported("a") == ["started", "retracted"]
    assert engine.driver.policy.decodes == 0


def test_what_the_cache_still_has_of_a_retracted_decode_is_no_work(engine: FakeEngine) -> None:
    engine.arrive(chat("a", 100, max_new_tokens=10))
    while len(engine.running.reqs) == 0:
        engine.step()
    engine.retract("a")
    engine.run()
    assert prompt_tokens_run(engine, "a") < 110


def test_what_the_cache_still_has_of_a_reclaimed_prompt_is_no_work() -> None:
    """In host memory, for instance. 1,200 tokens find no room beside 1,000 of 1,400."""
    engine = make_engine(kv_tokens=1_400)
    engine.arrive(batch("long", 1000))
    engine.step()
    engine.arrive(chat("chat", 1200))
    while "started" not in engine.reported("chat"):
        engine.step()
    engine.step()
    prefill = engine.driver.policy._backlog["long"]
    assert not prefill.has_kv
    assert prefill.remaining_tokens == 1000 - CHUNK_TOKENS
    engine.run()
    assert prompt_tokens_run(engine, "long") == 1000


def test_of_many_arrivals_a_few_per_plan_are_looked_up_in_the_prefix_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = make_engine()
    names = [f"{number:03d}" for number in range(100)]
    engine.cached = dict.fromkeys(names, 60)
    looked_up: list[str] = []
    cached_tokens = engine.cached_tokens

    def counted(req: EngineRequest) -> int:
        looked_up.append(req.rid)
        return cached_tokens(req)

    monkeypatch.setattr(engine, "cached_tokens", counted)
    engine.arrive(*(batch(name, 100) for name in names))
    assert looked_up == names[:16]
    work_s = engine.driver.policy.backlog_s()
    engine.abort("099")
    engine.niyama.batches._prefixes.planning(1000.0)
    assert looked_up == names[:32]
    assert engine.driver.policy.backlog_s() < work_s
    for _ in range(9):
        engine.niyama.batches._prefixes.planning(1000.0)
    assert looked_up == names[:-1]
    assert all(engine.driver.policy._backlog[name].remaining_tokens == 40 for name in names[:-1])
    engine.run()


# ---- ends


def test_what_has_not_started_in_time_is_dropped_with_the_reason(engine: FakeEngine) -> None:
    engine.arrive(batch("other", 5000), batch("late", 100, expire_after_s=0.1, ttlt_s=700))
    engine.step_s = 0.2
    engine.step()
    engine.step()
    decision = from_finish_reason(engine.dropped["late"] or {})
    assert decision is not None
    assert decision.kind is DecisionKind.EXPIRED
    assert decision.at_s == 1000.2
    assert "late" not in [req.rid for req in engine.waiting_queue]
    engine.run()
    assert engine.reported("late") == []


def test_a_parked_request_does_not_expire(engine: FakeEngine) -> None:
    engine.arrive(batch("long", 1000, expire_after_s=0.07))
    engine.step()
    engine.arrive(chat("chat", 600))
    engine.run()
    assert engine.reported("long") == ["started", "parked", "resumed"]
    assert engine.dropped == {}


def test_an_aborted_request_is_forgotten_wherever_it_is(engine: FakeEngine) -> None:
    engine.arrive(chat("running", 20, max_new_tokens=1000))
    engine.step()
    engine.step()
    parked(engine)
    engine.arrive(batch("queued", 100))
    computed_tokens = prompt_tokens_run(engine, "long")
    for name in ("queued", "long", "running"):
        engine.abort(name)
    assert engine.niyama.parking.kept_tokens == 0
    engine.run()
    assert set(engine.dropped) == {"queued", "long"}
    assert engine.reported("queued") == []
    assert engine.reported("long") == ["started", "parked"]
    assert prompt_tokens_run(engine, "long") == computed_tokens
    assert engine.driver.policy.decodes == 0
    assert engine.driver.policy.backlog_s() == pytest.approx(0)


def test_an_aborted_request_is_no_work_any_more(engine: FakeEngine) -> None:
    engine.arrive(batch("queued", 100))
    assert engine.driver.policy.backlog_s() > 0
    engine.abort("queued")
    assert engine.driver.policy.backlog_s() == pytest.approx(0)


def test_an_aborted_prompt_in_progress_is_forgotten(engine: FakeEngine) -> None:
    engine.arrive(batch("long", 1000))
    engine.step()
    engine.abort("long")
    engine.run()
    assert prompt_tokens_run(engine, "long") == CHUNK_TOKENS
    assert set(engine.dropped) == {"long"}
    assert engine.driver.policy.backlog_s() == pytest.approx(0)


# ---- what is not ready


def test_what_sglang_skips_does_not_hold_up_what_is_ready(engine: FakeEngine) -> None:
    """Adapters that find no room, prefixes that are still on their way from storage."""
    engine.arrive(*(chat(f"unready{number:02}", 300) for number in range(20)))
    engine.arrive(batch("ready", 700))
    engine.not_ready = {f"unready{number:02}" for number in range(20)}
    for _ in range(4):
        engine.step()
    assert prompt_tokens_run(engine, "ready") == 700
    engine.not_ready.clear()
    engine.run()
    assert all(prompt_tokens_run(engine, f"unready{number:02}") == 300 for number in range(20))
    assert engine.driver.policy.backlog_s() == pytest.approx(0, abs=1e-9)


def test_a_parked_prompt_stands_in_for_what_sglang_skips(engine: FakeEngine) -> None:
    parked(engine)
    engine.arrive(chat("unready", 300))
    engine.not_ready = {"unready"}
    while engine.reported("long")[-1] != "resumed":
        engine.step()
    assert prompt_tokens_run(engine, "unready") == 0
    engine.not_ready.clear()
    engine.run()
    assert engine.reported("unready") == ["started"]


def test_what_sglang_skips_is_not_reported_as_restored_over_and_over(engine: FakeEngine) -> None:
    names = [f"unready{number:02}" for number in range(40)]
    engine.arrive(*(batch(name, 3000, ttlt_s=20) for name in names))
    engine.not_ready = set(names)
    for number in range(60):
        engine.arrive(batch(f"ready{number}", 100))
        engine.step()
    assert all(engine.reported(name).count("restored") <= 1 for name in names)
    relegated = [name for name in names if engine.reported(name) == ["relegated"]]
    assert relegated
    engine.not_ready.clear()
    engine.run(600)
    assert all("started" in engine.reported(name) for name in names)
    assert any(engine.reported(name)[1:3] == ["restored", "started"] for name in relegated)


def test_stand_ins_have_no_tokens_that_the_plan_uses(engine: FakeEngine) -> None:
    engine.not_ready = {"nobody"}
    engine.arrive(chat("a", 100), chat("b", 100), batch("c", 700), batch("d", 700))
    engine.step()
    assert engine.launched == [{"a": 100, "b": 100, "c": CHUNK_TOKENS - 200}]
    engine.run()


# ---- reports


def test_what_the_policy_relegates_is_reported_with_its_forecast() -> None:
    engine = make_engine()
    engine.arrive(batch("hopeless", 50_000, ttlt_s=1))
    engine.step()
    (relegated,) = [d for d in engine.sender.sent if d.kind is DecisionKind.RELEGATED]
    assert relegated.request_id == "hopeless"
    assert relegated.at_s == 1000.0
    assert relegated.forecast is not None
    assert relegated.forecast.finish_s > 1001
    assert engine.reported("hopeless") == ["relegated", "started"]


def test_iterations_are_measured_and_their_model_is_kept(engine: FakeEngine) -> None:
    sizes = [20, 40, 80, 160, 250]
    for number in range(12):
        engine.arrive(*(chat(f"{number}-{size}", size) for size in sizes))
        engine.run()
    assert engine.models


@pytest.mark.parametrize("overlap", [False, True])
def test_paced_under_load_the_first_token_carries_its_schedule(overlap: bool) -> None:
    engine = make_engine(overlap=overlap, timing=TokenTiming.PACED)
    a = chat("a", 100)
    engine.arrive(a, *(batch(f"b{number}", 2000, ttlt_s=6) for number in range(20)))
    engine.run()
    first, *others = a.sent_info
    assert first is not None
    assert others == [None] * 3
    ((first_s, pace_s),) = first[RELEASE_KEY]
    assert 100.2 < first_s < 101.0  # on the monotonic clock
    assert pace_s == pytest.approx(0.2 * 0.95)


def test_every_prompt_is_computed_once_however_often_it_is_parked(engine: FakeEngine) -> None:
    """Batch prompts and chats in turn: every token is computed once, and nothing is left over."""
    sizes: dict[str, int] = {}
    for number in range(40):
        name, size = f"r{number}", 30 + 137 * number % 900
        sizes[name] = size
        engine.arrive(chat(name, size) if number % 2 else batch(name, size))
        engine.step()
    engine.run()
    assert {name: prompt_tokens_run(engine, name) for name in sizes} == sizes
    for name in sizes:
        kinds = engine.reported(name)
        assert kinds[0] in ("started", "relegated")
        assert kinds.count("started") == 1
        assert kinds.count("parked") == kinds.count("resumed")
    assert engine.driver.policy.backlog_s() == pytest.approx(0)
    assert engine.niyama.parking.kept_tokens == 0


def test_prompts_for_which_sglang_has_no_place_are_not_planned() -> None:
    engine = make_engine()
    engine.max_running_requests = 2
    engine.arrive(*(chat(name, 20) for name in ("a", "b", "c")))
    engine.step()
    assert engine.launched[-1] == {"a": 20, "b": 20}
    engine.run()
    assert all(len(engine.reported(name)) == 1 for name in "abc")
