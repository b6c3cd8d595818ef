"""A reward that learns during a run: taught before it grades, kept in checkpoints, the same again after a kill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import train
from test_resume_kinds import killed_and_resumed

import laurel
from laurel.errors import ConfigurationError
from laurel.metrics import Metric
from laurel.policy import Policy
from laurel.rewards import LearningReward, exact_match, in_process, learning, weighted
from laurel.tasks import Task
from laurel.tree import Tree


class Surprise:
    """Pays for an answer's first character by how rare it has been so far."""

    runs_in_process = True

    def __init__(self) -> None:
        self.seen = torch.ones(0, dtype=torch.float64)
        self.steps: list[int] = []

    def begin(self, policy: Policy, directory: Path, seed: int) -> None:
        assert (directory / "run.sqlite").is_file()
        self.seen, self.steps = torch.ones(128, dtype=torch.float64), []

    def learn(self, step: int, trees: Sequence[Tree], tasks: Mapping[str, Task]) -> dict[str, Metric]:
        self.steps.append(step)
        texts = [rollout.text for tree in trees for rollout in tree.rollouts]
        assert {tree.task_id for tree in trees} == set(tasks)
        assert all(rollout.outcome.score is None for tree in trees for rollout in tree.rollouts)  # type: ignore[union-attr]
        for text in texts:
            self.seen[ord(text[0]) if text else 0] += 1
        return {"surprise/seen": Metric.of([float(self.seen.sum())])}

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        return {"seen": self.seen}, {"steps": self.steps}

    def load_state(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        self.seen, self.steps = tensors["seen"], list(state["steps"])

    def __call__(self, task: Task, text: str) -> float:
        return float(1 / self.seen[ord(text[0]) if text else 0])


@pytest.mark.parametrize("moment", ["after_sampling:3", "before_update:4", "after_checkpoint:2"])
def test_killed_and_resumed_it_learns_the_same(moment: str, tmp_path: Path) -> None:
    with killed_and_resumed(tmp_path, moment, lambda: {"reward": Surprise()}) as run:
        seen = [metric.sum for _, metric in run.metric("surprise/seen")]
        kept = run.load_checkpoint()
    assert seen == [128 + 16 * step for step in (1, 2, 3, 4)]
    assert kept is not None and kept.state["reward"]["steps"] == [1, 2, 3, 4]
    assert float(kept.tensors["reward"]["seen"].sum()) == seen[-1]


def test_only_a_reward_as_a_whole_learns() -> None:
    assert isinstance(Surprise(), LearningReward)
    assert learning(exact_match()) is None and learning(None) is None
    with pytest.raises(ConfigurationError, match="only a reward as a whole"):
        learning(weighted({"rare": (in_process(Surprise()), 1.0)}))


def test_a_method_without_graded_samples_teaches_it_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'clone' has none"):
        train(tmp_path / "run", algorithm=laurel.clone(), reward=Surprise(), samples_per_prompt=None)
    assert not (tmp_path / "run").exists()
