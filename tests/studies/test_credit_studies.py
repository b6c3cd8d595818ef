"""The studies of credit and of values, in short: what they measure is what they say."""

from __future__ import annotations

import numpy as np
import pytest

from laurel.credit import LeaveOneOut, MonteCarloValues, is_continuation
from studies.group_or_vine import SAMPLES, SCORES, Task, look, measured, sampled
from studies.merging_states import STATES, errors, world_of


@pytest.mark.parametrize("score", SCORES)
def test_both_credits_are_unbiased_and_the_vine_knows_more(score: str) -> None:
    task = Task.of(score, 3)
    drawn = [sampled(task, 9, np.random.default_rng(number)) for number in range(100)]
    vine = [look(task, tree, MonteCarloValues()([tree])[0]) for tree in drawn]
    mean = np.mean([seen.gradient for seen in vine], axis=0)
    assert np.abs(mean - task.gradient).max() < 0.4 * np.abs(task.gradient).max()
    group = measured(task, 0, 30)
    assert measured(task, 9, 30)["correlation"] > group["correlation"] + 0.1


def test_exact_advantages_are_differences_of_values() -> None:
    """Of two tokens the second decides alone: the first one's advantage is 0, the second's is what it changes."""
    task = Task.of("one", 2)
    tree = sampled(task, 0, np.random.default_rng(1))
    seen = look(task, tree, LeaveOneOut()([tree])[0])
    chance = task.values[(0,)]
    assert task.values[()] == pytest.approx(chance)
    for place in range(0, 2 * SAMPLES, 2):
        assert seen.exact[place] == pytest.approx(0, abs=1e-12)
        assert seen.exact[place + 1] in (pytest.approx(1 - chance), pytest.approx(-chance))


def test_continuations_stand_at_every_place_between_two_tokens() -> None:
    tree = sampled(Task.of("most", 4), 2, np.random.default_rng(0))
    names = [rollout.id for rollout in tree.rollouts]
    assert sum(map(is_continuation, names)) == SAMPLES * 3 * 2
    assert sum(not is_continuation(name) for name in names) == SAMPLES


def test_merging_helps_temporal_differences_and_nothing_else() -> None:
    assert len(world_of("prefixes").states) == 2**8 - 1
    assert len(world_of("merged").states) == 8 * 9 // 2
    prefixes, merged = (errors(kind, 16, 40) for kind in STATES)
    np.testing.assert_allclose(prefixes["Monte Carlo"], prefixes["temporal difference"], atol=1e-14)
    assert np.median(merged["temporal difference"]) < 0.85 * np.median(merged["Monte Carlo"])
