"""The study of compounding error says what the theory says, shows where the first order ends, and walks as it says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from laurel.tasks import Task
from laurel.tree import Ending, Outcome, Segment, Source, Tree
from studies.compounding_error import CHAINS, ERRORS, HORIZONS, measured
from studies.publishing import RESULTS
from studies.strayed_policy import ANSWERS, BACK, LOST, Walk, cost_so_far, expert, slope_with_interval, taught, walked


def test_slopes_of_the_study() -> None:
    slopes = {
        (chain, learner): round(measured(ERRORS[0], learner, recoverable)["slope"], 2)
        for chain, recoverable in CHAINS.items()
        for learner in ("cloning", "DAgger")
    }
    assert slopes == {
        ("with a way back", "cloning"): 1.97,
        ("with a way back", "DAgger"): 1.00,
        ("without", "cloning"): 1.97,
        ("without", "DAgger"): 1.97,
    }


def test_a_cost_cannot_exceed_the_number_of_steps() -> None:
    """With frequent errors a clone is lost early: its cost bends from the square of T towards T itself."""
    often = measured(ERRORS[-1], "cloning", recoverable=True)
    assert all(cost < horizon for cost, horizon in zip(often["costs"], HORIZONS, strict=True))
    assert 1 < often["last_slope"] < often["slope"] - 0.2


@pytest.mark.parametrize("recoverable", [True, False])
def test_the_walk_knows_who_is_beside_the_path(recoverable: bool) -> None:
    task = Task("3", "")
    episode = Walk(5, recoverable=recoverable).start(task, "r")
    heard, rewards = episode.prompt, []
    for turn in range(5):
        right = expert(task, (heard,))
        assert right == (BACK if heard == LOST else ANSWERS[heard[-1]])
        answered = episode.respond("a" if turn in (1, 3) else right)
        rewards.append(answered.reward)
        heard = answered.observation or ""
    # Astray in turn 1; in turn 2 the way back is said; astray in turn 3; in turn 4 it is said again.
    assert rewards == ([0, -1, 0, -1, 0] if recoverable else [0, -1, -1, -1, -1])


def test_the_expert_never_errs_and_a_walk_that_is_cut_off_never_comes_back() -> None:
    def walk(rewards: list[float], ending: Ending) -> Tree:
        segments = [Segment(Source.PROMPT, np.array([1]), -1)]
        for turn, reward in enumerate(rewards):
            segments.append(Segment(Source.POLICY, np.array([2]), 2 * turn, reward=reward))
            segments.append(Segment(Source.ENVIRONMENT, np.array([3]), 2 * turn + 1))
        last = Segment(Source.POLICY, np.array([2]), 2 * len(rewards), outcome=Outcome(ending, "length"))
        return Tree("0", "0", (*segments, last))

    whole, cut = walk([0, -1, 0], Ending.TERMINATED), walk([0, 0, 0], Ending.TRUNCATED)
    assert cost_so_far([whole], 4).tolist() == [0, 1, 1, 1]
    assert cost_so_far([cut], 4).tolist() == [0, 0, 0, 1]
    assert cost_so_far([whole, walk([0], Ending.TRUNCATED)], 4).tolist() == [0, 1, 1.5, 2]


def test_the_slope_is_that_of_the_mean_over_seeds() -> None:
    horizons = (4, 8, 16)
    slope, (low, high) = slope_with_interval(np.array([[1.0, 2, 4], [3, 12, 48]]), horizons)
    assert slope == pytest.approx(np.log2(52 / 4) / 2, abs=1e-12)
    assert low == pytest.approx(1) and high == pytest.approx(2)


def test_a_clone_is_taught_and_walks() -> None:
    learner = taught("cloning", 3, recoverable=True, seed=0, steps=2)
    assert learner.questions == 8 * 3
    walks = walked(learner.policy, 3, recoverable=True, seed=1, rollouts=4)
    costs = cost_so_far(walks, 3)
    assert len(walks) == 4 and (np.diff(costs) >= 0).all() and costs[-1] > 1, "two steps teach nothing"


def test_the_published_slopes() -> None:
    """What the last run of the study found, seeds and all, has the powers of the theory."""
    found = json.loads((RESULTS / "compounding_error.json").read_text())["a tiny language model"]
    slopes = {name: found[name]["slope"] for name in found if name not in ("turns", "seeds")}
    assert slopes["with a way back, cloning"] > 1.6 and slopes["without, DAgger"] > 1.6
    assert 0.7 < slopes["with a way back, DAgger"] < 1.3
    assert found["with a way back, DAgger"]["interval"][1] < found["with a way back, cloning"]["interval"][0]
