"""Before a run: does the reward tell right from wrong on the tasks that it will grade?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from laurel.errors import RewardError
from laurel.rewards.grader import Grader, GradingSettings
from laurel.rewards.numbers import answer_in
from laurel.rewards.reward import Reward, has_other_answers
from laurel.rewards.weighted import Weighted
from laurel.tasks.task import Task
from laurel.tasks.template import Template
from laurel.tree import Ending, Failed, Outcome, Score, Segment, Source, Tree

GOLD = "{reference}"
"""How a right answer is written where nobody says so."""

_SHOWN = 10
_FIRST = 16
"""If the reward fails on every one of so many answers, the others are not tried."""

_SLACK = 1e-9


@dataclass(frozen=True)
class Probe:
    """An answer whose score is known beforehand.

    Attributes:
        task: what it answers.
        kind: "gold", "empty", "another task's gold" or "a changed digit".
        text: the answer.
    """

    task: Task
    kind: str
    text: str


@dataclass(frozen=True)
class Surprise:
    """A probe that scored what it should not have."""

    probe: Probe
    result: Score | Failed
    full_marks: float

    def __str__(self) -> str:
        got = f"failed: {self.result.reason}" if isinstance(self.result, Failed) else f"scored {self.result.value:g}"
        wanted = f"wanted {self.full_marks:g}" if self.probe.kind == "gold" else f"wanted less than {self.full_marks:g}"
        return f"{self.probe.task.id}: {self.probe.kind} {self.probe.text[-60:]!r} {got}, {wanted}"


@dataclass(frozen=True)
class CheckReport:
    """What `check_reward` found.

    Attributes:
        tasks: how many tasks have a gold answer.
        probes: how many answers were graded, by kind.
        surprises: those that scored what they should not have.
    """

    tasks: int
    probes: dict[str, int]
    surprises: tuple[Surprise, ...]

    @property
    def passed(self) -> bool:
        """Whether every gold answer scored full marks and no other did."""
        return not self.surprises

    def __str__(self) -> str:
        lines = [f"{self.tasks} tasks"]
        for kind, count in self.probes.items():
            wrong = sum(surprise.probe.kind == kind for surprise in self.surprises)
            wanted = "full marks" if kind == "gold" else "less than full marks"
            lines.append(f"{'ok  ' if not wrong else 'WRONG'} {kind}: {count - wrong} of {count} score {wanted}")
        lines += [f"  {surprise}" for surprise in self.surprises[:_SHOWN]]
        if len(self.surprises) > _SHOWN:
            lines.append(f"  and {len(self.surprises) - _SHOWN} more")
        return "\n".join(lines)


def check_reward(
    tasks: Sequence[Task],
    reward: Reward,
    *,
    gold: str = GOLD,
    full_marks: float | None = None,
    settings: GradingSettings | None = None,
) -> CheckReport:
    """Grade answers whose scores are known: every gold one must score full marks, every wrong one less.

    Wrong ones are the empty answer, the gold of another task (the next whose gold differs), and the gold with its last
    digit changed (where it has one); of a reward that takes other answers than the gold one, such as another proof,
    the empty answer alone. A reward that fails on all of the first ones is asked about no others.

    Args:
        gold: how a right answer is written, as a template over {reference} and the task's data: "#### {reference}"
            for a reward that wants the marker, "{answer}" for a column with whole solutions.
        full_marks: the score of a right answer; None: 1, or the sum of the positive weights of a weighted reward.
        settings: of the grader.

    Raises:
        RewardError: if no task has a reference.
    """
    known = [task for task in tasks if task.reference is not None]
    if not known:
        raise RewardError(
            "No task has a reference, so there is no gold answer to check.", hint="name the reference column."
        )
    if full_marks is None:
        weights = [weight for _, weight in reward.parts.values()] if isinstance(reward, Weighted) else [1.0]
        full_marks = sum(weight for weight in weights if weight > 0)
    probes = _probes(known, Template(gold), only_gold=not has_other_answers(reward))
    by_id = {task.id: task for task in known}
    with Grader(reward, _patient(settings, len(probes))) as grader:
        results = _grade(grader, probes[:_FIRST], by_id, 0)
        if all(isinstance(result, Failed) for result in results):
            probes = probes[:_FIRST]  # it may hang on every one: say so now, and not after hours
        else:
            results += _grade(grader, probes[_FIRST:], by_id, _FIRST)
    counts: dict[str, int] = {}
    surprises: list[Surprise] = []
    for probe, result in zip(probes, results, strict=True):
        counts[probe.kind] = counts.get(probe.kind, 0) + 1
        full = isinstance(result, Score) and result.value >= full_marks - _SLACK
        if full is not (probe.kind == "gold") or isinstance(result, Failed):
            surprises.append(Surprise(probe, result, full_marks))
    return CheckReport(len(known), counts, tuple(surprises))


def try_reward(
    tasks: Sequence[Task], reward: Reward, *, gold: str = GOLD, settings: GradingSettings | None = None
) -> list[tuple[Probe, Score | Failed]]:
    """What a reward says where no score is known beforehand: of each task's gold answer, and of no answer at all.

    Args:
        gold, settings: as in `check_reward`.
    """
    template = Template(gold)
    probes = [Probe(task, "gold", _written(task, template)) for task in tasks if task.reference is not None]
    probes += [Probe(task, "empty", "") for task in tasks]
    with Grader(reward, _patient(settings, len(probes))) as grader:
        return list(zip(probes, _grade(grader, probes, {task.id: task for task in tasks}, 0), strict=True))


def _patient(settings: GradingSettings | None, probes: int) -> GradingSettings:
    """The same settings where failures are part of the report, so that they spend no budget."""
    given = settings or GradingSettings()
    return GradingSettings(given.timeout_seconds, given.retries, given.workers, 1.0, probes + 1)


def _written(task: Task, template: Template) -> str:
    """The gold answer of a task."""
    return template.fill({**task.data, "reference": task.reference}, f"task {task.id}")


def _grade(grader: Grader, probes: Sequence[Probe], tasks: Mapping[str, Task], first: int) -> list[Score | Failed]:
    """What each probe scores; `first` is the number of the first one."""
    graded, _ = grader.grade([_tree(index, probe) for index, probe in enumerate(probes, first)], tasks)
    outcomes = [tree.rollouts[0].outcome for tree in graded]
    return [outcome.score for outcome in outcomes if outcome is not None and outcome.score is not None]


def _probes(tasks: Sequence[Task], template: Template, *, only_gold: bool) -> list[Probe]:
    texts = [_written(task, template) for task in tasks]
    probes = [Probe(task, "gold", text) for task, text in zip(tasks, texts, strict=True)]
    probes += [Probe(task, "empty", "") for task in tasks]
    for index, task in enumerate(tasks if only_gold else ()):
        others = (place % len(tasks) for place in range(index + 1, index + len(tasks)))
        other = next((place for place in others if _differ(tasks[place], task)), None)
        if other is not None:
            probes.append(Probe(task, "another task's gold", texts[other]))
        digits = [place for place, letter in enumerate(texts[index]) if letter in "0123456789"]
        if digits:
            changed = str((int(texts[index][digits[-1]]) + 1) % 10)
            text = texts[index][: digits[-1]] + changed + texts[index][digits[-1] + 1 :]
            probes.append(Probe(task, "a changed digit", text))
    return probes


def _differ(one: Task, other: Task) -> bool:
    """Whether two golds are surely not the same answer: "1,000" and "1000" may be."""
    numbers = [answer_in(task.reference or "") for task in (one, other)]
    return one.reference != other.reference and (None in numbers or numbers[0] != numbers[1])


def _tree(index: int, probe: Probe) -> Tree:
    """A rollout of one token per segment: no policy is at hand, and graders go by the text."""
    token = np.zeros(1, np.int64)
    outcome = Outcome(Ending.TERMINATED, "check")
    prompt = Segment(Source.PROMPT, token, -1)
    answer = Segment(Source.POLICY, token, 0, text=probe.text, outcome=outcome, rollout_id=f"check.{index}")
    return Tree(f"check.{index}", probe.task.id, (prompt, answer))
