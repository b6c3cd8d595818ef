"""The greedy rollout of a prompt: drawn beside the samples, graded, compared with, and never learned from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import laurel
from laurel.errors import ConfigurationError, SamplingError
from laurel.experience import beside
from laurel.runs import Run
from laurel.tasks import Task, TaskSet
from laurel.tree import Segment, Source, Tree

TASKS = TaskSet("letters", tuple(Task(letter, letter, letter) for letter in "abcd"))


def train(directory: Path, **changes: object) -> Run:
    settings: dict[str, object] = {
        "policy": laurel.policy.tiny(alphabet="abcd", hidden_size=16, layers=1, heads=2, context_length=4),
        "tasks": TASKS,
        "algorithm": laurel.remax(),
        "reward": lambda task, text: float(text.count("a")),
        "steps": 1,
        "prompts_per_step": 3,
        "samples_per_prompt": 4,
        "limits": laurel.Limits(max_new_tokens=3),
        "run": directory,
    }
    return laurel.train(**{**settings, **changes})  # type: ignore[arg-type]


def test_one_greedy_rollout_per_prompt_sets_the_baseline(tmp_path: Path) -> None:
    with Run.open(train(tmp_path / "run").directory) as run:
        trees, credits = run.trees(1), run.credits(1)
        (greedy_reward,) = (metric.mean for _, metric in run.metric("greedy_reward"))
        (reward,) = (metric for _, metric in run.metric("reward"))
    best = []
    for tree, credit in zip(trees, credits, strict=True):
        *samples, greedy = tree.rollouts
        assert len(samples) == 4 and greedy.id == f"{tree.id}.greedy.0"
        (leaf,) = {greedy.leaf}
        assert tree.segments[leaf].sampling == laurel.Sampling(top_k=1)
        best.append(greedy.reward)
        for rollout in tree.rollouts:
            own = slice(int(tree.flat.starts[rollout.leaf]), int(tree.flat.ends[rollout.leaf]))
            assert credit.mask[own].all() != (rollout is greedy)
            expected = 0.0 if rollout is greedy else rollout.reward - greedy.reward
            np.testing.assert_allclose(credit.advantages[own], expected)
    assert greedy_reward == np.mean(best)
    assert reward.count == 3 * 4  # the greedy ones are in no metric of the samples


def test_the_samples_are_those_of_a_method_without_it(tmp_path: Path) -> None:
    drawn = []
    for algorithm in (laurel.remax(), laurel.reinforce()):
        with Run.open(train(tmp_path / algorithm.name, algorithm=algorithm).directory) as run:
            drawn.append([[rollout.text for rollout in tree.rollouts[:4]] for tree in run.trees(1)])
    assert drawn[0] == drawn[1]


def test_samples_that_are_all_greedy_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="every sample is that"):
        train(tmp_path / "run", sampling=laurel.Sampling(top_k=1))
    assert not (tmp_path / "run").exists()


def test_only_trees_of_one_prompt_stand_beside_each_other() -> None:
    def tree(prompt: int) -> Tree:
        return Tree(
            f"{prompt}",
            "task",
            (
                Segment(Source.PROMPT, np.array([prompt]), -1),
                Segment(Source.POLICY, np.array([2]), 0),
                Segment(Source.ENVIRONMENT, np.array([3]), 1),
                Segment(Source.POLICY, np.array([4]), 2),
            ),
        )

    both = beside(tree(5), tree(5))
    assert [segment.parent for segment in both.segments] == [-1, 0, 1, 2, 0, 4, 5]
    with pytest.raises(SamplingError, match="different prompts"):
        beside(tree(5), tree(6))
