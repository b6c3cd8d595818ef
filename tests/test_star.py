"""Cloning what was accepted: by itself, and with a hint that is gone when it is learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_learning import LEARNED, UNTRAINED, accuracy, circle
from test_resume_kinds import killed_and_resumed

import laurel
from laurel.errors import ConfigurationError, TaskError
from laurel.policy import Policy
from laurel.rationalised import hinted, without_hint
from laurel.rewards import exact_match, majority_vote
from laurel.runs import Run
from laurel.tasks import Task, TaskSet
from laurel.tree import Score, Source

HINT = "{reference}"


def policy(seed: int = 1, alphabet: str = "abcd>") -> Policy:
    shape: dict[str, Any] = {"hidden_size": 32, "layers": 1, "heads": 2, "context_length": 6}
    return laurel.policy.tiny(alphabet=alphabet, initial_scale=0.15, seed=seed, **shape)


def learn(made: Policy, tasks: TaskSet, directory: Path, **others: Any) -> Run:
    settings: dict[str, Any] = {
        "algorithm": laurel.star(),
        "reward": exact_match(),
        "steps": 40,
        "prompts_per_step": 8,
        "samples_per_prompt": 16,
        "limits": laurel.Limits(max_new_tokens=2),
        "optimiser": laurel.OptimiserSettings(learning_rate=5e-3, betas=(0.9, 0.99)),
        "checkpoint_every": 50,
        "run": directory,
        **others,
    }
    return laurel.train(policy=made, tasks=tasks, **settings)


def test_it_learns_from_its_own_right_answers(tmp_path: Path) -> None:
    made = policy()
    assert accuracy(made, 1) < UNTRAINED
    learn(made, circle(), tmp_path / "run")
    assert accuracy(made, 1) > LEARNED


def copying(made: Policy, directory: Path) -> Policy:
    """A policy that says the letter before the first one if it is told one, and else always "a"."""
    letters = "abcd"
    shown = [Task(f"{told}{asked}", f"{told}{asked}>", told) for told in letters for asked in letters]
    shown += [Task(asked, f"{asked}>", "a") for asked in letters]
    laurel.train(
        policy=made, tasks=TaskSet("copying", tuple(shown)), algorithm=laurel.clone(), steps=100, prompts_per_step=20,
        optimiser=laurel.OptimiserSettings(learning_rate=1e-2, betas=(0.9, 0.99)), checkpoint_every=100, run=directory,
    )  # fmt: skip
    return made


def test_a_hint_teaches_what_the_policy_never_says_by_itself(tmp_path: Path) -> None:
    """It answers "a" to everything, so that no sample of three of four prompts is accepted; told, it repeats."""
    made = copying(policy(), tmp_path / "start")
    start = {name: tensor.clone() for name, tensor in made.tensors().items()}
    slow = laurel.OptimiserSettings(learning_rate=2e-3, betas=(0.9, 0.99))
    short: dict[str, Any] = {"samples_per_prompt": 4, "steps": 30, "checkpoint_every": 30, "optimiser": slow}
    learn(made, circle(), tmp_path / "without", **short)
    alone = accuracy(made, 1)
    made.load_tensors(start)
    run = learn(made, circle(), tmp_path / "with", algorithm=laurel.star(hint=HINT), **short)
    helped = accuracy(made, 1)
    assert alone < 0.6 and helped > LEARNED, (alone, helped)
    with Run.open(run.directory) as kept:
        rationalised = [metric.mean for _, metric in kept.metric("rationalised")]
        first = kept.trees(1)
    assert rationalised[0] >= 0.5 and rationalised[-1] == 0.0
    hints = [s for tree in first for s in tree.segments if ".hint" in (s.rollout_id or "")]
    drawn = [s for tree in first for s in tree.segments if s.source is Source.POLICY and s not in hints]
    assert hints and all(s.sampler_log_probs is None and s.policy_version is None and s.parent == 0 for s in hints)
    assert drawn and all(s.sampler_log_probs is not None for s in drawn)
    assert all(len(tree.segments[0]) == 2 for tree in first), "no hint stands in what is learned from"
    assert all(isinstance(s.outcome.score, Score) for s in hints if s.outcome)


def test_killed_and_resumed_with_hints(tmp_path: Path) -> None:
    def changes() -> dict[str, Any]:
        return {"algorithm": laurel.star(hint=HINT)}

    with killed_and_resumed(tmp_path, "before_update:4", changes) as run:
        assert len(run.metric("rationalised")) == 4


def test_a_hint_by_hand() -> None:
    task = Task("t", "q?", "4", {"why": "two and two"})
    assert hinted(task, "The answer is {reference}. ").prompt == "The answer is 4. q?"
    chat = Task("t", ({"role": "system", "content": "s"}, {"role": "user", "content": "q?"}), "4", {"why": "two"})
    assert hinted(chat, "{why}: ").prompt == (chat.prompt[0], {"role": "user", "content": "two: q?"})  # type: ignore[comparison-overlap]
    with pytest.raises(TaskError, match="the column 'because' of the template is missing"):
        hinted(task, "{because}")


def test_what_was_drawn_behind_a_hint_stands_below_the_prompt() -> None:
    made = policy()
    sampler = laurel.rollout.LocalSampler(
        made, laurel.Sampling(temperature=0.7), laurel.Limits(max_new_tokens=2), seed=0
    )
    task = circle()[0]
    (told,) = sampler.collect([laurel.rollout.Job("1.0.hint", hinted(task, HINT), 3, None)], policy_version=5)
    (plain,) = sampler.collect([laurel.rollout.Job("1.0", task, 1, None)], policy_version=5)
    moved = without_hint(told, plain)
    assert np.array_equal(moved.segments[0].tokens, plain.segments[0].tokens) and len(told.segments[0]) == 3
    for before, after in zip(told.segments[1:], moved.segments[1:], strict=True):
        assert np.array_equal(before.tokens, after.tokens) and after.sampling is None and after.policy_version is None


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"reward": majority_vote(answer="text")}, "no hint can be given: the reward holds an answer against"),
        ({"environment": laurel.environments.NumberGuessing()}, "no hint can be given: an environment writes"),
        ({"algorithm": laurel.star(hint="{nothing}")}, "the column 'nothing'"),
        ({"algorithm": laurel.star(hint="abcd{reference}")}, "behind the hint"),
    ],
)
def test_hints_that_cannot_be_given_are_refused(others: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigurationError, TaskError), match=said):
        learn(policy(), circle(), tmp_path / "run", **{"algorithm": laurel.star(hint=HINT), **others})


def test_an_empty_hint_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="The hint is empty"):
        laurel.star(hint="")
