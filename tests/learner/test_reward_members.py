"""An ensemble that learns from few labels: how it starts, what it learns, and what it makes of unlabelled pairs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from laurel.errors import ConfigurationError
from laurel.judged import comparison
from laurel.learner import EnsembleSettings, OptimiserSettings
from laurel.learner.judged_pairs import judged_pair, label_alone, pair_as_data, scores_of, without_failures
from laurel.learner.reward_members import RewardMembers
from laurel.objectives import BradleyTerry
from laurel.policy import Policy, tiny
from laurel.preferences import Preference
from laurel.preferences.queries import Pair
from laurel.tasks import Task
from laurel.tree import Ending, FloatArray, Outcome, Rollout, Tree

FAST = OptimiserSettings(learning_rate=1e-2)


def policy() -> Policy:
    return tiny(alphabet="abc>", hidden_size=16, layers=1, heads=2, context_length=16)


def answers(prompt: str, *texts: str) -> Tree:
    return comparison(policy(), Preference(prompt, prompt, answers=texts, scores=(0.0,) * len(texts)), prompt)


def asked(*trees: Tree) -> list[tuple[Task, Rollout]]:
    return [(Task(tree.task_id, "?"), rollout) for tree in trees for rollout in tree.rollouts]


def members(**settings: object) -> RewardMembers:
    given = {"members": 4, "steps": 30, "optimiser": FAST, **settings}
    return RewardMembers(policy(), EnsembleSettings(**given), BradleyTerry(), seed=0)  # type: ignore[arg-type]


def spread(rewards: FloatArray) -> float:
    return float(rewards.std())


def test_the_three_starts() -> None:
    seen, unseen = answers("a>", "a", "b", "ab", "ba"), answers("c>", "c", "cc", "acc", "bc")
    zero, drawn, level = (members(start=start) for start in ("zero", "random", "uniform"))
    assert spread(zero.rewards(asked(seen, unseen))[0]) == 0
    before = [spread(drawn.rewards(asked(tree))[0]) for tree in (seen, unseen)]
    assert min(before) > 0.3
    for made in (zero, drawn, level):
        made.level([seen])
    assert [spread(drawn.rewards(asked(tree))[0]) for tree in (seen, unseen)] == before
    there, elsewhere = (spread(level.rewards(asked(tree))[0]) for tree in (seen, unseen))
    assert there < before[0] / 10  # as good as equal where there were rollouts
    assert 0 < elsewhere < before[1] / 3  # and nearly so elsewhere


def test_the_seed_fixes_the_heads_and_members_have_their_own() -> None:
    tree = answers("a>", "a", "b")
    first, second = (members(start="random").rewards(asked(tree))[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert len(np.unique(first[:, 0])) == 4


def test_labels_are_learned_and_carry_over_to_other_pairs() -> None:
    """More a's are better; every other pair is labelled, and the rest judged."""
    tree = answers("c>", "aa", "ab", "bb", "ac", "cb", "aaa")
    worth = {leaf: tree.segments[leaf].text.count("a") for leaf in tree.leaves}
    pairs = [leaves for leaves in itertools.combinations(tree.leaves, 2) if worth[leaves[0]] != worth[leaves[1]]]
    made = members(start="random")
    labelled = [label_alone(tree, leaves, float(worth[leaves[0]] > worth[leaves[1]])) for leaves in pairs[::2]]
    metrics = made.fit(labelled, [], [], np.zeros((4, 0, 2)), 1)
    assert metrics["reward_model/accuracy"].mean == 1.0
    rewards = made.rewards(asked(tree))[0].mean(axis=0)
    place = {leaf: number for number, leaf in enumerate(tree.leaves)}
    right = [(rewards[place[a]] > rewards[place[b]]) == (worth[a] > worth[b]) for a, b in pairs[1::2]]
    assert np.mean(right) > 0.7


def test_what_members_are_sure_of_teaches_them_more() -> None:
    tree = answers("c>", "a", "b", "ab")
    made = members(pseudo_threshold=0.9, pseudo_pairs=1)
    label = label_alone(tree, (1, 2), 1.0)
    pairs = [Pair(0, (1, 3)), Pair(0, (2, 3))]
    rewards = np.zeros((4, 2, 2))
    rewards[0] = [[5.0, 0.0], [0.0, 5.0]]  # member 0 is sure of both, the others of none
    found = made._self_labelled([tree], pairs, rewards[0])
    assert [scores_of(one) for one in found] == [{1: 1.0, 2: 0.0}, {1: 0.0, 2: 1.0}]
    metrics = made.fit([label], [tree], pairs, rewards, 1)
    assert metrics["labels/pseudo"].sum == 2 and metrics["labels/pseudo"].count == 8
    said, none = made.rewards(asked(tree))
    assert not none and said[0, 2] > said[0, 1]  # as it held before it was taught
    assert "labels/pseudo" not in members().fit([label], [tree], pairs, rewards, 1)


def test_pairs_go_to_checkpoints_and_back() -> None:
    tree = answers("c>", "a", "b", "ab")
    backwards = judged_pair(tree, (3, 1), 1.0)
    assert scores_of(backwards) == {1: 0.0, 2: 1.0} and backwards.segments[2].text == "ab"
    kept = label_alone(tree, (3, 1), 1.0)
    assert pair_as_data(kept) == pair_as_data(backwards) == pair_as_data(label_alone(backwards, (2, 1), 1.0))
    broken = tree.with_outcomes({2: Outcome(Ending.FAILED, "lost")})
    live = without_failures(broken)
    assert live is not None and [live.segments[leaf].text for leaf in live.leaves] == ["a", "ab"]
    assert without_failures(tree.with_outcomes(dict.fromkeys(tree.leaves, Outcome(Ending.FAILED, "lost")))) is None


def test_a_rollout_that_is_too_long_fails_with_the_member() -> None:
    tree = answers("c>", "a", "b")
    wide = tiny(alphabet="abc>", hidden_size=16, layers=1, heads=2, context_length=4)
    made = RewardMembers(wide, EnsembleSettings(members=2), BradleyTerry(), seed=0)
    said, failures = made.rewards(asked(answers("c>", "abcabc"), tree))
    assert list(failures) == [0] and "member 0" in failures[0] and np.isfinite(said[:, 1:]).all()


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"members": 0}, "members"), ({"start": "warm"}, "warm"), ({"pseudo_threshold": 0.2}, "above a confidence")],
)
def test_settings_that_make_no_sense(settings: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        EnsembleSettings(**settings)  # type: ignore[arg-type]
