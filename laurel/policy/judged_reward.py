"""What a judge says of answers, as a reward: each alone by a rubric, or one against another, in both orders."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from laurel.errors import ConfigurationError, PolicyError
from laurel.policy.fingerprint import fingerprint as fingerprint_of
from laurel.policy.load import load
from laurel.policy.pair_judge import Comparison, PairJudge
from laurel.policy.policy import Policy, Reference
from laurel.policy.rubric import Rubric, RubricJudge
from laurel.preferences.both_orders import BothOrders, in_both_orders
from laurel.preferences.teachers import said_by_rollout
from laurel.tasks.task import Task
from laurel.tree import UNDECIDED, Failed, Rollout, Score

Asked = Sequence[tuple[Task, Rollout]]
Against = Literal["siblings", "reference"]


class JudgedReward:
    """A policy that judges, as the reward of any online method.

        reward: {name: judge, model: my-judge, rubric: {scale: [1, 10]}}                     in a recipe, or
        reward: {name: judge, model: my-judge, comparison: {principles: constitution.yaml}}

    By a rubric each answer is judged alone: see `Rubric`. By a comparison it is held against the other answers to its
    prompt, or against the task's reference answer, each pair in both orders:

        reward(answer) = mean over the others of sigmoid((l(answer, other) - l(other, answer)) / 2)

    which a bias to one place cannot move (`laurel.preferences.both_orders`). Of that the score has the parts
    `said_first` (the probability that it says "the first", 1/2 without a bias) and `flips` (the share of verdicts that
    turn with the order), so that a run records both. Against siblings the mean of a group is 1/2, whatever it says; an
    answer that stands alone is left out. Equal answers are equal, and nobody is asked about them.

    A dialogue is judged as a whole, with the names of who speaks. Nothing is drawn, and the judge never changes.

    Args:
        model: a policy, or the hub name or directory of one, which is loaded when it is first asked.
        rubric: judge answers alone; the default.
        comparison: judge them against others instead.
        against: "siblings", or "reference": the task's reference answer.
        ties: a pair whose verdict turns with the order is a tie; else the average of both log-odds decides.
        fingerprint: what the model's files must be (as a run records them); None: whatever they are.

    Raises:
        ConfigurationError: rubric and comparison, or a setting that nobody reads.
        PolicyError: (when first asked) the model cannot be loaded, or is another one than the fingerprint says.
    """

    runs_in_process = True
    fewest_siblings = 2

    def __init__(
        self,
        model: Policy | str | Path,
        *,
        rubric: Rubric | None = None,
        comparison: Comparison | None = None,
        against: Against = "siblings",
        ties: bool = False,
        fingerprint: str | None = None,
    ) -> None:
        check_judging(rubric, comparison, against, ties)
        self.model, self._wanted = model, fingerprint
        self._settings = (rubric, comparison, against, ties)

    @property
    def needs_siblings(self) -> bool:
        """See `laurel.rewards.needs_siblings`."""
        return against_siblings(self._settings)

    @property
    def reads_labels(self) -> bool:
        """Which of some answers is better says nothing of how good they are; what a judge says of one alone does."""
        return not self.needs_siblings

    @property
    def description(self) -> Mapping[str, Any]:
        """What a run records of it; of a model on the disk also what its files are."""
        if isinstance(self.model, Policy):
            return {"type": type(self).__name__, "model": self.model.description, **described(self._settings)}
        _ = self.policy  # what is loaded has files
        kept = {"model": str(self.model), "fingerprint": self.fingerprint}
        return {"type": type(self).__name__, **kept, **described(self._settings)}

    @cached_property
    def policy(self) -> Policy:
        """Who judges, loaded when it is first asked for."""
        if isinstance(self.model, Policy):
            return self.model
        policy = load(str(self.model))
        if self._wanted is not None:
            _ = self.fingerprint
        return policy

    @cached_property
    def fingerprint(self) -> str:
        """Of the files of a model that has some.

        Raises:
            PolicyError: it is another one than was asked for.
        """
        found = fingerprint_of(str(self.model))
        if self._wanted not in (None, found):
            raise PolicyError(
                f"The judge in {self.model} is another one than it was.",
                hint="put the one that was used back, or start a new run.",
            )
        return found

    def __call__(self, task: Task, rollout: Rollout) -> Score | Failed:
        return self.score_rollouts([(task, rollout)])[0]

    def score_rollouts(self, asked: Asked) -> list[Score | Failed]:
        """One result per rollout, in their order."""
        return self._judge(asked)

    @cached_property
    def _judge(self) -> Callable[[Asked], list[Score | Failed]]:
        return judging(self.policy, self._settings)


Settings = tuple[Rubric | None, Comparison | None, Against, bool]


def check_judging(rubric: Rubric | None, comparison: Comparison | None, against: str, ties: bool) -> None:
    """Refuse settings of a judge that contradict each other, or that nobody reads.

    Raises:
        ConfigurationError
    """
    if rubric is not None and comparison is not None:
        raise ConfigurationError("A judge goes by a rubric or by a comparison.", hint="remove one of them.")
    if against not in ("siblings", "reference"):
        raise ConfigurationError(f"against={against!r} is nobody.", hint="use siblings or reference.")
    if comparison is None and (against != "siblings" or ties):
        raise ConfigurationError(
            "'against' and 'ties' would not be read: answers are judged alone, by a rubric.",
            hint="add comparison: {...}, or remove them.",
        )


def against_siblings(settings: Settings) -> bool:
    """Whether answers are held against the others to their prompt."""
    _, comparison, against, _ = settings
    return comparison is not None and against == "siblings"


def described(settings: Settings) -> dict[str, Any]:
    """The settings as data, to make them again; what would not be read is left out."""
    rubric, comparison, against, ties = settings
    if comparison is None:
        return {"rubric": (rubric or Rubric()).description}
    return {"comparison": comparison.description, "against": against, "ties": ties}


def judging(
    policy: Policy, settings: Settings, *, weights: Reference | None = None
) -> Callable[[Asked], list[Score | Failed]]:
    """What scores rollouts by these settings."""
    rubric, comparison, against, ties = settings
    if comparison is None:
        judge = RubricJudge(policy, rubric, weights=weights)
        return lambda asked: _alone(judge, asked)
    pairs = PairJudge(policy, comparison, weights=weights)
    if against == "siblings":
        return lambda asked: _among_siblings(pairs, ties, asked)
    return lambda asked: _against_reference(pairs, ties, asked)


def is_judged_by(reward: Any, policy: object) -> bool:
    """Whether a reward, or a part of it, asks this very policy as it is."""
    parts = getattr(reward, "rewards", ())
    return (isinstance(reward, JudgedReward) and reward.model is policy) or any(is_judged_by(p, policy) for p in parts)


def judges_in(reward: Any) -> list[Policy]:
    """The policies that a reward asks to judge, also in its parts; they are loaded."""
    if isinstance(reward, JudgedReward):
        return [reward.policy]
    return [policy for part in getattr(reward, "rewards", ()) for policy in judges_in(part)]


def _alone(judge: RubricJudge, asked: Asked) -> list[Score | Failed]:
    values = judge.values([(task, said_by_rollout(rollout)) for task, rollout in asked])
    return [value if isinstance(value, Failed) else Score(value) for value in values]


def _among_siblings(judge: PairJudge, ties: bool, asked: Asked) -> list[Score | Failed]:
    groups: dict[int, list[int]] = {}
    for number, (_, rollout) in enumerate(asked):
        groups.setdefault(id(rollout.tree), []).append(number)
    places = [pair for numbers in groups.values() for pair in itertools.combinations(numbers, 2)]
    texts = [said_by_rollout(rollout) for _, rollout in asked]
    said = _compared(judge, [(asked[one][0], texts[one], texts[other]) for one, other in places])
    found: list[list[tuple[BothOrders | Failed | None, bool]]] = [[] for _ in asked]
    for (one, other), result in zip(places, said, strict=True):
        found[one].append((result, True))
        found[other].append((result, False))
    return [_score(results, ties) if results else UNDECIDED for results in found]


def _against_reference(judge: PairJudge, ties: bool, asked: Asked) -> list[Score | Failed]:
    known = [number for number, (task, _) in enumerate(asked) if task.reference is not None]
    said = _compared(judge, [(asked[n][0], said_by_rollout(asked[n][1]), asked[n][0].reference or "") for n in known])
    results: list[Score | Failed] = [Failed("there is no reference answer to hold it against")] * len(asked)
    for number, result in zip(known, said, strict=True):
        results[number] = _score([(result, True)], ties)
    return results


def _compared(judge: PairJudge, pairs: Sequence[tuple[Task, str, str]]) -> list[BothOrders | Failed | None]:
    """What the judge says of each pair in both orders; None of equal ones, which it is not asked about."""
    different = [number for number, (_, one, other) in enumerate(pairs) if one != other]
    results: list[BothOrders | Failed | None] = [None] * len(pairs)
    for number, said in zip(different, in_both_orders(judge, [pairs[n] for n in different]), strict=True):
        results[number] = said
    return results


def _score(results: Sequence[tuple[BothOrders | Failed | None, bool]], ties: bool) -> Score | Failed:
    """The mean over what an answer was held against, as (what was said, whether it is the pair's first)."""
    worth: list[float] = []
    orders: list[BothOrders] = []
    reason: Failed | None = None
    for said, is_first in results:
        if isinstance(said, Failed):
            reason = said
            continue
        if said is not None:
            orders.append(said)
        probability = 0.5 if said is None else said.probability(ties=ties)
        worth.append(probability if is_first else 1 - probability)
    if reason is not None and not worth:
        return reason
    parts = {}
    if orders:
        parts = {
            "said_first": sum(said.said_first for said in orders) / len(orders),
            "flips": sum(said.flips for said in orders) / len(orders),
        }
    return Score(sum(worth) / len(worth), parts)
