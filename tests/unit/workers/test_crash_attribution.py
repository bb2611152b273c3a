"""Whatever kills workers: what is to blame is given up soon, and nothing else ever is."""

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import EventType
from tests.support.crash_model import MAX_ATTEMPTS, Killer, Outcome, Story, World
from tests.support.virtual_time import run_in_virtual_time
from workers.offsets.attempts import SUSPECT_CRASHES

DEATHS = SUSPECT_CRASHES + MAX_ATTEMPTS
LIMIT_S = 4 * 3600.0

KILLERS = [killer for killer in Killer if killer is not Killer.NONE]

stories = st.builds(
    Story,
    seed=st.integers(0, 2**32),
    innocents=st.integers(1, 40),
    killers=st.lists(st.sampled_from(KILLERS), max_size=2).map(tuple),
    outside_kills=st.integers(0, 50),
    kill_gap_s=st.floats(15, 120),
)


@settings(max_examples=15, derandomize=True)
@given(stories)
def test_killers_are_given_up_soon_and_innocents_never(story: Story) -> None:
    _check(story)


def test_what_hangs_the_engine_is_given_up_like_what_kills_it() -> None:
    hanging = (Killer.HANGS_IN_PREPARE, Killer.HANGS_WHEN_SUBMITTED, Killer.HANGS_IN_PREFILL)
    _check(Story(seed=1, innocents=10, killers=hanging, outside_kills=0, kill_gap_s=60))


def _check(story: Story) -> None:
    outcome = _play(story)
    for name, end in outcome.ends.items():
        if name.startswith("killer"):
            assert end.error is not None
            assert end.error.code == "too_many_attempts"
            assert outcome.deaths_by_job[name] <= DEATHS
        else:
            assert end.type is EventType.COMPLETED, name
    assert len(outcome.ends) == story.innocents + len(story.killers)


def _play(story: Story) -> Outcome:
    async def play() -> Outcome:
        return await World(story).run(LIMIT_S)

    return run_in_virtual_time(play())
