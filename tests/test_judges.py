"""Judges in whole runs: what they like is learned, as a reward, as pairs, and by a policy of its own answers."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from test_resume_kinds import killed_and_resumed

import laurel
from laurel.errors import ConfigurationError, RewardError
from laurel.learner import EnsembleSettings
from laurel.policy import Comparison, JudgedReward, PairJudge, Policy, Rubric, SelfJudged
from laurel.preferences import JudgeTeacher, rankings
from laurel.rewards import LearningReward, in_process, weighted
from laurel.runs import Run
from laurel.tasks import Task, TaskSet

ALPHABET = "abcdyn12>|?"
ANSWERS = [one + other for one in "abcd" for other in ("", *"abcd")]
PROMPTS = TaskSet("prompts", tuple(Task(prompt, f"{prompt}>") for prompt in ANSWERS))
LIKES = Rubric(question="{answer}?", verdicts=("y", "n"))
PREFERS = Comparison(question="{first}|{second}?")
QUICK = laurel.OptimiserSettings(learning_rate=1e-2)


def demonstrations() -> Iterator[Task]:
    """A judge says yes to what begins with "a", and of two answers that the one with it is better. It answers anything.

    Questions of either kind, and prompts, are about equally frequent.
    """
    for place, one in enumerate(ANSWERS):
        for number in range(5):
            yield Task(f"{one}>{number}", f"{one}>", ANSWERS[(7 * place + 4 * number) % len(ANSWERS)])
        for number in range(4):  # as often, about, as pairs
            yield Task(f"{one}?{number}", f"{one}?", "y" if one[0] == "a" else "n")
        for other in ANSWERS:
            if (one[0] == "a") != (other[0] == "a"):
                yield Task(f"{one}|{other}?", f"{one}|{other}?", "1" if one[0] == "a" else "2")


@in_process
def begins_with_a(task: Task, text: str) -> float:
    return float(text[:1] == "a")


def tiny() -> Policy:
    return laurel.policy.tiny(alphabet=ALPHABET, hidden_size=32, layers=1, heads=2, context_length=16)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a policy that has learned to judge."""
    policy, directory = tiny(), tmp_path_factory.mktemp("judge")
    laurel.train(
        policy=policy,
        tasks=TaskSet("verdicts", tuple(demonstrations())),
        algorithm=laurel.clone(),
        steps=130,
        prompts_per_step=32,
        optimiser=laurel.OptimiserSettings(learning_rate=7e-3),
        run=directory / "run",
    )
    policy.export(directory / "model")
    return directory / "model"


def reinforced(directory: Path, reward: Any, **changes: Any) -> Run:
    settings = {
        "policy": tiny(),
        "algorithm": laurel.rloo(),
        "tasks": PROMPTS,
        "prompts_per_step": 8,
        "samples_per_prompt": 4,
        "steps": 24,
        "limits": laurel.Limits(max_new_tokens=2),
        "optimiser": QUICK,
        **changes,
    }
    return laurel.train(reward=reward, run=directory, **settings)


def liked(policy: Policy) -> float:
    return laurel.eval(policy, PROMPTS, reward=begins_with_a, max_new_tokens=2, samples=8).mean


def test_what_a_judge_likes_is_learned(judge: Path, tmp_path: Path) -> None:
    policy = tiny()
    before = liked(policy)
    run = reinforced(tmp_path / "run", JudgedReward(judge, rubric=LIKES), policy=policy)
    said = [metric.mean for _, metric in run.metric("reward")]
    assert before < 0.3 and liked(policy) > 0.9 and sum(said[-3:]) / 3 > said[0] + 0.4
    assert run.configuration["reward"]["model"] == str(judge)


@pytest.mark.slow
def test_online_dpo_learns_from_the_better_of_two_and_records_the_bias(judge: Path, tmp_path: Path) -> None:
    policy = tiny()
    reward = JudgedReward(judge, comparison=PREFERS, ties=True)
    run = reinforced(
        tmp_path / "run",
        reward,
        policy=policy,
        algorithm=laurel.online_dpo(),
        prompts_per_step=20,
        samples_per_prompt=2,
    )
    assert liked(policy) > 0.8
    assert all(metric.mean == pytest.approx(0.5) for _, metric in run.metric("reward"))
    turned = [metric.mean for _, metric in run.metric("reward/flips")]
    said_first = [metric.mean for _, metric in run.metric("reward/said_first")]
    assert all(0 <= share <= 1 for share in turned) and all(0 < share < 1 for share in said_first)


@pytest.mark.slow
def test_a_policy_learns_what_it_says_of_its_own_answers(judge: Path, tmp_path: Path) -> None:
    policy = laurel.policy.load(str(judge))
    before = liked(policy)
    run = reinforced(tmp_path / "run", SelfJudged(rubric=LIKES), policy=policy)
    said = [metric.mean for _, metric in run.metric("reward")]
    assert liked(policy) > before + 0.3 and sum(said[-3:]) / 3 > said[0] + 0.3
    assert [metric.mean for _, metric in run.metric("judge/steps_old")] == list(range(24))


@pytest.mark.parametrize(
    ("refresh", "moment"), [pytest.param(None, "after_sampling:3", marks=pytest.mark.slow), (3, "before_update:4")]
)
def test_killed_and_resumed_the_same_copy_judges(tmp_path: Path, refresh: int | None, moment: str) -> None:
    def changes() -> dict[str, Any]:
        """The digit 1 as the answer to "how good is it?" is a yes."""
        rubric = Rubric(question="{answer}>", verdicts=("1", "0"))
        reward = SelfJudged(rubric=rubric, refresh_every=refresh)
        return {"reward": reward, "held_out_reward": laurel.rewards.exact_match(), "algorithm": laurel.rloo()}

    with killed_and_resumed(tmp_path, moment, changes) as run:
        old = [metric.mean for _, metric in run.metric("judge/steps_old")]
        kept = run.load_checkpoint()
        moved = kept is not None and any(
            not kept.tensors["policy"][name].equal(kept.tensors["reward"][name]) for name in kept.tensors["policy"]
        )
    assert old == ([0, 1, 2, 3] if refresh is None else [0, 1, 2, 0]) and moved


def test_the_copy_is_the_policy_of_the_step_at_which_it_was_renewed(tmp_path: Path) -> None:
    policy = laurel.policy.tiny(alphabet=ALPHABET, hidden_size=16, layers=1, heads=2, context_length=16)
    reward = SelfJudged(rubric=LIKES, refresh_every=2)
    assert isinstance(reward, LearningReward)
    reward.begin(policy, tmp_path, 0)
    start = {name: tensor.clone() for name, tensor in policy.tensors().items()}
    weight = policy.model.get_input_embeddings().weight
    seen = []
    for step in (1, 2, 3, 3, 4):
        reward.learn(step, [], {})
        seen.append(next(iter(reward.state()[0].values())).equal(next(iter(start.values()))))
        weight.data.mul_(1.5)
    assert seen == [True, True, False, False, False]
    renewed = {name: tensor.clone() for name, tensor in reward.state()[0].items()}
    again = SelfJudged(rubric=LIKES, refresh_every=2)
    again.begin(policy, tmp_path, 0)
    again.load_state(renewed, reward.state()[1])
    assert again.state()[1] == {"renewed": 3}
    assert all(tensor.equal(renewed[name]) for name, tensor in again.state()[0].items())


def test_what_judges_itself_needs_another_to_be_held_against(tmp_path: Path) -> None:
    for reward in (SelfJudged(rubric=LIKES), JudgedReward(tiny(), comparison=PREFERS)):
        with pytest.raises(ConfigurationError, match="held_out_reward"):
            reinforced(tmp_path / "run", reward, held_out=TaskSet("other", (Task("e", "dda>", "a"),)))
    with pytest.raises(ConfigurationError, match="at least 2"):
        reinforced(tmp_path / "run", SelfJudged(comparison=PREFERS), samples_per_prompt=1, algorithm=laurel.reinforce())
    policy = tiny()
    with pytest.raises(ConfigurationError, match=r"laurel.policy.SelfJudged"):
        reinforced(tmp_path / "run", weighted({"itself": (JudgedReward(policy), 1.0)}), policy=policy)
    with pytest.raises(RewardError, match="none has begun"):
        laurel.eval(tiny(), PROMPTS, reward=SelfJudged(rubric=LIKES), max_new_tokens=2)
    with pytest.raises(ConfigurationError, match="at least 1, got 0"):
        SelfJudged(refresh_every=0)
    assert not (tmp_path / "run").exists()


def answers_file(path: Path) -> Path:
    """Every prompt with four answers, of which one or two begin with the letter that the judge likes."""
    rows = [
        {"prompt": task.prompt, "answers": [f"a{one}", f"b{one}", f"c{other}", f"d{other}"]}
        for place, task in enumerate(PROMPTS)
        for one, other in [("abcd"[place % 4], "abcd"[place // 4 % 4])]
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.slow
def test_labels_of_a_judge_teach_a_policy_and_a_reward_model(judge: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.jsonl"
    said = laurel.judge(answers_file(tmp_path / "answers.jsonl"), labels, str(judge), comparison=PREFERS)
    assert said.bias is not None and said.bias.pairs == 6 * len(PROMPTS)
    judged = rankings(labels, ranks="ranks")
    known = [task for task in judged if sum(answer[0] == "a" for answer in task.answers) == 1]  # type: ignore[attr-defined]
    right = [task.reference is not None and task.reference[0] == "a" for task in known]
    assert sum(right) > 0.85 * len(right) > 40
    policy = tiny()
    laurel.train(
        policy=policy, tasks=judged, algorithm=laurel.dpo(), steps=30, prompts_per_step=16, optimiser=QUICK,
        run=tmp_path / "dpo",
    )  # fmt: skip
    assert liked(policy) > 0.8
    laurel.fit_reward_model(
        policy=tiny(), tasks=judged, steps=40, prompts_per_step=16, optimiser=QUICK, run=tmp_path / "fitted"
    )
    learned = tiny()
    reinforced(tmp_path / "run", tmp_path / "fitted", policy=learned)
    assert liked(learned) > 0.8


def test_a_judge_is_asked_while_the_policy_learns(judge: Path, tmp_path: Path) -> None:
    reward = laurel.LabelledReward(JudgeTeacher(PairJudge(laurel.policy.load(str(judge)), PREFERS), "tie"), labels=6)
    run = reinforced(tmp_path / "run", reward, steps=2)
    kept = [json.loads(line) for line in (tmp_path / "run" / "labels.jsonl").read_text().splitlines()]
    known = [row for row in kept if (row["answers"][0][0] == "a") != (row["answers"][1][0] == "a")]
    assert len(kept) == 6 and run.configuration["reward"]["teacher"]["judge"]["type"] == "PairJudge"
    assert all((row["ranks"] == [1, 2]) == (row["answers"][0][0] == "a") for row in known)
    assert sum(metric.count for _, metric in run.metric("labels/flips")) == 6
    assert all(0 < metric.mean < 1 for _, metric in run.metric("labels/said_first"))


def test_killed_between_two_labels_of_a_judge_the_run_measures_the_same(tmp_path: Path) -> None:
    def changes() -> dict[str, Any]:
        teacher = JudgeTeacher(lambda task, first, second: 0.9 if first > second else 0.3, "tie")
        ensemble = EnsembleSettings(members=1, steps=1, pairs=2)
        reward = laurel.LabelledReward(teacher, labels=6, labels_per_round=3, ensemble=ensemble)
        held_out_reward = laurel.rewards.exact_match()
        return {"reward": reward, "held_out_reward": held_out_reward, "algorithm": laurel.rloo()}

    with killed_and_resumed(tmp_path, "before_update:2", changes) as run:
        flips = [metric for _, metric in run.metric("labels/flips")]
    assert [metric.count for metric in flips] == [3, 3] and all(metric.mean == 0 for metric in flips)


def test_check_asks_a_judge_and_explain_counts_it(judge: Path, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"question": "ab>", "answer": "ac"}\n{"question": "ad>", "answer": "bb"}\n')
    recipe = tmp_path / "recipe.yaml"
    settings = {
        "policy": {"name": "tiny", "alphabet": ALPHABET, "hidden_size": 32, "context_length": 16},
        "tasks": {"name": "jsonl", "path": str(tmp_path / "q.jsonl")},
        "algorithm": "grpo",
        "limits": {"max_new_tokens": 2},
        "reward": {"name": "judge", "model": str(judge), "rubric": {"question": "{answer}?", "verdicts": ["y", "n"]}},
    }
    recipe.write_text(json.dumps(settings))
    report = laurel.check(recipe)
    assert report.passed and "tasks: ok: 4 answers were judged, from" in str(report)
    too_long = laurel.check(recipe, ["reward.rubric.question='{prompt}{answer}abcdabcdabcdabcd?'"])
    assert not too_long.passed and "could not be judged" in str(too_long) and "context holds 16" in str(too_long)
    assert re.search(r"KiB +judge\b", explained(recipe))
    itself_judging = ["reward={name: self_judge, rubric: {question: '{answer}?', verdicts: [y, n]}}"]
    assert re.search(r"KiB +copy that judges", explained(recipe, itself_judging))
    itself = laurel.check(recipe, itself_judging)
    assert itself.passed and "reads no label" in str(itself)


def explained(recipe: Path, overrides: Sequence[str] = ()) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(laurel.explain(recipe, overrides))
    return console.export_text()
