"""A reward model as a reward: the same score however it is packed or read, and Failed where it cannot read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from noisy_heads import opinionated

import laurel
from laurel.policy import LearnedReward, Policy, RewardModel, answer_ends, pack, reward_model_for, tiny
from laurel.policy import read_rollouts as module
from laurel.rewards import Grader, GradingSettings
from laurel.rollout import Job, LocalSampler
from laurel.tasks import Task, TaskSet
from laurel.tree import Ending, Failed, Outcome, Sampling, Score, Segment, Source, Tree

TASKS = {name: Task(name, f"{name}>", "a") for name in ("ab", "cd", "abcd")}


def policy(**changes: object) -> Policy:
    settings = {"alphabet": "abcdefgh>", "hidden_size": 16, "layers": 1, "heads": 2, "context_length": 24}
    return tiny(**{**settings, **changes})  # type: ignore[arg-type]


def drawn(writer: Policy) -> list[Tree]:
    sampler = LocalSampler(writer, Sampling(), laurel.Limits(max_new_tokens=6), seed=0)
    jobs = [Job(f"1.{index}", task, 4, None) for index, task in enumerate(TASKS.values())]
    return sampler.collect(jobs, policy_version=0)


def alone(model: RewardModel, rollout: laurel.tree.Rollout) -> float:
    """The reward of one row without anything beside it."""
    tokens = np.concatenate([segment.tokens for segment in rollout.segments])
    tree = Tree("alone", "alone", (Segment(Source.PROMPT, tokens, -1),))
    with torch.no_grad():
        packed = pack([tree], [np.zeros(len(tokens), np.bool_)])
        return float(model.rewards(packed, answer_ends([tree], [tree.leaves]))[0])


def values(trees: list[Tree]) -> list[float]:
    return [rollout.reward for tree in trees for rollout in tree.rollouts]


@pytest.mark.parametrize("budget", [1, 40, 4096])
def test_packed_scores_are_those_of_single_rows(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOKENS_PER_PASS", budget)
    writer = policy()
    model, trees = opinionated(reward_model_for(writer)), drawn(writer)
    with Grader(LearnedReward(model, writer=writer)) as grader:
        graded, metrics = grader.grade(trees, TASKS)
    wanted = [alone(model, rollout) for tree in trees for rollout in tree.rollouts]
    np.testing.assert_allclose(values(graded), wanted, atol=1e-5)
    assert metrics["grading_failed"].mean == 0
    assert len(set(np.round(wanted, 4))) > 5


def test_one_at_a_time_is_the_same() -> None:
    writer = policy()
    reward, trees = LearnedReward(opinionated(reward_model_for(writer)), writer=writer), drawn(writer)
    asked = [(TASKS[tree.task_id], rollout) for tree in trees for rollout in tree.rollouts]
    together = reward.score_rollouts(asked)
    for one, (task, rollout) in zip(together, asked, strict=True):
        single = reward(task, rollout)
        assert isinstance(one, Score) and isinstance(single, Score)
        assert one.value == pytest.approx(single.value, abs=1e-5)


def test_text_and_tokens_agree_where_text_says_it_all() -> None:
    writer = policy()
    model, trees = opinionated(reward_model_for(writer)), drawn(writer)
    asked = [(TASKS[tree.task_id], rollout) for tree in trees for rollout in tree.rollouts]
    # Ended answers of one token per character: encoding their text gives the drawn tokens back.
    plain = [
        (task, rollout)
        for task, rollout in asked
        if writer.decode(rollout.segments[-1].tokens) == rollout.text
        and rollout.text
        and (len(rollout.text) + (rollout.outcome.ending is Ending.TERMINATED)) == len(rollout.segments[-1])  # type: ignore[union-attr]
    ]
    assert len(plain) > 3
    tokens = LearnedReward(model, writer=writer).score_rollouts(plain)
    texts = LearnedReward(model).score_rollouts(plain)
    for a, b in zip(tokens, texts, strict=True):
        assert isinstance(a, Score) and isinstance(b, Score)
        assert a.value == pytest.approx(b.value, abs=1e-5)


def test_what_does_not_fit_fails_alone() -> None:
    writer = policy()
    model = opinionated(reward_model_for(policy(context_length=8)))
    trees = drawn(writer)
    results = LearnedReward(model, writer=writer).score_rollouts(
        [(TASKS[tree.task_id], rollout) for tree in trees for rollout in tree.rollouts]
    )
    rollouts = [rollout for tree in trees for rollout in tree.rollouts]
    lengths = [sum(map(len, rollout.segments)) for rollout in rollouts]
    assert min(lengths) <= 8 < max(lengths)
    for rollout, length, result in zip(rollouts, lengths, results, strict=True):
        if length > 8:
            assert result == Failed(f"{length} tokens do not fit in the reward model's 8")
        else:
            assert isinstance(result, Score) and result.value == pytest.approx(alone(model, rollout), abs=1e-5)


def test_what_has_no_tokens_there_fails() -> None:
    writer, other = policy(), policy(alphabet="abcd>")
    reward = LearnedReward(opinionated(reward_model_for(other)), writer=writer)
    assert not reward.reads_tokens
    done = Outcome(Ending.TERMINATED, "end")
    prompt = Segment(Source.PROMPT, writer.encode_prompt("ab>"), -1, text="ab>")
    answers = [Segment(Source.POLICY, writer.encode_answer(text), 0, text=text, outcome=done) for text in ("a", "h")]
    tree = Tree("t", "ab", (prompt, *answers))
    good, bad = reward.score_rollouts([(TASKS["ab"], rollout) for rollout in tree.rollouts])
    assert isinstance(good, Score)
    assert isinstance(bad, Failed) and bad.reason.startswith("the reward model cannot read it")
    first = replace(answers[0], outcome=None)
    turns = (prompt, first, Segment(Source.ENVIRONMENT, np.array([2]), 1), replace(answers[0], parent=2))
    (dialogue,) = reward.score_rollouts([(TASKS["ab"], Tree("t", "ab", turns).rollouts[0])])
    assert isinstance(dialogue, Failed) and "dialogues" in dialogue.reason


def test_dialogues_are_read_as_they_were_drawn() -> None:
    writer = policy()
    model = opinionated(reward_model_for(writer))
    done = Outcome(Ending.TERMINATED, "end")
    turns = (
        Segment(Source.PROMPT, np.array([2, 3]), -1),
        Segment(Source.POLICY, np.array([4]), 0),
        Segment(Source.ENVIRONMENT, np.array([5, 6]), 1),
        Segment(Source.POLICY, np.array([7, 1]), 2, outcome=done),
    )
    rollout = Tree("t", "ab", turns).rollouts[0]
    result = LearnedReward(model, writer=writer)(TASKS["ab"], rollout)
    assert isinstance(result, Score) and result.value == pytest.approx(alone(model, rollout), abs=1e-5)


def test_a_score_that_is_not_finite_fails() -> None:
    writer = policy()
    model = opinionated(reward_model_for(writer))
    with torch.no_grad():
        model.head.fill_(torch.nan)
    settings = GradingSettings(failure_fraction=1.0, failures_in_a_row=100)
    with Grader(LearnedReward(model, writer=writer), settings) as grader:
        graded, _ = grader.grade(drawn(writer), TASKS)
    outcomes = [rollout.outcome for tree in graded for rollout in tree.rollouts]
    assert all(o is not None and o.score == Failed("the reward model says nan") for o in outcomes)


def test_an_online_method_learns_what_it_likes(tmp_path: object) -> None:
    writer = policy(seed=1)
    model = opinionated(reward_model_for(writer))
    run = laurel.train(
        policy=writer,
        tasks=TaskSet("tasks", tuple(TASKS.values())),
        reward=LearnedReward(model, writer=writer),
        algorithm=laurel.grpo(),
        steps=12,
        prompts_per_step=3,
        samples_per_prompt=8,
        limits=laurel.Limits(max_new_tokens=4),
        optimiser=laurel.OptimiserSettings(learning_rate=1e-2),
        seed=0,
        run=f"{tmp_path}/run",
    )
    rewards = [metric.mean for _, metric in run.metric("reward")]
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.2
