"""By the learner's own steps: what is likely becomes certain, right or wrong; and a coin has no direction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import laurel
from laurel.policy import Policy, pack
from laurel.rewards import Reward, exact_match, majority_vote, random_reward, semantic_entropy
from laurel.tasks import Task, TaskSet
from laurel.tree import Segment, Source, Tree

RIGHT_MODE, WRONG_MODE = "abcdef", "ghijkl"
SHARE = 3
"""Of four demonstrations of a prompt, so many are right where the mode is right, and wrong where it is wrong."""

TASKS = TaskSet("letters", tuple(Task(letter, f"{letter}>", "y") for letter in RIGHT_MODE + WRONG_MODE))


def started(directory: Path, seed: int) -> Policy:
    """Cloned until it answers y to three of four times where the mode is right, and n where it is wrong."""
    shape: dict[str, Any] = {"hidden_size": 32, "layers": 1, "heads": 2, "context_length": 5}
    policy = laurel.policy.tiny(alphabet="abcdefghijklyn>", initial_scale=0.15, seed=seed, **shape)
    shown = [
        Task(f"{letter}.{copy}", f"{letter}>", "y" if (copy < SHARE) == (letter in RIGHT_MODE) else "n")
        for letter in RIGHT_MODE + WRONG_MODE
        for copy in range(4)
    ]
    laurel.train(
        policy=policy,
        tasks=TaskSet("shown", tuple(shown)),
        algorithm=laurel.clone(),
        steps=60,
        prompts_per_step=48,
        optimiser=laurel.OptimiserSettings(learning_rate=1e-2, betas=(0.9, 0.99)),
        run=directory,
    )
    return policy


def chances(policy: Policy) -> dict[str, float]:
    """The probability of the right letter to every prompt."""
    right = policy.encode_answer("y")[:1]
    trees = [
        Tree(t.id, t.id, (Segment(Source.PROMPT, policy.encode_prompt(t.prompt), -1), Segment(Source.POLICY, right, 0)))
        for t in TASKS
    ]
    with torch.no_grad():
        scores = policy.token_scores(pack(trees, [tree.flat.policy for tree in trees])).log_probs
    return dict(zip((task.id for task in TASKS), scores.exp().tolist(), strict=True))


def after(policy: Policy, reward: Reward, directory: Path, **others: Any) -> tuple[float, float]:
    """The mean probability of the right letter where the mode was right, and where it was wrong, after learning."""
    settings: dict[str, Any] = {
        "tasks": TASKS,
        "algorithm": laurel.rloo(),
        "steps": 40,
        "prompts_per_step": 12,
        "samples_per_prompt": 16,
        "limits": laurel.Limits(max_new_tokens=2),
        "optimiser": laurel.OptimiserSettings(learning_rate=3e-3, betas=(0.9, 0.99)),
        **others,
    }
    laurel.train(policy=policy, reward=reward, run=directory, **settings)
    said = chances(policy)
    return tuple(float(np.mean([said[letter] for letter in some])) for some in (RIGHT_MODE, WRONG_MODE))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    policy = started(tmp_path_factory.mktemp("start") / "run", 1)
    said = chances(policy)
    assert all(0.6 < said[letter] < 0.9 for letter in RIGHT_MODE) and all(
        0.1 < said[letter] < 0.4 for letter in WRONG_MODE
    ), said
    return {name: tensor.clone() for name, tensor in policy.tensors().items()}


@pytest.fixture
def policy(start: dict[str, torch.Tensor]) -> Policy:
    made = laurel.policy.tiny(alphabet="abcdefghijklyn>", hidden_size=32, layers=1, heads=2, context_length=5)
    made.load_tensors(start)
    return made


@pytest.mark.parametrize(
    "reward", [majority_vote(answer="text"), semantic_entropy(answer="text")], ids=["vote", "entropy"]
)
def test_the_mode_becomes_certain_right_or_wrong(reward: Reward, policy: Policy, tmp_path: Path) -> None:
    right, wrong = after(policy, reward, tmp_path / "run")
    assert right > 0.95 and wrong < 0.05, (right, wrong)


@pytest.mark.slow
def test_a_label_makes_both_right(policy: Policy, tmp_path: Path) -> None:
    right, wrong = after(policy, exact_match(), tmp_path / "run")
    assert right > 0.95 and wrong > 0.95, (right, wrong)


def first_steps(start: dict[str, torch.Tensor], policy: Policy, reward: Reward, directory: Path) -> np.ndarray:
    """How far single steps from one start move the log-odds of the right letter where the mode is right: [steps]."""
    changes = []
    for seed in range(10):
        policy.load_tensors(start)
        before = chances(policy)
        after(policy, reward, directory / f"{seed}", steps=1, seed=seed, alarm="off")
        said = chances(policy)
        moved = [np.log(said[n] / (1 - said[n])) - np.log(before[n] / (1 - before[n])) for n in RIGHT_MODE]
        changes.append(np.mean(moved))
    return np.array(changes)


def test_a_coin_has_no_direction_and_a_vote_has_one(
    start: dict[str, torch.Tensor], policy: Policy, tmp_path: Path
) -> None:
    """A single run on coins may wander far, as it does under any noise; over many draws nothing is left of it."""
    coin = first_steps(start, policy, random_reward(), tmp_path / "coin")
    vote = first_steps(start, policy, majority_vote(answer="text"), tmp_path / "vote")
    error = float(coin.std(ddof=1) / np.sqrt(len(coin)))
    assert abs(coin.mean()) < 3.5 * error, (coin.mean(), error)
    assert vote.mean() > 5 * float(vote.std(ddof=1) / np.sqrt(len(vote))), vote
