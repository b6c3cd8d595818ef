"""Rewards without labels that hold an answer against its siblings: the other answers to the same prompt.

Of the n siblings that give an answer, the cluster c(i) holds those that mean the same as answer i:

    majority vote      r_i = [c(i) is the largest cluster]        semantic entropy     r_i = p(c(i)) = |c(i)| / n

Both pay for what the policy says anyway: the probability of its most likely meaning rises, right or wrong. So whether
anything was learned only labels tell, on held-out tasks: `laurel.train(held_out_reward=...)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from laurel.errors import ConfigurationError
from laurel.rewards.numbers import answer_in
from laurel.tasks.task import Task
from laurel.tree import UNDECIDED, Failed, Rollout, Score

Reading = Literal["number", "text"] | Callable[[str], Hashable | None]
"""What the answer of a text is: its number (`laurel.rewards.answer_in`, at face value), the text itself without white
space around it, or what a function says; None is no answer."""

Entails = Callable[[Task, str, str], bool]
"""Whether the first of two answers to a task says everything that the second one says."""

Asked = Sequence[tuple[Task, Rollout]]


@dataclass(frozen=True)
class Meaning:
    """When two answers are the same.

    Attributes:
        answer: see `Reading`.
        marker: where the number is looked for, as in `numeric_answer`.
        entails: answers are the same where each entails the other (Farquhar et al. 2024); None: where what `answer`
            reads is equal.
    """

    answer: Reading = "number"
    marker: str | None = None
    entails: Entails | None = None

    def __post_init__(self) -> None:
        if self.marker is not None and self.answer != "number":
            raise ConfigurationError(
                "'marker' would not be read: only a number is looked for behind it.",
                hint="set answer: number, or remove 'marker'.",
            )
        if self.marker == "":
            raise ConfigurationError("An empty marker stands everywhere.", hint="leave it out for the usual order.")

    def of(self, text: str) -> Hashable | None:
        """The answer of a text, None where it gives none."""
        if self.answer == "number":
            number = answer_in(text, self.marker)
            return None if number is None else number.value
        if self.answer == "text":
            return text.strip() or None
        return self.answer(text)  # type: ignore[operator]  # the two names are settled above

    def clusters(self, task: Task, texts: Sequence[str]) -> list[int | None]:
        """The cluster of each text, numbered as they come up; None: it gives no answer.

        With `entails` a text joins the first cluster whose first text it agrees with in both directions.
        """
        found: list[int | None] = []
        firsts: list[tuple[Hashable, str]] = []
        for text in texts:
            answer = self.of(text)
            if answer is None:
                found.append(None)
                continue
            same = (n for n, first in enumerate(firsts) if self._same(task, (answer, text), first))
            place = next(same, len(firsts))
            if place == len(firsts):
                firsts.append((answer, text))
            found.append(place)
        return found

    def _same(self, task: Task, one: tuple[Hashable, str], other: tuple[Hashable, str]) -> bool:
        if self.entails is None:
            return one[0] == other[0]
        return bool(self.entails(task, one[1], other[1]) and self.entails(task, other[1], one[1]))


class SiblingReward:
    """A reward of a group: it reads no label, and says nothing of an answer that stands alone.

    Siblings are the rollouts of one tree. One that failed, or that the grading settings settle without asking, is not
    among them. A group of one is left out (`laurel.tree.UNDECIDED`): nobody disagreed, and nobody agreed.
    """

    runs_in_process: ClassVar[bool] = True
    needs_siblings: ClassVar[bool] = True
    reads_labels: ClassVar[bool] = False

    def of_group(self, task: Task, texts: Sequence[str]) -> Sequence[Score | Failed]:
        """One result for each of at least two siblings."""
        raise NotImplementedError

    def __call__(self, task: Task, rollout: Rollout) -> Score | Failed:
        return UNDECIDED

    def score_rollouts(self, asked: Asked) -> list[Score | Failed]:
        """One result per rollout, in their order."""
        groups: dict[int, list[int]] = {}
        for number, (_, rollout) in enumerate(asked):
            groups.setdefault(id(rollout.tree), []).append(number)
        results: list[Score | Failed] = [UNDECIDED] * len(asked)
        for numbers in groups.values():
            if len(numbers) > 1:
                task = asked[numbers[0]][0]
                said = self.of_group(task, [asked[number][1].text for number in numbers])
                for number, result in zip(numbers, said, strict=True):
                    results[number] = result
        return results


@dataclass(frozen=True)
class MajorityVote(SiblingReward):
    """See `majority_vote`."""

    answer: Reading = "number"
    marker: str | None = None
    leave_one_out: bool = False

    def __post_init__(self) -> None:
        _ = self.meaning

    @property
    def meaning(self) -> Meaning:
        """When two answers are the same."""
        return Meaning(self.answer, self.marker)

    def of_group(self, task: Task, texts: Sequence[str]) -> Sequence[Score | Failed]:
        clusters = self.meaning.clusters(task, texts)
        return [Score(self._vote(clusters, number)) for number in range(len(texts))]

    def _vote(self, clusters: Sequence[int | None], number: int) -> float:
        """What one of them scores: its share of a tie, or 0."""
        if clusters[number] is None:
            return 0.0
        skipped = number if self.leave_one_out else None
        sizes = _sizes(clusters, skipped)
        most = max(sizes.values(), default=0)
        winners = [cluster for cluster, size in sizes.items() if size == most]
        return 1.0 / len(winners) if clusters[number] in winners else 0.0


def majority_vote(
    *, answer: Reading = "number", marker: str | None = None, leave_one_out: bool = False
) -> MajorityVote:
    """1 for the answer that most siblings give, 0 for any other; test-time reinforcement learning.

    Where k answers are equally frequent, each of them scores 1/k, the mean over a fair draw among them: no order
    matters, and a group that agrees on nothing teaches nothing. An answer that cannot be read scores 0 and has no vote;
    a rollout that failed has neither.

    Source: Zuo et al. 2025, arXiv 2504.16084 (which takes any one of several modes).

    Args:
        answer: "number", "text", or a function of the text; see `laurel.rewards.agreement.Reading`.
        marker: the number is the first one after its last occurrence, as in `numeric_answer`.
        leave_one_out: an answer is held against the mode of the others, without its own vote: then, without a baseline,
            the expected gradient is that of the chance to say what the others say most. A baseline of siblings, in
            whose rewards it still votes, takes a third to a half of that away where they are 4 or 3.

    Raises:
        ConfigurationError: for a marker that nothing reads.
    """
    return MajorityVote(answer, marker, leave_one_out)


@dataclass(frozen=True)
class SemanticEntropy(SiblingReward):
    """See `semantic_entropy`."""

    answer: Reading = "number"
    marker: str | None = None
    entails: Entails | None = None
    lowest: float = 0.0
    highest: float | None = None
    leave_one_out: bool = False

    def __post_init__(self) -> None:
        _ = self.meaning
        if self.lowest < 0 or (self.highest is not None and not self.lowest < self.highest):
            raise ConfigurationError(
                f"No entropy lies between {self.lowest} and {self.highest} nats.",
                hint="give 0 <= lowest < highest; semantic entropy reaches the logarithm of samples_per_prompt.",
            )

    @property
    def meaning(self) -> Meaning:
        """When two answers are the same."""
        return Meaning(self.answer, self.marker, self.entails)

    def of_group(self, task: Task, texts: Sequence[str]) -> Sequence[Score | Failed]:
        clusters = self.meaning.clusters(task, texts)
        sizes = _sizes(clusters)
        count = sum(sizes.values())
        entropy = cluster_entropy(list(sizes.values()))
        if entropy < self.lowest or (self.highest is not None and entropy > self.highest):
            return [UNDECIDED] * len(texts)
        own = 1 if self.leave_one_out else 0
        shares = [
            0.0 if cluster is None or count == own else (sizes[cluster] - own) / (count - own) for cluster in clusters
        ]
        return [Score(share, {"semantic_entropy": entropy}) for share in shares]


def semantic_entropy(
    *,
    answer: Reading = "number",
    marker: str | None = None,
    entails: Entails | None = None,
    lowest: float = 0.0,
    highest: float | None = None,
    leave_one_out: bool = False,
) -> SemanticEntropy:
    """The share of the siblings that mean the same: entropy-minimised policy optimisation (EMPO).

    The mean reward of a group is sum_c p(c)^2, whose logarithm is minus the Renyi entropy of order 2 over meanings. The
    part `semantic_entropy` of the score is H = -sum_c p(c) log p(c), in nats. An answer that cannot be read scores 0,
    and is in no cluster.

    Source: Zhang et al. 2025, arXiv 2504.05812; Farquhar et al. 2024 (Nature 630) for the entropy over meanings.

    Args:
        answer, marker: as in `majority_vote`.
        entails: a function of (task, one, other) that says whether one answer entails the other, such as a model of
            natural language inference; answers mean the same where it holds in both directions. None: where the answers
            are equal.
        lowest, highest: groups whose H, in nats, lies outside are left out: they enter no baseline and no gradient.
        leave_one_out: the share among the others, (|c| - 1) / (n - 1), which is unbiased for the probability of the
            meaning.

    Raises:
        ConfigurationError: for a band that holds nothing, or a marker that nothing reads.
    """
    return SemanticEntropy(answer, marker, entails, lowest, highest, leave_one_out)


def cluster_entropy(sizes: Sequence[int]) -> float:
    """-sum p log p over the shares of some clusters, in nats; 0 for none."""
    total = sum(sizes)
    return math.fsum(-size / total * math.log(size / total) for size in sizes if size)


def _sizes(clusters: Sequence[int | None], skipped: int | None = None) -> dict[int, int]:
    """How many siblings are in each cluster."""
    sizes: dict[int, int] = {}
    for number, cluster in enumerate(clusters):
        if cluster is not None and number != skipped:
            sizes[cluster] = sizes.get(cluster, 0) + 1
    return sizes
