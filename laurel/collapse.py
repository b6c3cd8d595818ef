"""The collapse alarm: says when a policy that is paid for agreeing with itself has stopped learning anything.

Watched in every step, over the samples that were drawn (failed ones, and answers that cannot be read, do not count):

    agreement          the share of a prompt's answers that are its most frequent one, averaged over the prompts
    distinct_answers   how many different answers there are to a prompt, over how many there are; averaged likewise
    one_answer         the share of all answers of the step, to whatever prompt, that are its most frequent one

A policy is sharp where agreement is high, or its entropy is a small part of what it was at the beginning. That alone is
how learning ends, also where it went well. The alarm sounds where it did not, each reason once in a run:

    fallen        a held-out score fell below the best one by `fall`, and more than chance would have it: the 95 %
                  interval of the mean difference, task by task, lies below 0, or its own below that of the best one
    unjudged      the policy is sharp, its reward reads no label, and no held-out score tells whether it is right
    one_answer    nearly all answers of the step are one and the same, to different prompts, as they were not at first
    short         answers have shrunk to a small part of their length at the beginning
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from laurel.credit import is_continuation
from laurel.errors import ConfigurationError, RunError
from laurel.evaluation import Evaluation, interval
from laurel.metrics import Metric
from laurel.rewards import Meaning, Reward, reads_labels
from laurel.tree import Ending, Tree
from laurel.without_labels import learns_from_rewards

FEWEST_PROMPTS = 4
"""Different prompts that a step must have for its answers to be one and the same by more than chance."""


@dataclass(frozen=True)
class CollapseAlarm:
    """When a run is said to have collapsed, and what is done then.

    Attributes:
        action: "warn" goes on; "stop" writes a checkpoint and ends the run with the reason; "off" does not look.
        patience: steps in a row for which `agreement`, `entropy`, `one_answer` or `length` must hold. As many at the
            beginning are what later ones are compared with.
        agreement: a policy is sharp from this mean share of the most frequent answer on.
        entropy: or from this part of its entropy at the beginning down.
        one_answer: the share of one answer among all from which on the prompt does not matter any more.
        fall: how much lower than the best one a held-out score must be. The best of many is the best by chance, too.
        length: the part of their length at the beginning below which answers have shrunk.
    """

    action: Literal["warn", "stop", "off"] = "warn"
    patience: int = 3
    agreement: float = 0.95
    entropy: float = 0.05
    one_answer: float = 0.9
    length: float = 0.25
    fall: float = 0.05

    def __post_init__(self) -> None:
        if self.action not in ("warn", "stop", "off"):
            raise ConfigurationError(f"alarm: there is no action {self.action!r}.", hint="use warn, stop or off.")
        if self.patience < 1:
            raise ConfigurationError(f"alarm: patience={self.patience} waits for no step.", hint="1 waits for one.")
        for name in ("agreement", "entropy", "one_answer", "length", "fall"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigurationError(
                    f"alarm: {name}={getattr(self, name)} is no share inside of (0, 1).", hint="see CollapseAlarm."
                )


Alarm = Literal["warn", "stop", "off"] | CollapseAlarm
"""What `laurel.train` takes: how it is set, or what is done under the settings by default."""


@dataclass
class _Seen:
    """Everything that later steps depend on, as JSON: numbers of the beginning, steps in a row, held-out scores."""

    first: dict[str, list[float]] = field(default_factory=dict)
    in_a_row: dict[str, int] = field(default_factory=dict)
    best: dict[str, Any] | None = None
    sharp: str = ""
    sounded: list[str] = field(default_factory=list)


class CollapseWatch:
    """Watches one run.

    Args:
        alarm: the settings.
        reward: of the run; its `meaning` says when two answers are the same, else equal texts are.
        labels: whether that reward reads labels.
        judged: whether held-out answers are scored.
    """

    def __init__(self, alarm: CollapseAlarm, reward: Reward | None, *, labels: bool, judged: bool) -> None:
        self.alarm = alarm
        self.meaning = meaning_of(reward)
        self.labels = labels
        self.judged = judged
        self._seen = _Seen()

    def step(self, trees: Sequence[Tree], metrics: Mapping[str, Metric]) -> tuple[dict[str, Metric], list[str]]:
        """What to record of a step, and what to warn of.

        Args:
            trees: everything that was drawn and graded.
            metrics: of the step: `entropy` and `answer_tokens` are read.
        """
        found = agreement_metrics(trees, self.meaning)
        signs = self._sharp(found, metrics) + self._changed(found, metrics)
        warnings = [text for name, text in signs if self._new(name)]
        return {**found, "alarm": Metric(len(warnings), 1)}, warnings

    def evaluated(self, step: int, evaluation: Evaluation) -> list[str]:
        """What to warn of after the held-out tasks were scored."""
        best, by_task = self._seen.best, task_means(evaluation.trees)
        told = f"{evaluation.mean:.3f} [{evaluation.low:.3f}, {evaluation.high:.3f}]"
        if best is None or evaluation.mean > best["mean"]:
            told = f"{told} after step {step}"
            self._seen.best = {"mean": evaluation.mean, "low": evaluation.low, "told": told, "by_task": by_task}
            return []
        changes = np.array([by_task[name] - mean for name, mean in best["by_task"].items() if name in by_task])
        by_chance = evaluation.high >= best["low"] and not interval(changes)[2] < 0
        if by_chance or best["mean"] - evaluation.mean < self.alarm.fall or not self._new("fallen"):
            return []
        while_sharp = f", while {self._seen.sharp}" if self._seen.sharp else ""
        return [f"the held-out score fell from {best['told']} to {told}{while_sharp}"]

    def state(self) -> dict[str, Any]:
        """Everything that later steps depend on, as JSON."""
        return asdict(self._seen)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`."""
        self._seen = _Seen(**state)

    @property
    def stops(self) -> bool:
        """Whether a warning ends the run."""
        return self.alarm.action == "stop"

    def _new(self, name: str) -> bool:
        if name in self._seen.sounded:
            return False
        self._seen.sounded.append(name)
        return True

    def _sharp(self, found: Mapping[str, Metric], metrics: Mapping[str, Metric]) -> list[tuple[str, str]]:
        agreement, entropy = found["agreement"].mean, _mean(metrics.get("entropy"))
        before = self._beginning("entropy", entropy)
        signs = []
        if self._lasts("agreement", agreement >= self.alarm.agreement):
            signs.append(f"{agreement:.0%} of the answers to a prompt are the same")
        if self._lasts("entropy", before is not None and entropy <= self.alarm.entropy * before):
            signs.append(f"the entropy is {entropy:.2g} nats, of {before:.2g} at first")
        self._seen.sharp = " and ".join(signs)
        if not signs or self.labels or self.judged:
            return []
        unjudged = "its reward reads no label, and no held-out score tells whether the policy is right"
        return [("unjudged", f"{self._seen.sharp}: {unjudged}")]

    def _changed(self, found: Mapping[str, Metric], metrics: Mapping[str, Metric]) -> list[tuple[str, str]]:
        changes = []
        share, length = _mean(found.get("one_answer")), _mean(metrics.get("answer_tokens"))
        before = self._beginning("one_answer", share)
        if self._lasts("one_answer", before is not None and share >= self.alarm.one_answer > before):
            changes.append(("one_answer", f"{share:.0%} of the answers to different prompts are one and the same"))
        before = self._beginning("length", length)
        if self._lasts("length", before is not None and length < self.alarm.length * before):
            changes.append(("short", f"answers have {length:.1f} tokens, of {before:.1f} at first"))
        return changes

    def _beginning(self, name: str, value: float) -> float | None:
        """The mean of the first steps, None while it is being taken; numbers that are none (NaN) are passed over."""
        first = self._seen.first.setdefault(name, [])
        if len(first) < self.alarm.patience:
            if value == value:
                first.append(value)
            return None
        return sum(first) / len(first)

    def _lasts(self, name: str, holds: bool) -> bool:
        self._seen.in_a_row[name] = self._seen.in_a_row.get(name, 0) + 1 if holds else 0
        return self._seen.in_a_row[name] >= self.alarm.patience


def watch_for(arguments: Mapping[str, Any]) -> CollapseWatch | None:
    """What watches a run with these arguments of `laurel.train`: by default one whose reward reads no label."""
    alarm, reward = arguments["alarm"], arguments["reward"]
    labels = reward is None or reads_labels(reward)
    if alarm is None:
        alarm = "off" if labels or not learns_from_rewards(arguments["algorithm"]) else "warn"
    settings = alarm if isinstance(alarm, CollapseAlarm) else CollapseAlarm(alarm)
    if settings.action == "off":
        return None
    return CollapseWatch(settings, reward, labels=labels, judged=arguments["held_out"] is not None)


def stopped(step: int, warnings: Sequence[str]) -> RunError:
    """What ends a run after a warning."""
    return RunError(
        f"The collapse alarm stopped the run after step {step}: {'; '.join(warnings)}.",
        hint="learn from another reward, or hold the policy nearer to its reference; resumed the run goes on, and what "
        "has sounded stays silent.",
    )


def meaning_of(reward: Reward | None) -> Meaning:
    """When two answers are the same to a reward, as far as that can be read off them; else by their texts."""
    own = getattr(reward, "meaning", None)
    if isinstance(own, Meaning):
        return replace(own, entails=None)
    for part in getattr(reward, "rewards", ()):
        if isinstance(getattr(part, "meaning", None), Meaning):
            return meaning_of(part)
    return Meaning("text")


def agreement_metrics(trees: Sequence[Tree], meaning: Meaning) -> dict[str, Metric]:
    """`agreement`, `distinct_answers` (per prompt with at least two answers that can be read) and `one_answer`.

    `one_answer` is there where the trees have `FEWEST_PROMPTS` different tasks or more.

    Example: the answers 4 4 7 to one prompt and 1 1 to another have agreement (2/3 + 1) / 2 and distinct answers
    (2/3 + 1/2) / 2; each is the most frequent one of the five by 2/5.
    """
    agreed, distinct = [], []
    answers: Counter[Any] = Counter()
    for tree in trees:
        texts = [
            rollout.text
            for rollout in tree.rollouts
            if not is_continuation(rollout.id) and rollout.outcome and rollout.outcome.ending is not Ending.FAILED
        ]
        own = Counter(answer for answer in map(meaning.of, texts) if answer is not None)
        answers += own
        if (total := own.total()) > 1:
            agreed.append(max(own.values()) / total)
            distinct.append(len(own) / total)
    found = {"agreement": Metric.of(agreed), "distinct_answers": Metric.of(distinct)}
    if len({tree.task_id for tree in trees}) >= FEWEST_PROMPTS and answers:
        found["one_answer"] = Metric(max(answers.values()), answers.total())
    return found


def task_means(trees: Sequence[Tree]) -> dict[str, float]:
    """The mean reward of the rollouts of each task that did not fail, by its id."""
    found: dict[str, list[float]] = {}
    for tree in trees:
        rewards = [rollout.reward for rollout in tree.rollouts if rollout.outcome and not rollout.outcome.failed]
        found.setdefault(tree.task_id, []).extend(rewards)
    return {name: sum(rewards) / len(rewards) for name, rewards in found.items() if rewards}


def _mean(metric: Metric | None) -> float:
    return float("nan") if metric is None or not metric.count else metric.mean
