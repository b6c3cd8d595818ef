"""Three runs in one: killed in any of them and gone on with, nothing repeated; proxy against gold, measured right."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import laurel as command
from command_line import write_rows
from test_resume import ended, in_child, result

import laurel
from laurel.errors import ConfigurationError, LaurelError
from laurel.evaluation import averaged
from laurel.human_feedback import Labels, rlhf
from laurel.human_feedback_report import FeedbackReport
from laurel.over_optimisation import Drawn, Estimate, Point, kl_from
from laurel.preferences import rankings
from laurel.rewards import in_process
from laurel.rollout import Job, LocalSampler
from laurel.runs import Run
from laurel.tasks import Task, TaskSet
from laurel.tree import Sampling

STAGES = ("clone", "reward_model", "reinforce")


@in_process
def gold(task: Task, text: str) -> float:
    return float(text.count("a"))


def asked(first: int, last: int) -> TaskSet:
    names = [f"{number:05b}".translate({48: "a", 49: "b"}) for number in range(first, last)]
    return TaskSet("asked", tuple(Task(name, f"{name}>", "ab") for name in names))


def arguments(directory: Path, **changes: Any) -> dict[str, Any]:
    return {
        "policy": laurel.policy.tiny(alphabet="ab>", hidden_size=16, layers=1, heads=2, context_length=12),
        "tasks": asked(0, 24),
        "held_out": asked(24, 32),
        "gold_reward": gold,
        "clone": {"steps": 3, "prompts_per_step": 4, "optimiser": {"learning_rate": 1e-2}},
        "labels": Labels(pairs=20),
        "reward_model": {"steps": 5, "held_out": 0.2, "optimiser": {"learning_rate": 1e-2}, "members": 2},
        "reinforce": {
            "steps": 8,
            "prompts_per_step": 4,
            "samples_per_prompt": 4,
            "limits": {"max_new_tokens": 3},
            "optimiser": {"learning_rate": 1e-2},
            "evaluate_every": 4,
            "checkpoint_every": 3,
        },
        "best_of": (1, 4),
        "run": directory,
        **changes,
    }


def call(directory: Path, **changes: Any) -> FeedbackReport:
    return rlhf(**arguments(directory, **changes))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole") / "rlhf"
    assert ended(in_child(lambda: call(directory))) == 0
    return directory


def same(directory: Path, other: Path) -> None:
    """Runs, comparisons and report, but for the paths in them."""
    for stage in STAGES:
        assert result(directory / stage) == result(other / stage), stage
    for name in ("preferences.jsonl", "report.json", "report.svg"):
        assert (directory / name).read_text() == (other / name).read_text(), name


@pytest.mark.parametrize(
    ("moment", "unborn"),
    [
        ("after_checkpoint:3", "preferences.jsonl"),  # of the clone
        ("before_update:4", "best_of.json"),  # of the reward model
        ("before_record:7", "report.json"),  # of reinforcement
    ],
)
def test_killed_in_any_part_the_same_call_goes_on(moment: str, unborn: str, tmp_path: Path, whole: Path) -> None:
    directory = tmp_path / "rlhf"
    assert ended(in_child(lambda: call(directory), {"LAUREL_KILL_AT": moment})) == -signal.SIGKILL
    assert not (directory / unborn).exists()
    assert ended(in_child(lambda: call(directory))) == 0
    same(directory, whole)


def test_what_is_finished_is_not_repeated(whole: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*.safetensors") if "checkpoints" in str(path)}
    drawn = (whole / "best_of.json").stat().st_mtime_ns
    assert ended(in_child(lambda: call(whole))) == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert (whole / "best_of.json").stat().st_mtime_ns == drawn
    for stage in STAGES:
        with Run.open(whole / stage) as run:
            assert len(run.steps()) == {"clone": 3, "reward_model": 5, "reinforce": 8}[stage]


def test_a_run_of_other_settings_is_not_gone_on_with(whole: Path) -> None:
    with pytest.raises(ConfigurationError, match="other settings: labels"):
        call(whole, labels=Labels(pairs=30))
    with pytest.raises(ConfigurationError, match="prompts_per_step was 4, now 5"):
        call(whole, clone={"steps": 3, "prompts_per_step": 5, "optimiser": {"learning_rate": 1e-2}})


def test_the_report_holds_what_the_runs_recorded(whole: Path) -> None:
    found = json.loads((whole / "report.json").read_text())
    with Run.open(whole / "reinforce") as run:
        recorded = {(e.name, e.step): e.metric.mean for e in run.evaluations()}
        assert run.configuration["reward"]["type"] == "SavedReward"
    assert [point["name"] for point in found["course"]] == ["step 0", "step 4", "step 8"]
    for step, point in zip((0, 4, 8), found["course"], strict=True):
        assert point["gold"]["mean"] == pytest.approx(recorded["watched", step])
        assert point["proxy"]["mean"] == pytest.approx(recorded["held_out", step])
    assert found["course"][0]["kl"] == pytest.approx(0, abs=1e-6)  # at the start it is the clone itself
    assert abs(found["course"][2]["kl"]) > 0.01
    with Run.open(whole / "clone") as run:
        assert found["before"]["gold"]["mean"] == run.evaluations()[0].metric.mean
        assert {e.name for e in run.evaluations()} == {"held_out"}
    again = FeedbackReport.read(whole)
    assert again.described == found and again.picture == (whole / "report.svg").read_text()
    one, four = found["best_of"]
    assert four["proxy"]["mean"] > one["proxy"]["mean"]
    assert four["kl"] == pytest.approx(np.log(4) - 3 / 4)
    rows = [json.loads(line) for line in (whole / "preferences.jsonl").read_text().splitlines()]
    assert len(rows) == 20
    for row in rows:
        worth = [answer.count("a") for answer in row["answers"]]
        assert np.sign(worth[0] - worth[1]) == np.sign(row["ranks"][1] - row["ranks"][0])


def test_the_kl_is_that_of_the_distributions_drawn_from() -> None:
    """One token is drawn at temperature 2, so that both distributions can be listed."""
    policy, other = (
        laurel.policy.tiny(alphabet="abcd>", hidden_size=16, layers=1, heads=2, context_length=8, seed=seed)
        for seed in (0, 1)
    )
    for parameter in (*policy.trainable_parameters().values(), *other.trainable_parameters().values()):
        parameter.data *= 4
    tasks = TaskSet("one", (Task("1", "ab>"),))
    sampler = LocalSampler(policy, Sampling(temperature=2.0), laurel.Limits(max_new_tokens=1), seed=0)
    trees = sampler.collect([Job(f"{n}", tasks[0], 50, None) for n in range(40)], policy_version=0)
    chances: list[dict[int, float]] = [{}, {}]
    for tree in trees:
        for rollout in tree.rollouts:
            segment = rollout.segments[-1]
            chances[0][int(segment.tokens[0])] = float(np.exp(segment.sampler_log_probs[0]))
    measured = kl_from(other.snapshot("other"), trees)
    own = kl_from(policy.snapshot("own"), trees)
    np.testing.assert_allclose(own, 0, atol=1e-5)
    theirs = LocalSampler(other, Sampling(temperature=2.0), laurel.Limits(max_new_tokens=1), seed=1)
    for tree in theirs.collect([Job(f"{n}", tasks[0], 50, None) for n in range(40)], policy_version=0):
        for rollout in tree.rollouts:
            segment = rollout.segments[-1]
            chances[1][int(segment.tokens[0])] = float(np.exp(segment.sampler_log_probs[0]))
    assert sum(chances[0].values()) == pytest.approx(1, abs=1e-4) == sum(chances[1].values())
    exact = sum(p * np.log(p / chances[1][token]) for token, p in chances[0].items())
    assert exact > 0.05
    assert measured.mean() == pytest.approx(exact, abs=4 * measured.std() / np.sqrt(len(measured)))
    truncated = LocalSampler(policy, Sampling(top_k=2), laurel.Limits(max_new_tokens=1), seed=0)
    with pytest.raises(ConfigurationError, match="truncated sampling"):
        kl_from(other.snapshot("other"), truncated.collect([Job("1", tasks[0], 2, None)], policy_version=0))


def point(name: str, gold: float, proxy: float, kl: float, width: float = 0.1) -> Point:
    return Point(name, Estimate(gold, gold - width, gold + width), Estimate(proxy, proxy, proxy), kl)


def test_the_report_says_when_it_was_over_optimised() -> None:
    course = (point("step 0", 1, 0, 0), point("step 5", 2, 1, 0.5), point("step 10", 1.2, 2, 4))
    drawn = Drawn([[1.0, 2.0]], [[5.0, 1.0]])
    before = Point("before", Estimate(0, 0, 0), None, None)
    report = FeedbackReport(Path("x"), before, course, (drawn.best_of(1), drawn.best_of(2)), (1.5, 0.5), {"loss": 0.1})
    text = str(report)
    assert report.peak.name == "step 5" and report.lost == pytest.approx(0.8)
    assert "over-optimised: since step 5 the reward model went from 1.000 to 2.000" in text and "lost 0.800" in text
    assert "best of 1, from the clone   3.000" in text  # the proxy likes the worse of the two
    held = FeedbackReport(Path("x"), before, course[:2], report.best_of, (1.5, 0.5), {})
    assert "not over-optimised" in str(held)
    assert report.picture.startswith("<svg") and "best of n" in report.picture


TOO_LONG = rankings(rows=[{"prompt": "a>", "answers": ["a" * 12, "b"]}])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "come from reward_model.tasks or from labels"),
        ({"clone": {"steps": 3, "run": "x"}}, "clone: 'run' is set for all runs together"),
        ({"clone": {"stepz": 3}}, "clone: unknown key 'stepz'"),
        ({"reinforce": {"algorithm": "rloo"}}, "would not be held to the clone by a KL"),
        ({"reinforce": {"samples_per_prompt": 1}}, "compares the samples"),
        ({"held_out": asked(23, 32)}, "trained on too"),
        ({"best_of": (0,)}, "best_of"),
        ({"reinforce": {"environment": "number_guessing"}}, "judges single answers"),
        ({"reward_model": {"stepz": 3}}, "reward_model: unknown key 'stepz'"),
        # What the second and the third run would refuse, after the first was trained in vain:
        ({"reward_model": {"steps": 0}}, "reward_model: steps must be"),
        ({"reward_model": {"held_out": 20}}, "leaves one side empty"),
        ({"reward_model": {"objective": {"name": "ordinal", "lowest": 1, "highest": 5}}}, "is no rating from 1 to 5"),
        ({"labels": None, "reward_model": {"tasks": {"name": "pairs", "path": "nowhere.jsonl"}}}, "nowhere.jsonl"),
        ({"labels": None, "reward_model": {"tasks": TOO_LONG}}, "too long for the policy.s context"),
        ({"reward_model": {"steps": 3}, "pessimism": 1.0}, "makes no sense for 1 reward model"),
        ({"reinforce": {"sampling": {"top_k": 2}}}, "truncated distribution"),
        ({"reinforce": {"limits": {"max_path_tokens": 6}}}, "too long in 'asked'"),
        ({"reinforce": {"optimiser": {"schedule": "linear", "warmup_steps": 100}}}, r"reinforce: .* uses up"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_starts(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(LaurelError, match=message):
        call(tmp_path / "rlhf", **changes)
    assert not (tmp_path / "rlhf" / "clone").exists()


def test_comparisons_of_your_own(tmp_path: Path) -> None:
    rows = [{"prompt": task.prompt, "answers": ["aa", "b"]} for task in asked(0, 20)]
    rows.append({"prompt": "a>", "answers": ["a", "a"]})
    report = call(
        tmp_path / "rlhf",
        labels=None,
        reward_model={"tasks": rankings(rows=rows), "steps": 4, "optimiser": laurel.OptimiserSettings(1e-2)},
        reinforce={"algorithm": laurel.grpo(kl=0.1), "steps": 2, "limits": laurel.Limits(max_new_tokens=3)},
    )
    assert report.left_out == "1 row left out: rankings with duplicates (row 21)" and report.left_out in str(report)
    assert report.reward_model == {} and not (tmp_path / "rlhf" / "preferences.jsonl").exists()
    assert [one.name for one in report.course] == ["step 0", "step 1", "step 2"]
    with Run.open(tmp_path / "rlhf" / "reinforce") as run:
        assert run.configuration["algorithm"]["name"] == "grpo"
        assert averaged("", run.evaluation_trees("watched", 2)).mean == report.reinforced.gold.mean


def test_answers_that_fill_the_context_are_not_compared(tmp_path: Path) -> None:
    """Six letters fill it, and with an end they are seven; they were drawn, but nobody could read them in a fit."""
    limits = {"max_new_tokens": 6}
    call(
        tmp_path / "rlhf",
        labels=Labels(pairs=6),
        clone={"steps": 1, "tasks": TaskSet("short", (Task("1", "ab>", "b"),))},
        reward_model={"steps": 1},
        reinforce={"steps": 1, "prompts_per_step": 2, "samples_per_prompt": 2, "limits": limits},
        best_of=(1,),
    )
    lines = (tmp_path / "rlhf" / "preferences.jsonl").read_text().splitlines()
    lengths = {len(answer) for line in lines for answer in json.loads(line)["answers"]}
    assert lengths and max(lengths) <= 5


RECIPE = """\
policy: {name: tiny, alphabet: "ab>", hidden_size: 16, layers: 1, heads: 2, context_length: 12}
tasks: {name: jsonl, path: prompts.jsonl}
held_out: 4
gold_reward: exact_match
clone: {steps: 2, optimiser: {learning_rate: 1e-2}}
labels: {pairs: 12}
reward_model: {steps: 2}
reinforce: {steps: 2, prompts_per_step: 2, samples_per_prompt: 2, limits: {max_new_tokens: 3}}
best_of: [1, 2]
"""


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "prompts.jsonl", [{"question": task.prompt, "answer": "a"} for task in asked(0, 20)])
    (tmp_path / "loop.yaml").write_text(RECIPE)
    said = command("rlhf", "loop.yaml")
    assert said.status == 0, said.err
    for wanted in ("before", "cloned", "reinforced", "best of", "gold reward", "written: runs/loop/report.json"):
        assert wanted in said.out, wanted
    again = command("rlhf", "loop.yaml")
    assert again.status == 0 and again.out.splitlines()[-1] == said.out.splitlines()[-1]
    shown = command("show", "runs/loop")
    assert shown.status == 0 and "best of" in shown.out and "gold reward" in shown.out
    other = command("train", "loop.yaml")
    assert other.status == 1 and "'gold_reward' belongs to laurel rlhf" in other.err
    assert "rlhf: three runs" in command("explain", "loop.yaml").out
    assert "runs/loop was started with other settings: seed" in command("check", "loop.yaml", "seed=3").out
    wrong = command("rlhf", "loop.yaml", "gold_rewrad=x")
    assert wrong.status == 1 and "did you mean 'gold_reward'?" in wrong.err
