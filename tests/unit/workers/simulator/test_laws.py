"""What devices take, by worked arithmetic."""

import random

import pytest

from workers.latency.model import NO_CHUNKS, Chunks
from workers.latency.profiles import A100_LLAMA3_8B
from workers.simulator.devices import H100, LAWS, law_of
from workers.simulator.laws import (
    Convex,
    Disturbance,
    Law,
    Operators,
    Work,
    heavy_tail,
    noise,
    slow_phases,
    stalls,
)

FORM = Operators(
    dense=((0, 1.0), (100, 2.0), (200, 6.0)),
    pair_s=0.001,
    decode_context_token_s=0.01,
    prefill_attention_s=0.5,
    decode_attention_s=0.25,
    head_s=0.125,
)
PROMPT = Work(NO_CHUNKS.beside(100, 50), 0, 0)
DECODES = Work(NO_CHUNKS, 50, 300)


def test_operators_add_up() -> None:
    assert FORM(PROMPT) == pytest.approx(2.0 + 0.5 + 10.0 + 0.125)
    assert FORM(DECODES) == pytest.approx(1.5 + 0.25 + 3.0 + 0.125)


def test_dense_time_is_linear_between_the_points_and_beyond() -> None:
    def dense_s(tokens: int) -> float:
        return Operators(FORM.dense, 0.0, 0.0)(Work(Chunks(tokens, 0, 0.0), 0, 0))

    assert [dense_s(tokens) for tokens in (0, 50, 100, 150, 300)] == pytest.approx(
        [1.0, 1.5, 2.0, 4.0, 10.0]
    )


def test_prompts_and_decodes_together_cost_more_where_that_was_measured() -> None:
    mixed = Operators(((0, 0.0), (1, 0.0)), 0.001, 0.01, mixed_factor=1.5)
    assert mixed(PROMPT._replace(decodes=50, decode_context=300)) == pytest.approx(1.5 * 13.0)
    assert mixed(PROMPT) == pytest.approx(10.0)


def test_convex_costs_grow_with_the_square_of_the_tokens() -> None:
    assert Convex(FORM, 0.1)(PROMPT) == pytest.approx(FORM(PROMPT) + 1_000.0)


def test_without_a_law_the_profile_is_one() -> None:
    model = A100_LLAMA3_8B.latency
    expected_s = model.iteration_s(300, 40, 20, 9_000)
    assert law_of(A100_LLAMA3_8B).form(Work(NO_CHUNKS.beside(300, 40), 20, 9_000)) == expected_s


def test_a_long_context_costs_a_large_chunk_more_than_a_small_one() -> None:
    """What a model without tokens x context cannot say."""

    def context_s(tokens: int) -> float:
        def at(context: int) -> float:
            return H100(Work(NO_CHUNKS.beside(tokens, context), 0, 0))

        return at(100_000) - at(0)

    assert context_s(8_192) == pytest.approx(64 * context_s(128))
    assert context_s(8_192) == pytest.approx(0.58, rel=0.01)


def _mean_s(law: Law, iterations: int = 20_000) -> float:
    chance = random.Random(1)
    return sum(law.lasts_s(DECODES, 0.0, chance) for _ in range(iterations)) / iterations


def test_disturbances_have_the_means_of_their_laws() -> None:
    plain_s = FORM(DECODES)

    def law(disturbance: Disturbance) -> Law:
        return Law("", FORM, 1, "", (disturbance,))

    assert _mean_s(law(noise(0.1))) == pytest.approx(plain_s, rel=0.01)
    # One in ten takes 1.5 times as long on average: the mean of a Pareto law of index 3.
    assert _mean_s(law(heavy_tail(0.1, 3.0))) == pytest.approx(1.05 * plain_s, rel=0.01)
    # Every 100 s of running time 10 s are lost.
    assert _mean_s(law(stalls(100.0, 10.0))) == pytest.approx(1.1 * plain_s, rel=0.05)


def test_a_slow_phase_ends_each_period() -> None:
    phases, chance = slow_phases(100.0, 20.0, 2.0), random.Random(1)
    at = (0.0, 79.0, 80.0, 99.0, 100.0, 185.0)
    assert [phases(chance, start_s, 1.0) for start_s in at] == [1.0, 1.0, 2.0, 2.0, 1.0, 2.0]


def test_laws_are_known_by_their_names_and_say_where_they_come_from() -> None:
    assert {name: law.name for name, law in LAWS.items()} == {name: name for name in LAWS}
    assert all(law.source and law.kv_tokens > 100_000 for law in LAWS.values())
    for law in LAWS.values():
        small, large = (law.form(Work(NO_CHUNKS.beside(n, 0), 16, 16_000)) for n in (128, 4_096))
        assert 0.005 < small < large < 2.0
