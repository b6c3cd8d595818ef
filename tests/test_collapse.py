"""The alarm sounds where a policy agrees with itself and learns nothing, and is silent where it learns."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from test_learning_without_labels import RIGHT_MODE, TASKS, WRONG_MODE, policy, start  # noqa: F401  # fixtures
from test_resume_kinds import killed_and_resumed

import laurel
from laurel.collapse import CollapseAlarm, CollapseWatch, agreement_metrics, meaning_of, task_means
from laurel.errors import ConfigurationError, RunError
from laurel.evaluation import Evaluation, averaged
from laurel.metrics import Metric
from laurel.policy import Policy
from laurel.progress import Terminal
from laurel.recipe import resolve
from laurel.rewards import Meaning, exact_match, majority_vote, random_reward, semantic_entropy, weighted
from laurel.runs import Run
from laurel.tasks import Task, TaskSet
from laurel.training import train
from laurel.tree import Ending, Failed, Outcome, Score, Segment, Source, Tree


def fan(task: str, *texts: str) -> Tree:
    """A text of "!" is a rollout that failed."""
    segments = [Segment(Source.PROMPT, np.array([1]), -1)]
    for place, text in enumerate(texts):
        ended = Outcome(Ending.FAILED, "died") if text == "!" else Outcome(Ending.TERMINATED, "eos")
        segments.append(Segment(Source.POLICY, np.array([2]), 0, text, outcome=ended, rollout_id=f"{task}.{place}"))
    return Tree(task, task, tuple(segments))


LEFT_OUT = ("policy", "tasks", "algorithm")
"""Keys of a recipe that these tests do not read."""

AGREED = [fan(str(n), *[str(n)] * 4) for n in range(4)]
TORN = [fan(str(n), "1", "2", "3", str(n)) for n in range(4)]
ALIKE = [fan(str(n), "7", "7", "7", "7") for n in range(4)]


def metrics(entropy: float = 1.0, length: float = 8.0) -> dict[str, Metric]:
    return {"entropy": Metric(entropy, 1), "answer_tokens": Metric(length, 1)}


def watch(*, labels: bool = False, judged: bool = True, **settings: Any) -> CollapseWatch:
    return CollapseWatch(CollapseAlarm(**settings), majority_vote(), labels=labels, judged=judged)


def sounds(watch: CollapseWatch, *steps: tuple[list[Tree], dict[str, Metric]]) -> list[int]:
    """After which of these steps it sounds."""
    return [number for number, (trees, said) in enumerate(steps, 1) if watch.step(trees, said)[1]]


def scored(*rewards: float) -> Evaluation:
    """One answer to each of ten held-out tasks, or ten answers that score the same."""
    trees = []
    for place, reward in enumerate(rewards * (10 // len(rewards))):
        answer = fan(f"held {place}", "x")
        trees.append(answer.with_outcomes({1: Outcome(Ending.TERMINATED, "eos", Score(reward))}))
    return averaged("held_out", trees)


def test_what_is_measured_by_hand() -> None:
    """4 4 7 agree by 2/3, with a failed one and one without an answer beside them; 1 1 wholly."""
    found = agreement_metrics([fan("a", "4", "4.0", "7", "!", "none"), fan("b", "1", "1")], Meaning())
    assert found["agreement"].mean == pytest.approx((2 / 3 + 1) / 2)
    assert found["distinct_answers"].mean == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert "one_answer" not in found
    four = agreement_metrics([fan("a", "1", "2"), fan("b", "1", "3"), fan("c", "1"), fan("d", "4")], Meaning())
    assert four["one_answer"] == Metric(3, 6) and four["agreement"].count == 2


def test_agreement_alone_is_how_learning_ends() -> None:
    quiet = watch()
    quiet.evaluated(0, scored(0.0))
    assert not sounds(quiet, *[(AGREED, metrics())] * 6) and not quiet.evaluated(6, scored(1.0))
    assert not sounds(watch(labels=True, judged=False), *[(AGREED, metrics())] * 6)


def test_agreement_that_nobody_judges() -> None:
    assert sounds(watch(judged=False), (TORN, metrics()), *[(AGREED, metrics())] * 5) == [4]
    assert sounds(watch(judged=False, patience=1), (TORN, metrics()), (AGREED, metrics())) == [2]
    assert not sounds(watch(judged=False), *[(AGREED, metrics()), (TORN, metrics())] * 4)


def test_entropy_is_held_against_the_beginning() -> None:
    low = [(TORN, metrics(entropy=0.04))] * 3
    assert sounds(watch(judged=False), *[(TORN, metrics())] * 3, *low) == [6]
    assert not sounds(watch(judged=False), *[(TORN, metrics(entropy=0.04))] * 9)
    assert not sounds(watch(judged=False), *[(TORN, {})] * 9)


SIX = (1.0,) * 6 + (0.0,) * 4


def test_a_held_out_score_that_falls() -> None:
    """Of ten tasks six are solved at best. Four of them lost is a mean change of -0.4 in [-0.77, -0.03]; three lost,
    -0.3, may be chance: [-0.65, 0.05]. So may four lost and two others won: the same score, with more changes.
    """
    four, three, exchanged = (0.0,) * 4 + SIX[4:], (0.0,) * 3 + SIX[3:], (0.0,) * 4 + (1.0,) * 4 + (0.0,) * 2
    for now, sharp, heard in ((four, False, True), (four, True, True), (three, True, False), (exchanged, True, False)):
        one = watch()
        assert not one.evaluated(0, scored(*(0.0,) * 9, 1.0)) and not one.evaluated(5, scored(*SIX))
        sounds(one, *[(AGREED if sharp else TORN, metrics())] * 3)
        said = one.evaluated(10, scored(*now))
        assert bool(said) is heard, (now, said)
        assert not said or (
            "fell from 0.600 [0.313, 0.832] after step 5 to 0.200" in said[0] and ("100%" in said[0]) is sharp
        )
        assert bool(one.evaluated(15, scored(*(0.0,) * 10))) is not heard, "each reason is told once"


def test_a_small_fall_is_none_however_sure_it_is() -> None:
    """Ten tasks that all lose a little lose more than chance would have it, and no more than 0.05."""
    for lost, heard in ((0.04, False), (0.06, True)):
        one = watch()
        one.evaluated(0, scored(*(0.5, 0.6) * 5))
        assert bool(one.evaluated(5, scored(*(0.5 - lost, 0.601 - lost) * 5))) is heard
    strict = watch(fall=0.01)
    strict.evaluated(0, scored(*(0.5, 0.6) * 5))
    assert strict.evaluated(5, scored(*(0.46, 0.561) * 5))


def test_a_score_that_falls_by_the_same_everywhere() -> None:
    """Equal changes have no spread, and so no interval; the scores have."""
    one = watch()
    one.evaluated(0, scored(1.0))
    assert one.evaluated(5, scored(0.0))
    assert task_means([fan("a", "x").with_outcomes({1: Outcome(Ending.TERMINATED, "eos", Failed("died"))})]) == {}


def test_one_answer_to_every_prompt_and_answers_that_shrink() -> None:
    assert sounds(watch(), *[(TORN, metrics())] * 3, *[(ALIKE, metrics())] * 4) == [6]
    assert not sounds(watch(), *[(ALIKE, metrics())] * 9), "it was so from the start"
    assert not sounds(watch(), *[(TORN, metrics())] * 3, *[(ALIKE[:3], metrics())] * 5), "too few prompts"
    assert sounds(watch(), *[(TORN, metrics())] * 3, *[(TORN, metrics(length=1.9))] * 4) == [6]
    assert not sounds(watch(), *[(TORN, metrics())] * 3, *[(TORN, metrics(length=2.1))] * 4)


def test_what_is_the_same_answer_is_the_rewards_business() -> None:
    assert meaning_of(majority_vote()) == Meaning()
    assert meaning_of(semantic_entropy(answer="text", entails=lambda task, one, other: True)) == Meaning("text")
    assert meaning_of(weighted({"a": (exact_match(), 1.0), "b": (majority_vote(), 1.0)})) == Meaning()
    assert meaning_of(random_reward()) == meaning_of(None) == Meaning("text")


@pytest.mark.parametrize("settings", [{"action": "shout"}, {"patience": 0}, {"agreement": 1.0}, {"length": 0.0}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="What to do"):
        CollapseAlarm(**settings)


def test_recipes_say_what_is_done_or_how_it_is_set() -> None:
    made = [
        resolve({**dict.fromkeys(LEFT_OUT), "alarm": said}, train, leave_out=LEFT_OUT)["alarm"]
        for said in ("stop", {"action": "stop", "patience": 5})
    ]
    assert made == ["stop", CollapseAlarm("stop", patience=5)]


def sharpen(policy: Policy, letters: str, directory: Path, **others: Any) -> Run:  # noqa: F811
    """Learn from the vote on two prompts of one kind, and be judged on four others of the same kind."""
    chosen = tuple(task for task in TASKS if task.id in letters)
    shown = TaskSet("half", chosen[:2]), TaskSet("other half", chosen[2:])
    settings: dict[str, Any] = {
        "reward": majority_vote(answer="text"),
        "held_out": shown[1],
        "held_out_reward": exact_match(),
        "evaluation_samples": 24,
        "evaluate_every": 5,
        "steps": 30,
        **others,
    }
    return laurel.train(
        policy=policy, tasks=shown[0], algorithm=laurel.rloo(), prompts_per_step=4, samples_per_prompt=16,
        limits=laurel.Limits(max_new_tokens=2), run=directory,
        optimiser=laurel.OptimiserSettings(learning_rate=3e-3, betas=(0.9, 0.99)), **settings,
    )  # fmt: skip


def test_it_sounds_in_a_run_that_collapses(policy: Policy, tmp_path: Path) -> None:  # noqa: F811
    heard = io.StringIO()
    sharpen(policy, WRONG_MODE, tmp_path / "run", progress=Terminal(Console(file=heard, width=200)))
    with Run.open(tmp_path / "run") as run:
        (event,) = run.events("alarm")
        agreement = [metric.mean for _, metric in run.metric("agreement")]
    assert "the held-out score fell from" in event.text and agreement[-1] > 0.95 > agreement[0]
    assert f"ALARM after step {event.step}: {event.text}" in heard.getvalue()
    told = str(laurel.show(tmp_path / "run"))
    assert f"after step {event.step}: the held-out score fell" in told and "1 alarm" in told


def test_it_is_silent_in_a_run_that_learns(policy: Policy, tmp_path: Path) -> None:  # noqa: F811
    sharpen(policy, RIGHT_MODE, tmp_path / "run")
    with Run.open(tmp_path / "run") as run:
        assert run.events("alarm") == []
        assert [metric.mean for _, metric in run.metric("agreement")][-1] > 0.95
        assert run.evaluations()[-1].metric.mean > 0.95


@pytest.mark.slow
def test_it_is_silent_where_labels_teach(policy: Policy, tmp_path: Path) -> None:  # noqa: F811
    sharpen(policy, WRONG_MODE, tmp_path / "run", reward=exact_match(), held_out_reward=None, alarm="warn")
    with Run.open(tmp_path / "run") as run:
        assert run.events("alarm") == [] and run.evaluations()[-1].metric.mean > 0.9


def test_it_stops_a_run_which_then_goes_on_where_it_was(policy: Policy, tmp_path: Path) -> None:  # noqa: F811
    before = {name: tensor.clone() for name, tensor in policy.tensors().items()}
    with pytest.raises(RunError, match=r"collapse alarm stopped the run after step \d+: the held-out score fell"):
        sharpen(policy, WRONG_MODE, tmp_path / "run", alarm="stop")
    with Run.open(tmp_path / "run") as run:
        last = run.steps()[-1]
        assert 5 <= last < 30 and run.checkpoint_steps[-1] == last and run.status.state == "failed"
    policy.load_tensors(before)
    sharpen(policy, WRONG_MODE, tmp_path / "run", alarm="stop", resume=True)
    with Run.open(tmp_path / "run") as run:
        assert run.steps() == list(range(1, 31)) and len(run.events("alarm")) == 1


def test_off_looks_at_nothing(policy: Policy, tmp_path: Path) -> None:  # noqa: F811
    sharpen(policy, WRONG_MODE, tmp_path / "run", alarm="off", steps=2)
    with Run.open(tmp_path / "run") as run:
        assert run.events("alarm") == [] and not run.metric("agreement")


def test_killed_and_resumed_it_has_seen_the_same(tmp_path: Path) -> None:
    """The run starts again after step 2, with the numbers of the beginning that later steps are compared with."""

    def changes() -> dict[str, Any]:
        alarm = CollapseAlarm(patience=2, agreement=0.2)
        return {"alarm": alarm, "reward": majority_vote(answer="text"), "held_out": None, "evaluate_every": None}

    with killed_and_resumed(tmp_path, "before_update:4", changes) as run:
        assert [event.step for event in run.events("alarm")] == [2]
        assert [metric.sum for _, metric in run.metric("alarm")] == [0, 1, 0, 0]


def test_a_method_that_reads_no_reward_refuses_it() -> None:
    with pytest.raises(ConfigurationError, match="'alarm' would not be read"):
        laurel.explain({"policy": laurel.policy.tiny(), "tasks": TaskSet("t", (Task("a", "a", "b"),)),
                        "algorithm": laurel.clone(), "alarm": "warn"})  # fmt: skip
