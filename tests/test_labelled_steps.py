"""Labelled steps end to end: from rows, continuations and judges to trees, and from trees to a process reward model."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np
import pytest
import torch

from laurel.algorithms.steps import in_steps, step_ends
from laurel.credit import labelled_steps
from laurel.environments import NumberGuessing
from laurel.errors import LearnerError, TaskError
from laurel.experience import demonstration, no_reference
from laurel.judged import comparison
from laurel.judged_steps import label_by_continuations, label_by_judge, step_rows
from laurel.learner import OptimiserSettings, RewardLearner
from laurel.objectives import StepLabels
from laurel.policy import Policy, answer_ends, pack, reward_model_for, tiny
from laurel.preferences import JudgedSteps, rankings, step_labels, thumbs
from laurel.rewards import Grader, GradingSettings, in_process, step_scores
from laurel.rollout import Job, Limits, LocalSampler
from laurel.tasks import Task
from laurel.tree import Failed, Sampling, Source, Tree

TASKS = [Task(name, f"{name}>", "a") for name in ("a", "b", "ab")]


def policy(**changes: object) -> Policy:
    settings = {"alphabet": "abcd>;", "hidden_size": 16, "layers": 1, "heads": 2, "context_length": 24}
    return tiny(**{**settings, **changes})  # type: ignore[arg-type]


def trees_of(rows: list[dict[str, object]], reader: Policy) -> list[Tree]:
    tasks = step_labels(rows=rows, separator=";", strict=True)  # type: ignore[arg-type]
    return [comparison(reader, task, f"0.{n}") for n, task in enumerate(tasks) if isinstance(task, JudgedSteps)]


def sampler(writer: Policy) -> LocalSampler:
    return LocalSampler(writer, Sampling(), Limits(max_new_tokens=10), seed=0)


def jobs() -> list[Job]:
    return [Job(f"labels.{number}", task, 3, None) for number, task in enumerate(TASKS)]


def test_an_answer_is_cut_where_its_steps_end() -> None:
    reader = policy()
    (tree,) = trees_of([{"prompt": "a>", "completions": ["ab", "c", "d"], "labels": [1, None, 0.5]}], reader)
    assert [segment.text for segment in tree.segments] == ["a>", "ab;", "c;", "d"]
    joined = np.concatenate([segment.tokens for segment in tree.segments[1:]])
    np.testing.assert_array_equal(joined, reader.encode_answer("ab;c;d"))
    assert labelled_steps(tree) == [(1, 1.0), (3, 0.5)]


def test_a_token_that_spans_two_steps_belongs_to_the_earlier() -> None:
    texts = {1: "ab", 2: "c;d", 3: "e", 4: "f;g;"}

    def decode(tokens: Sequence[int]) -> str:
        return "".join(texts.get(int(token), "") for token in tokens)

    assert step_ends(np.array([1, 2, 3, 9]), ["abc;", "de"], decode) == [2, 4]
    with pytest.raises(TaskError, match="do not give the text"):
        step_ends(np.array([1, 2]), ["ab;", "c"], decode)
    with pytest.raises(TaskError, match="more than a step"):
        step_ends(np.array([4, 3]), ["f;", "g;", "e"], decode)


def test_the_loss_reads_step_ends_alone_and_no_split_changes_the_step() -> None:
    rows = [
        {"prompt": "a>", "completions": ["ab", "cd"], "labels": [1, 0]},
        {"prompt": "b>", "completions": ["a", "c", "d"], "labels": [1, None, 0.25]},
    ]
    trees = trees_of(rows, policy())
    made = []
    for tokens in (10_000, 1):
        settings = OptimiserSettings(learning_rate=1e-2, betas=(0.0, 0.0), epsilon=1.0)
        learner = RewardLearner(reward_model_for(policy()), StepLabels(), settings, tokens_per_microbatch=tokens)
        assert learner.judge(trees).loss.mean == pytest.approx(log(2))
        for _ in range(3):
            learner.update(trees)
        made.append(learner.model)
    for name, tensor in made[0].tensors().items():
        torch.testing.assert_close(made[1].tensors()[name], tensor, rtol=0, atol=1e-6)
    with torch.no_grad():
        packed = pack(trees, [np.zeros(len(tree.flat), np.bool_) for tree in trees])
        odds = made[0].rewards(packed, answer_ends(trees, [[1, 2], [1, 3]])).double()
    by_hand = -torch.nn.functional.logsigmoid(torch.stack([odds[0], -odds[1], odds[2], odds[3], -odds[3]]))
    wanted = [(by_hand[0] + by_hand[1]) / 2, (by_hand[2] + 0.25 * by_hand[3] + 0.75 * by_hand[4]) / 2]
    fresh = RewardLearner(made[0], StepLabels())
    assert fresh.judge(trees).loss.sum == pytest.approx(float(sum(wanted)), abs=1e-6)


def test_a_fit_gives_the_labels_back() -> None:
    rows = [
        {"prompt": f"{name}>", "completions": [first, "c"], "labels": [label, 0.5]}
        for name, first, label in (("a", "a", 0.9), ("a", "b", 0.2), ("b", "a", 0.3), ("b", "b", 0.7))
    ]
    trees = trees_of(rows, policy())
    settings = OptimiserSettings(learning_rate=1e-2, schedule="linear", maximum_gradient_norm=None)
    learner = RewardLearner(reward_model_for(policy(hidden_size=32)), StepLabels(), settings, total_steps=250)
    for _ in range(250):
        learner.update(trees)
    said = [float(1 / (1 + np.exp(-odds[0]))) for odds in learner.rewards(trees)]
    np.testing.assert_allclose(said, [0.9, 0.2, 0.3, 0.7], atol=0.02)
    report = learner.judge(trees)
    # Steps of 0.9, 0.8, 0.7, 0.7 held most likely, and four of one half.
    assert report.accuracy.mean == pytest.approx((0.9 + 0.8 + 0.7 + 0.7 + 2.0) / 8, abs=1e-6)
    assert report.calibration.error < 0.02


@in_process
def has_a(task: Task, text: str) -> float:
    return float("a" in text)


@pytest.mark.parametrize("estimate", ["soft", "hard"])
def test_labels_by_continuations_are_those_of_the_policy(estimate: str) -> None:
    writer = policy()
    with Grader(has_a) as grader:
        trees, metrics = label_by_continuations(
            sampler(writer), grader, jobs(), separator=";", continuations=6, estimate=estimate
        )
    answers = [rollout for tree in trees for rollout in tree.rollouts]
    assert len(answers) == 9 and not any("@" in rollout.id for rollout in answers)
    seen, between = 0, 0
    for tree in trees:
        for rollout in tree.rollouts:
            steps = [s for s in tree.path(rollout.leaf) if tree.segments[s].source is Source.POLICY]
            labels = [dict(labelled_steps(tree))[step] for step in steps]
            assert labels[-1] == rollout.reward
            so_far = ""
            for step, label in zip(steps[:-1], labels[:-1], strict=True):
                so_far += tree.segments[step].text
                assert so_far.endswith(";")
                if "a" in so_far:  # nothing that follows takes it away
                    assert label == 1.0
                seen, between = seen + 1, between + (0 < label < 1)
    assert seen > 3 and (between > 0) == (estimate == "soft")
    assert metrics["step_label"].count == seen + 9 and metrics["steps_without_label"].sum == 0
    assert metrics["continuations"].mean == pytest.approx(6 * seen / 9)


def test_labelled_trees_become_rows_that_say_the_same() -> None:
    writer = policy()
    with Grader(has_a) as grader:
        trees, _ = label_by_continuations(sampler(writer), grader, jobs(), separator=";", continuations=2)
    rows = step_rows(trees, {task.id: task for task in TASKS})
    answers = [rollout for tree in trees for rollout in tree.rollouts]
    assert len(rows) == len(answers)
    compared = 0
    for row, rollout in zip(rows, answers, strict=True):
        steps, known = rollout.segments[1:], dict(labelled_steps(rollout.tree))
        if all(step.text.strip() for step in steps):  # a step without text is no row to learn from
            (again,) = trees_of([row], writer)
            assert [step.text for step in again.segments[1:]] == [step.text for step in steps]
            path = rollout.tree.path(rollout.leaf)
            assert [label for _, label in labelled_steps(again)] == [known[step] for step in path[1:]]
            compared += len(steps) > 1
    assert compared > 1


def test_turns_of_a_dialogue_are_labelled_by_episodes_that_go_on_and_make_no_rows() -> None:
    environment = NumberGuessing()
    letters = "".join(sorted(set("0123456789guess 1-9:higher:lower:")))
    writer = policy(alphabet=letters, context_length=64)
    tasks = list(environment.tasks(count=12))
    limits = Limits(max_new_tokens=2, max_turns=2)
    with Grader(None) as grader:
        trees, metrics = label_by_continuations(
            LocalSampler(writer, Sampling(), limits, seed=0),
            grader,
            [Job(f"labels.{number}", task, 20, environment) for number, task in enumerate(tasks)],
            separator=None,
            continuations=3,
        )
    dialogues = [r for tree in trees for r in tree.rollouts if len(r.segments) > 2]
    assert dialogues and metrics["steps_without_label"].sum == 0
    assert metrics["continuations"].sum == 3 * sum(len(r.segments) > 3 for r in dialogues)
    for rollout in dialogues:
        assert [segment.source for segment in rollout.segments[1:3]] == [Source.POLICY, Source.ENVIRONMENT]
    with pytest.raises(TaskError, match="is a dialogue with an environment"):
        step_rows([dialogues[0].tree], {task.id: task for task in tasks})


def test_a_judge_is_asked_about_every_step() -> None:
    writer = policy()
    drawn = [in_steps(tree, ";", writer.decode) for tree in sampler(writer).collect(jobs(), policy_version=0)]

    @in_process
    def short(task: Task, steps: Sequence[str]) -> list[float]:
        return [float(len(step) < 3) for step in steps]

    tasks = {task.id: task for task in TASKS}
    with Grader(step_scores(short)) as grader:
        labelled, metrics = label_by_judge(drawn, grader, tasks)
    for tree in labelled:
        for step, label in labelled_steps(tree):
            assert label == float(len(tree.segments[step].text) < 3)
    assert metrics["steps_without_label"].sum == 0 and 0 < metrics["step_label"].mean < 1
    sure = in_process(lambda task, steps: [2.0] * len(steps))
    with Grader(step_scores(sure)) as grader, pytest.raises(TaskError, match=r"gave 2 to step 1 of tree labels\.0"):
        label_by_judge(drawn, grader, tasks)
    broken = in_process(lambda task, steps: Failed("asleep"))
    with Grader(step_scores(broken), GradingSettings(failure_fraction=1.0)) as grader:
        _, counted = label_by_judge(drawn, grader, tasks)
    assert counted["step_label"].count == 0 and counted["steps_without_label"].mean == 1


def test_labels_that_are_none_are_refused_by_the_learner() -> None:
    (tree,) = trees_of([{"prompt": "a>", "completions": ["a"], "labels": [1]}], policy())
    leaf = tree.leaves[0]
    outcome = tree.segments[leaf].outcome
    assert outcome is not None and not isinstance(outcome.score, Failed | None)
    wrong = tree.with_outcomes({leaf: type(outcome)(outcome.ending, "x", type(outcome.score)(0.0, {"step 1": -1.0}))})
    with pytest.raises(LearnerError, match=r"The label -1\.0 of a step is no probability"):
        RewardLearner(reward_model_for(policy()), StepLabels()).update([wrong])


def test_what_is_no_demonstration_says_why() -> None:
    right = {"prompt": "a>", "completions": ["a", "b"], "labels": [1, 1]}
    tasks = step_labels(rows=[right, {**right, "prompt": "b>", "labels": [1, 0]}], separator=";")
    assert demonstration(policy(), tasks[0], "0").rollouts[0].text == "a;b"
    with pytest.raises(TaskError, match="Task preferences-2 has no reference answer") as caught:
        demonstration(policy(), tasks[1], "1")
    assert "whose steps are not all labelled right" in str(caught.value.hint)
    down = thumbs(rows=[{"prompt": "a>", "completion": "a", "label": False}])
    assert "thumb down" in str(no_reference(down[0]).hint)
    tied = rankings(rows=[{"prompt": "a>", "answers": ["a", "b"], "ranks": [1, 1]}], ranks="ranks")
    assert "none of its answers is above all others" in str(no_reference(tied[0], "tied").hint)
    assert "reference=..." in str(no_reference(Task("1", "a>")).hint)


def test_what_is_too_long_names_its_row() -> None:
    with pytest.raises(TaskError, match="Task preferences-1: prompt and steps have 9 tokens"):
        trees_of([{"prompt": "a>", "completions": ["abcd", "d"], "labels": [1, 1]}], policy(context_length=7))
