"""Reward models as runs: fitted, judged, killed and resumed, saved, and used as a reward."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import laurel as command
from command_line import write_rows
from test_resume import ended, in_child, result
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import laurel
from laurel.errors import ConfigurationError, PolicyError, RunError, TaskError
from laurel.fitting import fit_reward_model, objective_for
from laurel.objectives import Binary, BradleyTerry, Ordinal, PlackettLuce
from laurel.policy import LearnedReward, RewardEnsemble, SavedReward, load_reward_model, reward_for
from laurel.policy.chat import Chat
from laurel.preferences import pairs, rankings, ratings, thumbs
from laurel.runs import Run
from laurel.tasks import Task, TaskSet
from laurel.tree import Score

STEPS = 6


def policy(seed: int = 0, **changes: Any) -> laurel.policy.Policy:
    settings = {"alphabet": "ab>", "hidden_size": 16, "layers": 1, "heads": 2, "context_length": 16, "seed": seed}
    return laurel.policy.tiny(**{**settings, **changes})


def rows(first: int, last: int) -> list[dict[str, str]]:
    """The more a, the better; every prompt has letters of its own."""
    generator = np.random.default_rng(first)
    found = []
    for number in range(first, last):
        prompt = "".join("ab"[int(digit)] for digit in f"{number:06b}") + ">"
        better = int(generator.integers(1, 5))
        sides = [
            "".join(generator.permutation(list("a" * count + "b" * (4 - count)))) for count in (better, better - 1)
        ]
        found.append({"prompt": prompt, "chosen": sides[0], "rejected": sides[1]})
    return found


def fit(directory: Path, *, resume: bool = False, **changes: Any) -> Run:
    arguments: dict[str, Any] = {
        "policy": policy(),
        "tasks": pairs(rows=rows(0, 40)),
        "held_out": pairs(rows=rows(40, 60)),
        "steps": STEPS,
        "prompts_per_step": 8,
        "optimiser": laurel.OptimiserSettings(learning_rate=1e-2, schedule="linear"),
        "evaluate_every": 3,
        "checkpoint_every": 2,
        "run": directory,
        "resume": resume,
    }
    return fit_reward_model(**{**arguments, **changes})


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fitted") / "run"
    fit(directory, steps=60, members=2, share=0.8, evaluate_every=None, checkpoint_every=30)
    return directory


def test_held_out_judgements_come_right_and_are_recorded_with_what_was_said(fitted: Path) -> None:
    with Run.open(fitted) as run:
        found = {(evaluation.name, evaluation.step): evaluation.metric for evaluation in run.evaluations()}
        trees = run.evaluation_trees("accuracy", 60)
        text = run.events("calibration")[-1].text
    assert found["accuracy", 0].mean == 0.5  # every reward is 0 at first
    assert found["accuracy", 60].mean >= 0.9 and found["accuracy", 60].count == 20
    assert found["loss", 60].mean < found["loss", 0].mean == pytest.approx(np.log(2))
    assert found["disagreement", 0].mean == 0 < found["disagreement", 60].mean
    right = 0
    for tree in trees:
        scores = {rollout.outcome.score.value: rollout.outcome.score.parts["reward_model"] for rollout in tree.rollouts}
        right += scores[1.0] > scores[0.0]
    assert right / len(trees) == found["accuracy", 60].mean
    assert text.startswith("expected calibration error 0.") and "right 100.0%" in text


def test_what_is_saved_is_what_was_fitted_and_transformers_loads_it(fitted: Path) -> None:
    with Run.open(fitted) as run:
        trees = run.evaluation_trees("accuracy", 60)
        weights = run.load_checkpoint().tensors  # type: ignore[union-attr]
    for number in range(2):
        place = fitted / "model" / f"member-{number}"
        stock = AutoModelForSequenceClassification.from_pretrained(place)
        assert torch.equal(stock.score.weight, weights[f"member_{number}"]["weights.reward_head.weight"])
        tokens = AutoTokenizer.from_pretrained(place)("ab>a", return_tensors="pt")["input_ids"]
        assert stock(tokens).logits.shape == (1, 1)
    saved = SavedReward(fitted)
    said = []
    for tree in trees:
        for rollout in tree.rollouts:
            score = saved(Task("t", tree.segments[0].text), rollout)
            assert isinstance(score, Score) and score.value == pytest.approx(score.parts["ensemble_mean"])
            said.append((score.value, rollout.outcome.score.parts["reward_model"]))
    ours, recorded = np.array(said).T
    np.testing.assert_allclose(ours - recorded, (ours - recorded)[0], atol=1e-5)  # but for the offsets
    assert np.mean(ours) == pytest.approx(0, abs=1e-5)  # which are the means over the held-out answers


def test_pessimism_takes_off_the_disagreement(fitted: Path) -> None:
    with Run.open(fitted) as run:
        (rollout, *_) = run.evaluation_trees("accuracy", 60)[0].rollouts
    task = Task("t", "ababab>")
    mean, low = SavedReward(fitted)(task, rollout), SavedReward(fitted, pessimism=2.0)(task, rollout)
    assert low.value == pytest.approx(mean.value - 2 * mean.parts["ensemble_disagreement"])
    assert mean.parts["ensemble_disagreement"] > 0


@pytest.mark.parametrize("moment", ["before_update:3", "after_record:5", "before_rename:4", "before_finish:6"])
def test_killed_and_resumed_is_the_same_fit(moment: str, tmp_path: Path) -> None:
    changes = {"members": 2, "share": 0.5}
    whole, directory = tmp_path / "whole", tmp_path / "run"
    assert ended(in_child(lambda: fit(whole, **changes))) == 0
    assert ended(in_child(lambda: fit(directory, **changes), {"LAUREL_KILL_AT": moment})) == -signal.SIGKILL
    assert ended(in_child(lambda: fit(directory, resume=True, **changes))) == 0
    assert result(directory) == result(whole)
    files = [path.relative_to(whole) for path in (whole / "model").rglob("*") if path.is_file()]
    assert len(files) > 4
    for file in files:
        assert (directory / file).read_bytes() == (whole / file).read_bytes(), file


def test_members_learn_from_other_parts_in_other_orders(tmp_path: Path) -> None:
    with fit(tmp_path / "run", members=2, share=0.5, steps=5) as run:
        seen: list[set[str]] = [set(), set()]
        for step in run.steps():
            for tree in run.trees(step):
                seen[int(tree.id.split(".")[1])].add(tree.task_id)
    assert [len(tasks) for tasks in seen] == [20, 20]
    assert seen[0] != seen[1]


def test_a_trunk_that_does_not_learn_stays_as_it_was(tmp_path: Path) -> None:
    start = policy()
    fit(tmp_path / "run", policy=start, learns_trunk=False)
    model = load_reward_model(tmp_path / "run" / "model", device="cpu")
    trunk = dict(model.trunk.model.named_parameters())
    assert all(torch.equal(trunk[name], parameter) for name, parameter in start.model.named_parameters())
    assert model.head.abs().sum() > 0


def test_the_likelihood_follows_from_the_judgements() -> None:
    tie = [*rows(0, 2), {"prompt": "b>", "chosen": "a", "rejected": "b"}]
    assert objective_for(pairs(rows=tie)) == BradleyTerry()
    ranked = [{"prompt": "a>", "answers": ["a", "b", "ab"], "ranks": [1, 2, 3]}]
    assert objective_for(rankings(rows=ranked, ranks="ranks")) == PlackettLuce()
    ranked[0]["ranks"] = [1, 2, 2]
    assert objective_for(rankings(rows=ranked, ranks="ranks")) == BradleyTerry(ties=True)
    assert objective_for(thumbs(rows=[{"prompt": "a>", "completion": "a", "label": True}])) == Binary()
    rated = ratings(rows=[{"prompt": "a>", "answers": ["a"], "ratings": [3]}], low=1, high=5)
    with pytest.raises(ConfigurationError, match="must be told") as caught:
        objective_for(rated)
    assert "ordinal" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": 0}, "members must be"),
        ({"share": 0.0}, r"share must lie in \(0, 1\]"),
        ({"held_out": None}, "'evaluate_every' would not be read"),
        ({"tasks": TaskSet("plain", (Task("1", "a>", "a"),)), "held_out": None, "evaluate_every": None}, "no judged"),
        ({"objective": Ordinal(2, 5)}, "is no rating from 2 to 5"),
        ({"held_out": pairs(rows=rows(39, 41))}, "trained on too"),
        ({"tasks": pairs(rows=[{"prompt": "a>", "chosen": "a" * 20, "rejected": "b"}])}, "too long"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises((ConfigurationError, TaskError), match=message):
        fit(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def online(reward: object, directory: Path, **changes: Any) -> Run:
    arguments: dict[str, Any] = {
        "policy": policy(1),
        "tasks": TaskSet("prompts", tuple(Task(str(n), f"{n:03b}>".translate({48: "a", 49: "b"})) for n in range(8))),
        "algorithm": laurel.grpo(),
        "steps": 2,
        "prompts_per_step": 4,
        "samples_per_prompt": 4,
        "limits": laurel.Limits(max_new_tokens=4),
        "optimiser": laurel.OptimiserSettings(learning_rate=1e-2),
        "run": directory,
    }
    return laurel.train(reward=reward, **{**arguments, **changes})


def test_a_run_of_a_fit_is_a_reward_and_is_recorded_so_that_it_can_be_made_again(fitted: Path, tmp_path: Path) -> None:
    with online(str(fitted), tmp_path / "run", steps=15) as run:
        rewards = [metric.mean for _, metric in run.metric("reward")]
        assert run.configuration["reward"]["type"] == "SavedReward"
        assert run.metric("reward/ensemble_disagreement")
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.3
    tasks = TaskSet("other", (Task("x", "abab>"), Task("y", "bbaa>")))
    assert laurel.eval(tmp_path / "run", tasks).failed == 0
    with pytest.raises(PolicyError, match="another reward model than it did"):
        SavedReward(fitted, fingerprint="0" * 64)


def test_a_reward_model_in_memory_is_a_reward_that_reads_the_tokens(fitted: Path, tmp_path: Path) -> None:
    model = load_reward_model(fitted / "model" / "member-0", device="cpu")
    with online(model, tmp_path / "run") as run:
        assert run.metric("failed")[0][1].sum == 0
        assert run.configuration["reward"]["model"]["fingerprint"] == model.description["fingerprint"]
    bound = reward_for(policy(), LearnedReward(model))
    assert isinstance(bound, LearnedReward) and bound.reads_tokens
    assert isinstance(reward_for(policy(), SavedReward(fitted)), RewardEnsemble)


class Echo:
    """An environment that answers."""

    def start(self, task: Task, rollout_id: str) -> Any:
        raise AssertionError("nothing is drawn")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": policy(alphabet="abc>"), "environment": Echo(), "limits": None}, "reads other tokens"),
        ({"limits": laurel.Limits(max_new_tokens=30)}, "reads 16 tokens"),
        ({"policy": policy(alphabet="abc>"), "tasks": TaskSet("c", (Task("1", "c>"),))}, "cannot read the prompts"),
    ],
)
def test_a_reward_model_that_would_read_wrongly_is_refused_before_sampling(
    changes: dict[str, Any], message: str, fitted: Path, tmp_path: Path
) -> None:
    arguments = {"policy": policy(1, context_length=40), **changes}
    with pytest.raises((ConfigurationError, PolicyError), match=message):
        online(SavedReward(fitted), tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_another_chat_template_is_another_layout(tmp_path: Path) -> None:
    writer = policy(1)
    writer.tokenizer.chat_template = "{% for m in messages %}a{{ m.content }}{% endfor %}>"
    judge = policy()
    judge.tokenizer.chat_template = "{% for m in messages %}b{{ m.content }}{% endfor %}>"
    model = laurel.policy.reward_model_for(judge)
    asked = TaskSet("chat", (Task("1", ({"role": "user", "content": "ab"},)),))
    for reader in (writer, model.trunk):
        reader.chat = Chat(reader.tokenizer, reader.end_ids)  # which looks for a template when it is made
    with pytest.raises(PolicyError, match="lays prompts out otherwise"):
        online(model, tmp_path / "run", policy=writer, tasks=asked)


RECIPE = """\
policy: {name: tiny, alphabet: "ab>", hidden_size: 16, layers: 1, heads: 2, context_length: 16}
tasks: {name: pairs, path: pairs.jsonl}
held_out: 0.2
steps: 4
prompts_per_step: 8
members: 2
optimiser: {learning_rate: 1e-2}
"""


def test_the_command_counts_bad_rows_fits_shows_exports_and_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bad = [{"prompt": "a>", "chosen": "a", "rejected": "a"}, {"prompt": "a>", "chosen": "a", "rejected": " "}]
    write_rows(tmp_path / "pairs.jsonl", [*rows(0, 40), *bad])
    (tmp_path / "judge.yaml").write_text(RECIPE)
    stopped = command("fit-reward-model", "judge.yaml", "--strict")
    assert stopped.status == 1 and "line 41" in stopped.err
    said = command("fit-reward-model", "judge.yaml")
    assert said.status == 0, said.err
    assert "2 rows left out: identical answers (row 41); empty answers (row 42)" in said.out
    assert "accuracy" in said.out and "expected calibration error" in said.out
    assert "laurel train RECIPE reward=runs/judge" in said.out
    again = command("fit-reward-model", "judge.yaml")
    assert again.status == 1 and "holds a run already" in again.err
    longer = command("fit-reward-model", "judge.yaml", "steps=6", "--resume")
    assert longer.status == 0 and "6 (1 to 6)" in longer.out
    assert "expected calibration error" in command("show", "runs/judge").out
    assert command("export", "runs/judge", "exported").status == 0
    assert json.loads((tmp_path / "exported" / "ensemble.json").read_text())["members"] == ["member-0", "member-1"]
    columns = ("--prompt", "prompt", "--reference", "chosen")
    assert "trained no policy" in command("eval", "runs/judge", "--tasks", "pairs.jsonl", *columns).err
    write_rows(tmp_path / "tasks.jsonl", [{"question": f"{'ab' * n}>", "answer": "a"} for n in range(1, 5)])
    (tmp_path / "train.yaml").write_text(
        "policy: {name: tiny, alphabet: 'ab>', hidden_size: 16, layers: 1, heads: 2, context_length: 16}\n"
        "tasks: {name: jsonl, path: tasks.jsonl}\nreward: {name: reward_model, model: exported}\nalgorithm: grpo\n"
        "steps: 2\nprompts_per_step: 2\nlimits: {max_new_tokens: 3}\n"
    )
    trained = command("train", "train.yaml", "reward.pessimism=1.0")
    assert trained.status == 0, trained.err
    wrong = command("explain", "train.yaml", "reward=runs/none")
    assert wrong.status == 1 and "There is no reward model in runs/none" in wrong.err
    assert command("explain", "train.yaml").status == 0
    assert command("check", "train.yaml").status == 0


def test_an_unfinished_fit_is_no_reward_yet(tmp_path: Path) -> None:
    killed = ended(in_child(lambda: fit(tmp_path / "run"), {"LAUREL_KILL_AT": "after_update:3"}))
    assert killed == -signal.SIGKILL
    with pytest.raises(ConfigurationError, match="There is no reward model"):
        SavedReward(tmp_path / "run")
    with pytest.raises(RunError, match="has saved no reward model yet"):
        laurel.export(tmp_path / "run", tmp_path / "out")


def test_one_model_knows_no_disagreement(tmp_path: Path) -> None:
    fit(tmp_path / "run", steps=2)
    with pytest.raises(ConfigurationError, match="pessimism"):
        SavedReward(tmp_path / "run", pessimism=1.0)
