"""Preference-based reinforcement while it goes on: ask about the policy's own answers, fit, grade, improve, ask again.

One step of a run whose reward is a `LabelledReward`:

    draw      the policy answers the step's prompts
    choose    the pairs of answers that are most worth asking about, as long as there is a budget
    ask       the teacher; every label is on the disk before the next question
    fit       the ensemble, on all labels so far
    grade     the step's answers by the ensemble as it is now
    improve   the policy, by whatever online method the run has

What was graded before under older ensembles is never learned from again, so nothing has to be relabelled: a method that
replays gets its scores when it is drawn.

Source: Lee et al. 2021, arXiv 2106.05091 (PEBBLE), without its unsupervised exploration before the first label.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from laurel.configuration import describe
from laurel.errors import ConfigurationError, RewardError
from laurel.learner.judged_pairs import (
    label_alone,
    pair_as_data,
    pair_from_data,
    scores_of,
    without_failures,
)
from laurel.learner.reward_members import EnsembleSettings, RewardMembers
from laurel.metrics import Metric
from laurel.objectives.reward_models import BradleyTerry, RewardObjective
from laurel.policy import Policy, RewardModel, disagreement, pessimistic
from laurel.policy.hindsight_reward import steps_read, stepwise
from laurel.preferences.labels import Labels, row_of, verdict_of
from laurel.preferences.queries import (
    SELECTIONS,
    Pair,
    Selection,
    candidate_pairs,
    check_selection,
    exploration_weight,
    most_valuable,
    preference_probabilities,
)
from laurel.preferences.teachers import Query, Teacher, said_by_rollout
from laurel.tasks.task import Task
from laurel.tree import Failed, FloatArray, Rollout, Score, Tree

FILE = "labels.jsonl"
"""Where a run keeps its labels, in its directory."""
UNUSED = "labels.unused.jsonl"
"""Where labels go that a run, resumed on another machine, no longer asks for."""


class LabelledReward:
    """A reward that starts without an opinion, and learns from a teacher's labels of the policy's own answers.

        reward = LabelledReward(TerminalTeacher(), labels=200)
        laurel.train(..., reward=reward, algorithm=laurel.grpo(), watched_reward=numeric_answer())

    A rollout is worth `mean over members - pessimism * disagreement + bonus * disagreement`, where the bonus decays as
    the run goes on. Comparisons fix no constant: what each member says of the first batch of the run is 0 on average.
    The score has the parts `ensemble_mean` and `ensemble_disagreement`.

    Labels are appended to `labels.jsonl` in the run's directory. A run that is stopped, at a question or anywhere, asks
    a person nothing twice when it goes on: what the file holds beyond the checkpoint is taken from there. A teacher
    that has a `state` is asked again, from that state.

    Args:
        teacher: who is asked: `TerminalTeacher()`, `RewardTeacher(reward)`, or any function of a `Query`.
        labels: how many questions may be asked in all; skipped ones count.
        labels_per_round: how many at a time.
        ask_every: in every so many steps, from the first on.
        selection: "uniform", "disagreement", "entropy" or "information_gain" (`laurel.preferences.queries`). Nothing is
            asked twice.
        candidates_per_label: the questions are chosen among so many times as many pairs, drawn by lot: the less, the
            less alike are the questions of a round.
        ensemble: how its members learn.
        objective: the likelihood of labels. Ties say nothing to `BradleyTerry()`; `BradleyTerry(ties=True)` reads them.
        pessimism, exploration: weights of the disagreement, taken off and added.
        exploration_decay: of the latter for every step (`laurel.preferences.queries.exploration_weight`).
        redistribute: pay what a rollout is worth step by step, by the members' attention (`HindsightReward`).

    Raises:
        ConfigurationError: a setting makes no sense.
    """

    runs_in_process = True

    def __init__(
        self,
        teacher: Teacher,
        *,
        labels: int,
        labels_per_round: int = 16,
        ask_every: int = 1,
        selection: Selection = "uniform",
        candidates_per_label: int = 10,
        ensemble: EnsembleSettings | None = None,
        objective: RewardObjective | None = None,
        pessimism: float = 0.0,
        exploration: float = 0.0,
        exploration_decay: float = 0.0,
        redistribute: bool = False,
    ) -> None:
        counts = {"labels": labels, "labels_per_round": labels_per_round, "ask_every": ask_every}
        for name, value in {**counts, "candidates_per_label": candidates_per_label}.items():
            if value < 1:
                raise ConfigurationError(f"{name} must be at least 1, got {value}.", hint="raise it.")
        check_selection(selection)
        exploration_weight(0, start=exploration, decay=exploration_decay)
        if not pessimism >= 0:
            raise ConfigurationError(f"pessimism must not be negative, got {pessimism}.", hint="0 is the mean.")
        self.teacher, self.ensemble, self.objective = (
            teacher,
            ensemble or EnsembleSettings(),
            objective or BradleyTerry(),
        )
        self._labels, self._per_round, self._every = labels, labels_per_round, ask_every
        self._selection, self._candidates = selection, candidates_per_label
        self._pessimism, self._exploration, self._decay = pessimism, exploration, exploration_decay
        self._redistribute = redistribute
        self._teacher_start = teacher.state() if hasattr(teacher, "state") else None
        self._members: RewardMembers | None = None
        self._judged: list[Tree] = []
        self._start: list[Tree] = []

    @property
    def description(self) -> dict[str, Any]:
        """What a run records of it."""
        return {
            "type": type(self).__name__,
            **{name: describe(getattr(self, name)) for name in ("teacher", "ensemble", "objective")},
            "labels": self._labels,
            "labels_per_round": self._per_round,
            "ask_every": self._every,
            "selection": self._selection,
            "candidates_per_label": self._candidates,
            "pessimism": self._pessimism,
            "exploration": self._exploration,
            "exploration_decay": self._decay,
            "redistribute": self._redistribute,
        }

    @property
    def pays_steps_alone(self) -> bool:
        """See `laurel.rewards.steps.pays_steps_alone`."""
        return self._redistribute

    @property
    def models(self) -> Sequence[RewardModel]:
        """The members as they are, to be looked at or exported.

        Raises:
            RewardError: no run has begun.
        """
        return self._live.models

    @property
    def labelled(self) -> Sequence[Tree]:
        """Every label that says something, as a tree of two judged rollouts."""
        return tuple(self._judged)

    def begin(self, policy: Policy, directory: Path, seed: int) -> None:
        """See `laurel.rewards.LearningReward`."""
        self._members = RewardMembers(policy, self.ensemble, self.objective, seed)
        self._seed, self._directory = seed, Path(directory)
        self._asked, self._step = 0, 0
        self._judged, self._start = [], []
        self._offsets = np.zeros(self.ensemble.members)
        if self._teacher_start is not None:
            self.teacher.load_state(self._teacher_start)  # type: ignore[attr-defined]

    def learn(self, step: int, trees: Sequence[Tree], tasks: Mapping[str, Task]) -> dict[str, Metric]:
        """See `laurel.rewards.LearningReward`; asks in the first batch of a step only."""
        first, self._step = step != self._step, step
        if not self._start:
            self._live.level(trees)
            self._start = [pair_from_data(pair_as_data(tree)) for tree in map(without_failures, trees) if tree]
            self._centre()
        metrics: dict[str, Metric] = {}
        if first and (step - 1) % self._every == 0 and self._asked < self._labels:
            metrics = self._round(step, trees, tasks)
            self._centre()
        return {**metrics, "labels/asked": Metric(float(self._asked), 1.0)}

    def __call__(self, task: Task, rollout: Rollout) -> Score | Failed:
        return self.score_rollouts([(task, rollout)])[0]

    def score_rollouts(self, asked: Sequence[tuple[Task, Rollout]]) -> list[Score | Failed]:
        """One result per rollout, in their order."""
        said, failures = self._live.rewards(asked)
        rewards = said - self._offsets[:, None]
        bonus = exploration_weight(max(self._step - 1, 0), start=self._exploration, decay=self._decay)
        values = pessimistic(rewards, weight=self._pessimism - bonus)
        spread, mean = disagreement(rewards), rewards.mean(axis=0)
        results: list[Score | Failed] = []
        for number in range(len(asked)):
            if number in failures:
                results.append(Failed(failures[number]))
                continue
            parts = {"ensemble_mean": float(mean[number]), "ensemble_disagreement": float(spread[number])}
            results.append(Score(float(values[number]), parts))
        return self._in_steps([rollout for _, rollout in asked], results) if self._redistribute else results

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """See `laurel.rewards.LearningReward`."""
        tensors, counters = self._live.state()
        return tensors, {
            "members": counters,
            "asked": self._asked,
            "step": self._step,
            "start": [pair_as_data(tree) for tree in self._start],
            "judged": [pair_as_data(tree) for tree in self._judged],
            "offsets": self._offsets.tolist(),
            "teacher": self.teacher.state() if hasattr(self.teacher, "state") else None,
        }

    def load_state(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """See `laurel.rewards.LearningReward`."""
        self._live.load_state(tensors, state["members"])
        self._asked, self._step = state["asked"], state["step"]
        self._start = [pair_from_data(kept) for kept in state["start"]]
        self._judged = [pair_from_data(kept) for kept in state["judged"]]
        self._offsets = np.array(state["offsets"])
        if state["teacher"] is not None:
            self.teacher.load_state(state["teacher"])  # type: ignore[attr-defined]

    @property
    def _live(self) -> RewardMembers:
        if self._members is None:
            raise RewardError(
                "This reward learns during a run, and none has begun.", hint="give it to laurel.train(reward=...)."
            )
        return self._members

    def _in_steps(self, rollouts: Sequence[Rollout], results: Sequence[Score | Failed]) -> list[Score | Failed]:
        read = [rollout for rollout, result in zip(rollouts, results, strict=True) if isinstance(result, Score)]
        weights = iter(steps_read([model.trunk for model in self.models], read))
        return [stepwise(result, next(weights)) if isinstance(result, Score) else result for result in results]

    def _round(self, step: int, trees: Sequence[Tree], tasks: Mapping[str, Task]) -> dict[str, Metric]:
        """Choose, ask and fit."""
        draw = np.random.default_rng([self._seed, step])
        count = min(self._per_round, self._labels - self._asked)
        pairs = self._unasked(candidate_pairs(trees, draw), trees, tasks)
        rewards = self._of_pairs(trees, pairs, tasks)
        chance = preference_probabilities(rewards[:, :, 0], rewards[:, :, 1])
        drawn = draw.permutation(len(pairs))[: self._candidates * count]
        values = SELECTIONS[self._selection](chance[:, drawn])
        chosen = drawn[most_valuable(values, count, draw)].tolist()
        queries = [_query(trees[pairs[place].tree], pairs[place], tasks) for place in chosen]
        verdicts = self._ask(queries)
        right: list[float] = []
        for place, verdict in zip(chosen, verdicts, strict=True):
            if verdict is not None:
                self._judged.append(label_alone(trees[pairs[place].tree], pairs[place].leaves, verdict))
            if verdict in (0.0, 1.0):
                right.append(1 - abs(verdict - float(np.round(chance[:, place].mean()))))
        metrics = {
            "labels/skipped": Metric.of([float(verdict is None) for verdict in verdicts]),
            "labels/equal": Metric.of([float(verdict == 0.5) for verdict in verdicts]),
        } | ({"labels/foreseen": Metric.of(right)} if right else {})
        metrics |= self.teacher.metrics() if hasattr(self.teacher, "metrics") else {}
        if not any(self.objective.teaches(list(scores_of(tree).values())) for tree in self._judged):
            return metrics
        open_pairs = [place for place in range(len(pairs)) if place not in chosen]
        unlabelled = [pairs[place] for place in open_pairs]
        return metrics | self._live.fit(self._judged, trees, unlabelled, rewards[:, open_pairs], step)

    def _unasked(self, pairs: Sequence[Pair], trees: Sequence[Tree], tasks: Mapping[str, Task]) -> list[Pair]:
        """The pairs that nobody was asked about yet: a question is asked once."""
        with Labels(self._directory / FILE) as labels:
            asked = {_identity(row) for row in labels.rows[: self._asked]}
        return [p for p in pairs if _identity(row_of(_query(trees[p.tree], p, tasks), None)) not in asked]

    def _centre(self) -> None:
        """What members say of the first batch becomes 0 on average."""
        rollouts = [(Task(tree.task_id, "?"), rollout) for tree in self._start for rollout in tree.rollouts]
        said, failures = self._live.rewards(rollouts)
        readable = [number for number in range(len(rollouts)) if number not in failures]
        self._offsets = said[:, readable].mean(axis=1) if readable else np.zeros(len(said))

    def _of_pairs(self, trees: Sequence[Tree], pairs: list[Pair], tasks: Mapping[str, Task]) -> FloatArray:
        """What members say of both sides of each pair, [M, Q, 2]; pairs that one cannot read leave `pairs`."""
        places = sorted({(pair.tree, leaf) for pair in pairs for leaf in pair.leaves})
        said, failures = self._live.rewards(
            [(tasks[trees[tree].task_id], Rollout(trees[tree], leaf)) for tree, leaf in places]
        )
        number = {place: index for index, place in enumerate(places) if index not in failures}
        pairs[:] = [pair for pair in pairs if all((pair.tree, leaf) in number for leaf in pair.leaves)]
        sides = [[number[pair.tree, leaf] for leaf in pair.leaves] for pair in pairs]
        return said[:, np.array(sides, np.int64).reshape(-1, 2)]

    def _ask(self, queries: Sequence[Query]) -> list[float | None]:
        """The verdicts; those that the file of labels holds beyond the checkpoint need no asking again."""
        verdicts = []
        with Labels(self._directory / FILE) as labels:
            for query in queries:
                kept = labels.rows[self._asked] if self._asked < len(labels.rows) else None
                row = row_of(query, None)
                known = kept is not None and all(kept[name] == row[name] for name in ("prompt", "answers"))
                if known and not hasattr(self.teacher, "state"):
                    verdict = verdict_of(kept or {})
                else:
                    verdict = self.teacher(query)
                    if kept is not None and not (known and verdict_of(kept) == verdict):
                        self._put_aside(labels)
                        kept = None
                    if kept is None:
                        labels.append(query, verdict)
                self._asked += 1
                verdicts.append(verdict)
        return verdicts

    def _put_aside(self, labels: Labels) -> None:
        """Move labels that are not asked for any more to a file of their own: nothing that a person said is lost."""
        with Labels(self._directory / UNUSED) as unused:
            for row in labels.rows[self._asked :]:
                unused.append_row(row)
        labels.keep(self._asked)


def _identity(row: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """What a question is, whichever side stands first."""
    return json.dumps(row["prompt"]), tuple(sorted(row["answers"]))


def _query(tree: Tree, pair: Pair, tasks: Mapping[str, Task]) -> Query:
    first, second = (Rollout(tree, leaf) for leaf in pair.leaves)
    return Query(tasks[tree.task_id], (said_by_rollout(first), said_by_rollout(second)), rollouts=(first, second))
