"""Process rewards: the same however they are packed or read; implicit ones are exactly a log-ratio, step by step."""

from __future__ import annotations

from dataclasses import replace
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from noisy_heads import opinionated

import laurel
from laurel.algorithms.steps import in_steps
from laurel.credit import labelled_steps, steps_of
from laurel.errors import ConfigurationError
from laurel.policy import (
    ImplicitProcessReward,
    LearnedReward,
    Policy,
    ProcessReward,
    SavedProcessReward,
    StepJudge,
    export_reward_model,
    pack,
    reward_for,
    reward_model_for,
    tiny,
)
from laurel.rewards import Grader, weighted
from laurel.rollout import Job, LocalSampler
from laurel.tasks import Task
from laurel.tree import Ending, Failed, Outcome, Rollout, Sampling, Score, Segment, Source, Tree

TASKS = {name: Task(name, f"{name}>", "a") for name in ("ab", "cd")}


def policy(**changes: object) -> Policy:
    settings = {"alphabet": "abcd>;", "hidden_size": 16, "layers": 1, "heads": 2, "context_length": 24}
    return tiny(**{**settings, **changes})  # type: ignore[arg-type]


def drawn(writer: Policy) -> list[Tree]:
    sampler = LocalSampler(writer, Sampling(), laurel.Limits(max_new_tokens=10), seed=1)
    jobs = [Job(f"1.{index}", task, 4, None) for index, task in enumerate(TASKS.values())]
    return [in_steps(tree, ";", writer.decode) for tree in sampler.collect(jobs, policy_version=0)]


def asked(trees: list[Tree]) -> list[tuple[Task, Rollout]]:
    return [(TASKS[tree.task_id], rollout) for tree in trees for rollout in tree.rollouts]


def written() -> Tree:
    """What a policy could have written, one token per character: two steps, and one."""
    reader = policy()
    prompt, tokens = reader.encode_prompt("ab>"), reader.encode_answer("ab;cd")
    ended = Outcome(Ending.TERMINATED, "stop")
    return Tree(
        "t",
        "ab",
        (
            Segment(Source.PROMPT, prompt, -1, "ab>"),
            Segment(Source.POLICY, tokens[:3], 0, "ab;", rollout_id="t.0"),
            Segment(Source.POLICY, tokens[3:], 1, "cd", outcome=ended, rollout_id="t.0"),
            Segment(Source.POLICY, reader.encode_answer("d"), 0, "d", outcome=ended, rollout_id="t.1"),
        ),
    )


def parts(score: object) -> list[float]:
    assert isinstance(score, Score)
    return list(score.parts.values())


def test_each_step_is_read_at_its_end() -> None:
    writer = policy()
    model, trees = opinionated(reward_model_for(writer)), drawn(writer)
    scores = ProcessReward(model, writer=writer).score_rollouts(asked(trees))
    several = 0
    for (_, rollout), score in zip(asked(trees), scores, strict=True):
        said = parts(score)
        assert list(score.parts) == [f"step {number}" for number in range(1, len(said) + 1)]
        path = rollout.tree.path(rollout.leaf)
        for step, value in zip(steps_of(rollout), said, strict=True):
            until = [rollout.tree.segments[index] for index in path[: path.index(step) + 1]]
            row = Tree("row", "row", (Segment(Source.PROMPT, np.concatenate([s.tokens for s in until]), -1),))
            with torch.no_grad():
                hidden = model.rewards(pack([row], [np.zeros(len(row.flat), np.bool_)]), np.array([len(row.flat) - 1]))
            assert value == pytest.approx(float(torch.sigmoid(hidden[0])), abs=1e-5)
        several += len(said) > 1
        assert isinstance(score, Score) and score.value == 0.0
    assert several > 2


def test_drawn_and_encoded_steps_agree() -> None:
    writer = policy()
    model, tree = opinionated(reward_model_for(writer)), written()
    by_tokens = ProcessReward(model, writer=writer, aggregation="min").score_rollouts(asked([tree]))
    by_texts = ProcessReward(model, aggregation="min").score_rollouts(asked([tree]))
    for one, other in zip(by_tokens, by_texts, strict=True):
        np.testing.assert_allclose(parts(one), parts(other), atol=1e-5)
        assert isinstance(one, Score) and one.value == min(parts(one))
    assert [len(parts(score)) for score in by_tokens] == [2, 1]


def test_what_cannot_be_read_fails() -> None:
    short = opinionated(reward_model_for(policy(context_length=7)))
    one, other = ProcessReward(short, writer=policy()).score_rollouts(asked([written()]))
    assert isinstance(one, Failed) and "9 tokens do not fit in the reward model's 7" in one.reason
    assert isinstance(other, Score)
    with pytest.raises(ConfigurationError, match="cannot be put together by 'most'"):
        ProcessReward(short, aggregation="most")  # type: ignore[arg-type]


def test_as_a_part_of_a_weighted_reward_and_from_the_disk(tmp_path: Path) -> None:
    writer = policy()
    model, trees = opinionated(reward_model_for(writer)), drawn(writer)
    export_reward_model(model, tmp_path / "model")
    saved = SavedProcessReward(tmp_path / "model", aggregation="last")
    again = SavedProcessReward(**{k: v for k, v in saved.description.items() if k != "type"})
    assert again.fingerprint == saved.fingerprint and again.aggregation == "last"
    both = weighted({"process": (saved, 0.0), "outcome": (LearnedReward(model), 0.5)})
    bound = reward_for(writer, both)
    assert bound.parts["process"][0].reads_tokens and isinstance(bound.parts["process"][0], ProcessReward)
    with Grader(bound) as grader:
        graded, _ = grader.grade(trees, TASKS)
    wanted = ProcessReward(model, writer=writer).score_rollouts(asked(trees))
    for (_, rollout), score in zip(asked(graded), wanted, strict=True):
        assert rollout.outcome is not None and isinstance(rollout.outcome.score, Score)
        own = rollout.outcome.score.parts
        read = [value for name, value in own.items() if name.startswith("process/step ")]
        np.testing.assert_allclose(read, parts(score), atol=1e-5)
        assert own["process"] == pytest.approx(read[-1]) and own["outcome"] == pytest.approx(
            log(read[-1] / (1 - read[-1])), abs=1e-4
        )


def moved(start: Policy, seed: int) -> Policy:
    """The same policy elsewhere."""
    other = policy()
    other.load_tensors(start.tensors())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in other.trainable_parameters().values():
            tensor += 0.3 * torch.randn(tensor.shape, generator=generator)
    return other


def test_implicit_rewards_sum_to_the_log_ratio_of_whole_answers() -> None:
    start = policy()
    now = moved(start, 0)
    trees = drawn(now)
    reward = ImplicitProcessReward(now, start, beta=0.3, total=True, writer=now)
    for (_, rollout), score in zip(asked(trees), reward.score_rollouts(asked(trees)), strict=True):
        row = Tree("row", "row", tuple(replace(s, parent=i - 1) for i, s in enumerate(rollout.segments)))
        packed = pack([row], [row.flat.policy])
        with torch.no_grad():
            ratio = (now.token_scores(packed).log_probs - start.token_scores(packed).log_probs).double()
        assert isinstance(score, Score)
        assert score.value == pytest.approx(0.3 * float(ratio.sum()), abs=1e-5)
        ends = np.cumsum([len(s) for s in rollout.segments[1:]])
        steps = [0.3 * float(part.sum()) for part in np.split(ratio.numpy(), ends[:-1])]
        np.testing.assert_allclose(parts(score), steps, atol=1e-5)


def test_a_policy_relative_to_itself_is_worth_nothing_and_a_snapshot_serves() -> None:
    start = policy()
    reward = ImplicitProcessReward(start, start.snapshot("start"), beta=1.0, writer=start)
    for score in reward.score_rollouts(asked(drawn(start))):
        assert set(parts(score)) == {0.0}
    assert reward.description["reference"] == "start"
    with pytest.raises(ConfigurationError, match="beta must be above 0"):
        ImplicitProcessReward(start, start, beta=0.0)
    with pytest.raises(ConfigurationError, match="read other tokens"):
        ImplicitProcessReward(start, policy(alphabet="xyz"), beta=1.0)


def test_a_judge_says_how_likely_its_answer_is_yes() -> None:
    judge = policy(alphabet="abcdyesno>;? ", context_length=64)
    question = "{prompt}{before}?{step}?"
    steps = ["ab;", "c;", "d"]
    said = StepJudge(judge, question=question)(TASKS["ab"], steps)
    for number, label in enumerate(said):
        prompt = judge.encode_prompt(f"ab>{''.join(steps[:number])}?{steps[number]}?")
        totals = []
        for answer in ("yes", "no"):
            row = Tree(
                "row",
                "row",
                (Segment(Source.PROMPT, prompt, -1), Segment(Source.POLICY, judge.encode_answer(answer)[:-1], 0)),
            )
            with torch.no_grad():
                totals.append(float(judge.token_scores(pack([row], [row.flat.policy])).log_probs.double().sum()))
        assert label == pytest.approx(1 / (1 + np.exp(totals[1] - totals[0])), abs=1e-5)
    assert len(set(np.round(said, 4))) == 3


def test_questions_that_ask_nothing_are_refused() -> None:
    judge = policy(alphabet="yesno? ")
    for question in ("right?", "{prompt}?", "{step} {mood}?"):
        with pytest.raises(ConfigurationError, match="has the fields"):
            StepJudge(judge, question=question)
    with pytest.raises(ConfigurationError, match="the same tokens"):
        StepJudge(judge, question="{step}?", yes="no")


def test_labels_of_a_judge_are_what_a_fit_reads() -> None:
    writer = policy()
    judge = StepJudge(policy(alphabet="abcdyesno>;? ", context_length=64), question="{prompt}{before}?{step}?")
    with Grader(laurel.rewards.step_scores(judge)) as grader:
        (graded, *_), _ = grader.grade([written()], TASKS)
    labels = labelled_steps(graded)
    assert [step for step, _ in labels] == [1, 2, 3] and all(0 < label < 1 for _, label in labels)
    assert [label for _, label in labels[:2]] == pytest.approx(judge(TASKS["ab"], ["ab;", "cd"]))
    assert writer.vocabulary_size
