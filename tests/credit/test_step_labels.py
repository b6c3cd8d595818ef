"""Labels of steps by hand: what continuations say, what the sample itself says of its last step, what is left out."""

from __future__ import annotations

import pytest

from laurel.credit import Place, labelled_steps, monte_carlo_labels, step_places
from laurel.errors import ConfigurationError, TreeError
from laurel.tree import Ending, Failed, Outcome, Score, Segment, Source, Tree


def ended(score: float | Failed) -> Outcome:
    return Outcome(Ending.TERMINATED, "stop", score if isinstance(score, Failed) else Score(score))


def policy(parent: int, name: str, outcome: Outcome | None = None) -> Segment:
    return Segment(Source.POLICY, [5], parent, outcome=outcome, rollout_id=name)


def branched(*scores: float | Failed, own: float = 0.5) -> Tree:
    """prompt - a -+- b - c (the sample)      with the scores of continuations of a, of which a has len(scores) - 1,
    +- ...                                    and of b, which has the last one."""
    segments = [Segment(Source.PROMPT, [1], -1), policy(0, "t.0"), policy(1, "t.0"), policy(2, "t.0", ended(own))]
    segments += [policy(1, f"t.0@2.{number}", ended(score)) for number, score in enumerate(scores[:-1])]
    segments.append(policy(2, "t.0@3.0", ended(scores[-1])))
    return Tree.build("t", "t", segments)


def test_by_hand() -> None:
    soft = monte_carlo_labels(branched(1.0, 0.0, 0.25, 0.75))
    assert len(soft.segments) == 4 and soft.segments[3].outcome is not None
    assert soft.segments[3].outcome.score == Score(0.5, {"step 1": 1.25 / 3, "step 2": 0.75, "step 3": 0.5})
    assert labelled_steps(soft) == [(1, 1.25 / 3), (2, 0.75), (3, 0.5)]
    hard = monte_carlo_labels(branched(1.0, 0.0, 0.25, 0.75), "hard")
    assert labelled_steps(hard) == [(1, 1.0), (2, 0.0), (3, 0.0)]


def test_what_failed_is_no_zero() -> None:
    assert labelled_steps(monte_carlo_labels(branched(1.0, Failed("x"), 1.0))) == [(1, 1.0), (2, 1.0), (3, 0.5)]
    assert labelled_steps(monte_carlo_labels(branched(Failed("x"), 1.0))) == [(2, 1.0), (3, 0.5)]
    tree = branched(1.0, 1.0)
    sample = next(rollout.leaf for rollout in tree.rollouts if rollout.id == "t.0")
    broken = monte_carlo_labels(tree.with_outcomes({sample: ended(Failed("x"))}))
    assert labelled_steps(broken) == [] and len(broken.leaves) == 1


def test_a_score_that_is_no_chance_is_refused() -> None:
    with pytest.raises(TreeError, match=r"Rollout t.0@2.1 earned 3: no chance"):
        monte_carlo_labels(branched(1.0, 3.0, 0.0))
    with pytest.raises(ConfigurationError, match="no estimate 'mean'"):
        monte_carlo_labels(branched(1.0, 1.0), "mean")  # type: ignore[arg-type]


def test_places_are_before_the_next_step_once_each() -> None:
    assert step_places(branched(1.0, 1.0)) == [Place(1, 1), Place(2, 1)]
    lost = Tree("t", "t", (Segment(Source.PROMPT, [1], -1), policy(0, "t.0"), policy(1, "t.0", ended(Failed("x")))))
    assert step_places(lost) == []


def test_a_continuation_of_several_turns_counts_where_it_began() -> None:
    heard = Segment(Source.ENVIRONMENT, [7], 1, rollout_id="t.0")
    segments = [Segment(Source.PROMPT, [1], -1), policy(0, "t.0"), heard, policy(2, "t.0", ended(0.0))]
    again = Segment(Source.ENVIRONMENT, [7], 4, rollout_id="t.0@3.0")
    segments += [policy(2, "t.0@3.0"), again, policy(5, "t.0@3.0", ended(0.75))]
    assert labelled_steps(monte_carlo_labels(Tree.build("t", "t", segments))) == [(1, 0.75), (3, 0.0)]


def test_a_step_that_several_pass_has_the_mean_of_what_they_say() -> None:
    scores = [Score(1.0, {"step 1": 0.2, "step 2": 0.9}), Score(0.0, {"step 1": 0.6})]
    segments = [Segment(Source.PROMPT, [1], -1), policy(0, "t.0")]
    segments += [policy(1, f"t.{n}", Outcome(Ending.TERMINATED, "stop", score)) for n, score in enumerate(scores)]
    assert labelled_steps(Tree("t", "t", tuple(segments))) == [(1, 0.4), (2, 0.9)]
