"""The allow-list of SGLang's features, and its table in the docs."""

from pathlib import Path

import pytest

from workers.runtime.feature import Argument, Support
from workers.runtime.feature_list import FEATURES
from workers.runtime.features import refusals, table, unplanned

WORKER_PAGE = Path(__file__).parents[4] / "docs" / "worker.md"


def given(group: str = "schedule", **changed: object) -> dict[str, Argument]:
    """The arguments as by default, but for some."""
    defaults: dict[str, object] = {"schedule_policy": "fcfs", "pp_size": 1, "enable_lora": None}
    return {
        name: Argument(changed.get(name, defaults.get(name)), defaults.get(name), group)
        for name in {**defaults, **changed}
    }


def test_the_table_in_the_docs_is_the_codes() -> None:
    assert table() in WORKER_PAGE.read_text(), (
        "put the output of `python -m workers.runtime.features` into docs/worker.md"
    )


def test_defaults_are_neither_refused_nor_worth_a_word() -> None:
    assert list(refusals(given())) == []
    assert list(unplanned(given())) == []


@pytest.mark.parametrize("policy", ["lpm", "dfs-weight", "random", "lof"])
def test_another_order_of_requests_is_refused(policy: str) -> None:
    (sentence,) = refusals(given(schedule_policy=policy))
    assert sentence == "Niyama orders requests by deadline: start without --schedule-policy"


def test_every_reason_is_given_at_once() -> None:
    assert len(list(refusals(given(schedule_policy="lpm", pp_size=2)))) == 2


def test_what_works_unplanned_is_said() -> None:
    (sentence,) = unplanned(given(enable_lora=True))
    assert sentence.startswith("LoRA: works, but is not planned for. ")


def test_an_argument_that_no_feature_has_is_refused_when_it_is_set() -> None:
    (sentence,) = refusals(given(enable_novelty=True))
    assert sentence == "Niyama does not know what --enable-novelty is: start without it"
    assert list(refusals(given(enable_novelty=False))) == []
    assert list(refusals(given("exec.kernel", enable_novelty=True))) == []


def test_a_refusal_says_what_to_change() -> None:
    for feature in FEATURES:
        if feature.support is Support.REFUSED:
            assert ": start with" in feature.sentence
            assert feature.switches
