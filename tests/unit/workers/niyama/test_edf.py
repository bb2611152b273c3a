"""The first policy: earliest deadline first, prefills parked for closer deadlines."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from workers.niyama.deadlines import Deadlines
from workers.niyama.edf import edf_key, plan
from workers.niyama.iteration import Prefill, Snapshot

PAGE = 1


def prefill(request_id: str, due_s: float, tokens: int = 100) -> Prefill:
    return Prefill(request_id, due_s, tokens)


def snapshot(
    *waiting: Prefill,
    in_progress: Prefill | None = None,
    can_park: bool = True,
    decodes: int = 0,
    tokens: int = 256,
    page: int = PAGE,
) -> Snapshot:
    return Snapshot(waiting, in_progress, can_park, decodes, tokens, page)


def test_orders_by_deadline_and_ties_by_id() -> None:
    waiting = [prefill("c", 5.0), prefill("b", 9.0), prefill("a", 9.0)]
    assert plan(snapshot(*waiting), now_s=0.0).order == ("c", "a", "b")


def test_decodes_take_their_share_of_the_iteration() -> None:
    assert plan(snapshot(decodes=56, tokens=256), now_s=0.0).prefill_budget_tokens == 200


def test_prefills_go_on_however_many_decodes_run() -> None:
    crowded = snapshot(decodes=1000, tokens=256, page=16)
    assert plan(crowded, now_s=0.0).prefill_budget_tokens == 16


def test_budget_is_whole_pages() -> None:
    assert plan(snapshot(decodes=3, tokens=256, page=64), now_s=0.0).prefill_budget_tokens == 192


def test_parks_a_prefill_for_a_closer_deadline_that_fills_the_budget() -> None:
    batch = prefill("batch", 600.0, 3000)
    decided = plan(snapshot(prefill("chat", 1.0, 300), in_progress=batch), now_s=0.0)
    assert decided.park == "batch"


def test_shares_the_budget_when_both_fit() -> None:
    batch = prefill("batch", 600.0, 3000)
    decided = plan(snapshot(prefill("chat", 1.0, 56), in_progress=batch), now_s=0.0)
    assert decided.park is None
    assert decided.in_progress_limit_tokens == 200  # 256 - 56


def test_does_not_park_for_a_later_deadline() -> None:
    chat = prefill("chat", 1.0, 300)
    decided = plan(snapshot(prefill("batch", 600.0, 3000), in_progress=chat), now_s=0.0)
    assert (decided.park, decided.in_progress_limit_tokens) == (None, None)


def test_does_not_park_when_nobody_could_be_admitted() -> None:
    batch = prefill("batch", 600.0, 3000)
    full = snapshot(prefill("chat", 1.0, 300), in_progress=batch, can_park=False)
    assert (plan(full, now_s=0.0).park, plan(full, now_s=0.0).in_progress_limit_tokens) == (
        None,
        None,
    )


def test_a_fully_cached_prompt_still_needs_a_page() -> None:
    batch = prefill("batch", 600.0, 3000)
    cached = snapshot(prefill("chat", 1.0, 0), in_progress=batch, tokens=256, page=16)
    assert plan(cached, now_s=0.0).in_progress_limit_tokens == 240


def test_token_deadlines_of_interactive_and_batch() -> None:
    assert Deadlines(0.0, 1.0, tbt_s=0.1).next_token_due_s(generated_tokens=3) == 1.3
    assert Deadlines(0.0, 600.0, tbt_s=None).next_token_due_s(generated_tokens=3) == 600.0


prefills = st.builds(
    Prefill,
    request_id=st.uuids().map(str),
    due_s=st.floats(-1e6, 1e6, allow_nan=False),
    remaining_prefill_tokens=st.integers(0, 5000),
)
snapshots = st.builds(
    Snapshot,
    waiting=st.lists(prefills, max_size=20, unique_by=lambda p: p.request_id).map(tuple),
    in_progress=st.none() | prefills,
    can_park=st.booleans(),
    running_decodes=st.integers(0, 500),
    iteration_tokens=st.sampled_from([64, 256, 2048]),
    page_tokens=st.sampled_from([1, 16, 64]),
)


@given(snapshots, st.randoms(use_true_random=False), st.floats(-1e6, 1e6))
def test_the_plan_depends_on_the_set_that_waits_and_on_nothing_else(
    case: Snapshot, random: object, now_s: float
) -> None:
    shuffled = list(case.waiting)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert plan(replace(case, waiting=tuple(shuffled)), now_s) == plan(case, 0.0)


@given(snapshots)
def test_never_idle_while_a_prefill_could_run(case: Snapshot) -> None:
    decided = plan(case, 0.0)
    assert sorted(decided.order) == sorted(p.request_id for p in case.waiting)
    assert decided.prefill_budget_tokens >= case.page_tokens
    if decided.park is not None:
        assert case.in_progress is not None
        urgent = [p for p in case.waiting if edf_key(p) < edf_key(case.in_progress)]
        pages = sum(max(p.remaining_prefill_tokens, 1) for p in urgent) + len(urgent) * (
            case.page_tokens - 1
        )
        assert urgent
        assert pages > decided.prefill_budget_tokens - case.page_tokens
    elif decided.in_progress_limit_tokens is not None:
        assert 0 < decided.in_progress_limit_tokens <= decided.prefill_budget_tokens
        assert decided.in_progress_limit_tokens % case.page_tokens == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(1, 200), st.integers(1, 700)),
        min_size=1,
        max_size=15,
    )
)
def test_nobody_starves_and_no_capacity_is_lost(arrivals: list[tuple[int, int, int]]) -> None:
    """(arrival iteration, deadline after it, prompt tokens): run to the end on virtual time."""
    budget_tokens = 256
    waiting: list[Prefill] = []
    in_progress: Prefill | None = None
    computed_tokens = iteration = 0
    total_tokens = sum(tokens for _, _, tokens in arrivals)
    while computed_tokens < total_tokens:
        waiting += [
            prefill(f"{n:02}", at + due, tokens)
            for n, (at, due, tokens) in enumerate(arrivals)
            if at == iteration
        ]
        demand_tokens = sum(
            p.remaining_prefill_tokens for p in [*waiting, *([in_progress] if in_progress else [])]
        )
        decided = plan(snapshot(*waiting, in_progress=in_progress), float(iteration))
        if decided.park is not None:
            assert in_progress is not None
            waiting.append(in_progress)
            in_progress = None
        done_tokens, waiting, in_progress = compute(decided, waiting, in_progress)
        assert done_tokens == min(demand_tokens, budget_tokens)
        computed_tokens += done_tokens
        iteration += 1
    assert not waiting
    assert in_progress is None


def compute(
    decided: object, waiting: list[Prefill], in_progress: Prefill | None
) -> tuple[int, list[Prefill], Prefill | None]:
    """What SGLang does with a plan: the one in progress first, then the order, one cut short."""
    budget = decided.prefill_budget_tokens  # type: ignore[attr-defined]
    limit = decided.in_progress_limit_tokens or budget  # type: ignore[attr-defined]
    left, unfinished = budget, None
    if in_progress is not None:
        chunk = min(in_progress.remaining_prefill_tokens, limit)
        left -= chunk
        rest = in_progress.remaining_prefill_tokens - chunk
        unfinished = replace(in_progress, remaining_prefill_tokens=rest) if rest else None
    kept = []
    for candidate in sorted(waiting, key=edf_key):
        tokens = candidate.remaining_prefill_tokens
        if tokens <= left:
            left -= tokens
        elif left and unfinished is None:
            unfinished = replace(candidate, remaining_prefill_tokens=tokens - left)
            left = 0
        else:
            kept.append(candidate)
    return budget - left, kept, unfinished
