"""Turns that somebody else takes: on the path as if drawn, computed by the policy, and never its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from sampling_checks import score_difference
from test_turns import Echo

from laurel.credit import EveryToken, LeaveOneOut
from laurel.errors import SamplingError
from laurel.judged import scored_nothing
from laurel.policy import Policy
from laurel.rollout import Due, Job, Limits, LocalSampler, Taken
from laurel.tasks import Task
from laurel.tree import Sampling, Segment, Source, Tree

Choice = Callable[[Due], Taken | None]


@dataclass
class Chosen:
    """Takes what a function says, and remembers what it was asked."""

    choose: Choice
    asked: list[Due] = field(default_factory=list)

    def take(self, turns: Sequence[Due]) -> list[Taken | None]:
        self.asked += turns
        return [self.choose(due) for due in turns]


def play(
    policy: Policy,
    choose: Choice | None,
    *,
    prompt: str = "a" * 40,
    rows: int = 64,
    static: bool = False,
    **options: object,
) -> tuple[list[Tree], list[Due]]:
    limits = {"max_new_tokens": 12, "max_turns": 5, "stop_strings": ("c", "g", "1", "e"), **options}
    bounds = Limits(**limits)  # type: ignore[arg-type]
    sampler = LocalSampler(policy, Sampling(top_p=0.9), bounds, max_live_rows=rows, seed=0, static=static)
    asked = [Job(f"t{i}-", Task(f"task{i}", "a"), 6, Echo(prompt)) for i in range(2)]
    substitute = None if choose is None else Chosen(choose)
    trees = sampler.collect(asked, policy_version=7, substitute=substitute)
    return trees, [] if substitute is None else substitute.asked


def turns_of(trees: Sequence[Tree]) -> dict[tuple[str, int], Segment]:
    """Every turn by rollout and number."""
    found = {}
    for tree in trees:
        for rollout in tree.rollouts:
            for number, segment in enumerate(rollout.segments[1::2]):
                found[rollout.id, number] = segment
    return found


@pytest.mark.parametrize("prompt", ["ab", "a" * 40])
@pytest.mark.parametrize("taken", ["first", "second", "odd", "every"])
def test_who_plays_what_the_policy_would_have_drawn_changes_nothing_behind_it(
    policy: Policy, prompt: str, taken: str
) -> None:
    takes = {"first": lambda t: t == 0, "second": lambda t: t == 1, "odd": lambda t: t % 2, "every": lambda t: True}
    drawn, _ = play(policy, None, prompt=prompt)
    known = turns_of(drawn)

    def choose(due: Due) -> Taken | None:
        own = known[due.rollout, due.turn]
        return Taken(own.tokens, own.text) if takes[taken](due.turn) and _ended(own) else None

    def _ended(own: Segment) -> bool:  # a turn that the policy was cut off in ends the rollout, a given one does not
        return own.outcome is None or own.outcome.stop_reason == "environment"

    for rows, static in ((64, False), (3, False), (5, True)):
        played, _ = play(policy, choose, prompt=prompt, rows=rows, static=static)
        for one, other in zip(drawn, played, strict=True):
            assert [s.tokens.tolist() for s in one.segments] == [s.tokens.tolist() for s in other.segments]
            assert [(s.text, s.reward, s.outcome, s.parent) for s in one.segments] == [
                (s.text, s.reward, s.outcome, s.parent) for s in other.segments
            ]
            for a, b in zip(one.segments, other.segments, strict=True):
                if b.source is Source.EXPERT:
                    assert b.sampling is None and b.sampler_log_probs is None and b.policy_version is None
                elif b.sampler_log_probs is not None and a.sampler_log_probs is not None:
                    assert np.abs(a.sampler_log_probs - b.sampler_log_probs).max() < 1e-5
    experts = [number for (_, number), segment in turns_of(played).items() if segment.source is Source.EXPERT]
    assert experts and all(takes[taken](number) for number in experts)


def test_draws_behind_a_given_turn_have_the_learners_log_probs(policy: Policy) -> None:
    given = Taken(policy.encode_answer("abc"), "abc")
    trees, _ = play(policy, lambda due: given if due.turn in (0, 2) else None)
    assert score_difference(policy, trees) < 1e-5
    sources = [[s.source for s in rollout.segments] for tree in trees for rollout in tree.rollouts]
    assert all(found[1] is Source.EXPERT for found in sources)
    assert any(found[3:6] == [Source.POLICY, Source.ENVIRONMENT, Source.EXPERT] for found in sources)


def test_who_is_asked_sees_the_path_and_the_dialogue(policy: Policy) -> None:
    given = Taken(policy.encode_answer("ab"), "ab")
    trees, asked = play(policy, lambda due: given if due.turn == 0 else None)
    paths = {}
    for tree in trees:
        for leaf in tree.leaves:
            path = [tree.segments[index] for index in tree.path(leaf)]
            for turn in range(len(path) // 2):
                paths[tree.rollouts[tree.leaves.index(leaf)].id, turn] = path[: 2 * turn + 1]
    assert {(due.rollout, due.turn) for due in asked} == set(paths)
    for due in asked:
        before = paths[due.rollout, due.turn]
        assert due.path.tolist() == np.concatenate([s.tokens for s in before]).tolist()
        assert due.dialogue == tuple(s.text for s in before) and len(due.dialogue) == 2 * due.turn + 1


def test_no_method_takes_a_given_turn_for_a_draw(policy: Policy) -> None:
    """Ratios, baselines and clones alike: the mask that every loss goes through leaves it out."""
    given = Taken(policy.encode_answer("ab"), "ab")
    drawn, _ = play(policy, lambda due: given if due.turn == 0 else None)
    trees = [tree.with_outcomes(scored_nothing(tree)) for tree in drawn]
    for rule in (EveryToken(), LeaveOneOut()):
        for tree, credit in zip(trees, rule(trees), strict=True):
            expert = tree.flat.source == Source.EXPERT
            assert expert.any() and np.isnan(tree.flat.sampler_log_probs[expert]).all()
            assert credit.mask.any() and not credit.mask[expert].any()


def test_a_turn_without_room_is_refused(policy: Policy) -> None:
    long = Taken(np.zeros(30, np.int64), "a" * 30)
    with pytest.raises(SamplingError, match="has no room"):
        play(policy, lambda due: long, max_path_tokens=60)
