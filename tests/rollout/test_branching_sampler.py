"""Branching at many places of many trees is one batch, whose draws are those of one place at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sampling_checks import jobs, same_draws, score_difference

from laurel.credit import Place, continued, is_continuation
from laurel.environments import Conversation, Dialogue, Turn
from laurel.policy import Policy
from laurel.rollout import Job, Limits, LocalSampler
from laurel.tasks import Task
from laurel.tree import Ending, Failed, Rollout, Sampling, Source, Tree

LIMITS = Limits(max_new_tokens=20)


def sampler(policy: Policy, **changes: object) -> LocalSampler:
    settings: dict[str, object] = {"sampling": Sampling(), "limits": LIMITS, "seed": 2}
    settings |= changes
    return LocalSampler(policy, settings.pop("sampling"), settings.pop("limits"), **settings)  # type: ignore[arg-type]


def middles(tree: Tree, every: int = 4) -> list[Place]:
    """After every fourth token of every answer that goes on from there."""
    return [Place(leaf, at) for leaf in tree.leaves for at in range(every, len(tree.segments[leaf]), every)]


def added(tree: Tree) -> dict[str, Rollout]:
    return {rollout.id: rollout for rollout in tree.rollouts if is_continuation(rollout.id)}


def tokens(rollout: Rollout) -> list[int]:
    return np.concatenate([segment.tokens for segment in rollout.segments]).tolist()


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(top_p=0.9)])
def test_many_places_of_many_trees_equal_one_place_at_a_time(policy: Policy, sampling: Sampling) -> None:
    one = sampler(policy, sampling=sampling)
    trees = one.collect(jobs(["a" * 40, "ba"], 6), policy_version=1)
    places = [middles(tree) for tree in trees]
    assert min(map(len, places)) > 3
    branched = one.branch_all(trees, places, samples=3, policy_version=2)
    assert score_difference(policy, branched) < 1e-5
    few_rows = sampler(policy, sampling=sampling, max_live_rows=4)
    same_draws(few_rows.branch_all(trees, places, samples=3, policy_version=2), branched)
    for tree, chosen, whole in zip(trees, places, branched, strict=True):
        alone: dict[str, Rollout] = {}
        for place in chosen:
            alone |= added(one.branch(tree, place.segment, place.at, samples=3, policy_version=2))
        assert len(alone) == 3 * len(chosen)
        assert {name: tokens(r) for name, r in added(whole).items()} == {name: tokens(r) for name, r in alone.items()}
        assert {name: r.text for name, r in added(whole).items()} == {name: r.text for name, r in alone.items()}


def test_the_samples_are_still_there_unchanged(policy: Policy) -> None:
    (tree,) = sampler(policy).collect(jobs(["a" * 40], 6), policy_version=1)
    (whole,) = sampler(policy).branch_all([tree], [middles(tree)], samples=2, policy_version=1)
    samples = {rollout.id: rollout for rollout in whole.rollouts if not is_continuation(rollout.id)}
    assert list(samples) == [rollout.id for rollout in tree.rollouts]
    for rollout in tree.rollouts:
        other = samples[rollout.id]
        assert (tokens(other), other.text, other.outcome) == (tokens(rollout), rollout.text, rollout.outcome)
    for name in added(whole):
        assert continued(name) in samples


def test_a_shared_path_goes_through_the_model_once(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    one = sampler(policy)
    trees = one.collect(jobs(["a" * 40, "b" * 30], 6), policy_version=1)
    places = [middles(tree) for tree in trees]
    rows: list[int] = []
    whole = type(policy).hidden_states

    def counting(self: Policy, ids: torch.Tensor, *others: object, **options: object) -> torch.Tensor:
        if ids.dim() == 1:
            rows.append(len(ids))
        return whole(self, ids, *others, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(type(policy), "hidden_states", counting)
    one.branch_all(trees, places, samples=2, policy_version=1)
    last = {(t, leaf): max(p.at for p in chosen if p.segment == leaf)
            for t, chosen in enumerate(places) for leaf in {p.segment for p in chosen}}  # fmt: skip
    prompts = sum(len(tree.segments[0]) for tree in trees)
    assert rows == [prompts + sum(last.values())]


def test_no_places_draw_nothing(policy: Policy) -> None:
    trees = sampler(policy).collect(jobs(["ab"], 3), policy_version=1)
    same_draws(sampler(policy).branch_all(trees, [[]], samples=4, policy_version=1), trees)


# --- with an environment ---


@dataclass(frozen=True)
class Counting(Conversation):
    """Answers with the number of letters it has read so far; ends after three turns, and pays for every turn."""

    runs_in_process = True
    forgets: bool = False
    starts: tuple[list[str], ...] = ([],)

    def converse(self, task: Task, rollout_id: str) -> Dialogue:
        self.starts[0].append(rollout_id)
        read = 0
        text = yield "a" * 20
        for turn in (1, 2):
            read += len(text) + (len(self.starts[0]) > 4 and self.forgets)
            text = yield Turn(f"{'1' * (1 + read % 3)}:", reward=0.25 * turn)
        return 1.0


def play(policy: Policy, environment: Counting, **changes: object) -> tuple[LocalSampler, list[Job], list[Tree]]:
    limits = Limits(max_new_tokens=12, max_turns=3, stop_strings=("c", "g", "1", "e"))
    made = sampler(policy, limits=limits, **changes)
    asked = [Job("t", Task("task", "a"), 4, environment)]
    return made, asked, made.collect(asked, policy_version=1)


def later_turns(tree: Tree) -> list[Place]:
    return [
        Place(segment.parent, len(tree.segments[segment.parent]))
        for segment in tree.segments
        if segment.source is Source.POLICY and tree.segments[segment.parent].source is Source.ENVIRONMENT
    ]


def inside_turns(tree: Tree) -> list[Place]:
    return [Place(i, 1) for i, s in enumerate(tree.segments) if s.source is Source.POLICY and len(s) > 1]


@pytest.mark.parametrize("places", [later_turns, inside_turns])
def test_continuations_go_on_in_an_episode_that_is_played_again(policy: Policy, places: object) -> None:
    environment = Counting()
    made, asked, trees = play(policy, environment)
    chosen: Sequence[Place] = places(trees[0])  # type: ignore[operator]
    assert len(chosen) > 3
    before = len(environment.starts[0])
    (whole,) = made.branch_all(trees, [chosen], samples=3, policy_version=1, jobs=asked)
    assert len(environment.starts[0]) == before + 3 * len(chosen)
    assert set(environment.starts[0][before:]) <= {rollout.id for rollout in trees[0].rollouts}
    assert score_difference(policy, [whole]) < 1e-5
    endings = set()
    for rollout in added(whole).values():
        assert rollout.outcome is not None
        endings.add((rollout.outcome.ending, rollout.outcome.stop_reason))
        texts = [text for source, text in rollout.turns if source is Source.POLICY]
        answers = [text for source, text in rollout.turns if source is Source.ENVIRONMENT]
        assert answers == [f"{'1' * (1 + sum(map(len, texts[: n + 1])) % 3)}:" for n in range(len(answers))]
        paid = sum(segment.reward for segment in rollout.segments)
        if rollout.outcome.stop_reason == "environment":
            assert len(texts) == 3 and paid == 1.75
        assert len(texts) <= 3
    assert (Ending.TERMINATED, "environment") in endings
    same = {rollout.id: tokens(rollout) for rollout in added(whole).values()}
    alone = [made.branch_all(trees, [[place]], samples=3, policy_version=1, jobs=asked)[0] for place in chosen]
    assert {name: tokens(r) for tree in alone for name, r in added(tree).items()} == same


def test_an_episode_that_does_not_repeat_fails_its_continuations_only(policy: Policy) -> None:
    environment = Counting(forgets=True, starts=([],))
    made, asked, trees = play(policy, environment)
    (whole,) = made.branch_all(trees, [later_turns(trees[0])], samples=2, policy_version=1, jobs=asked)
    failed = [
        r.outcome.score.reason for r in added(whole).values() if r.outcome and isinstance(r.outcome.score, Failed)
    ]
    assert failed and all("when it was played again" in reason for reason in failed)
    for rollout in whole.rollouts:
        assert is_continuation(rollout.id) or (rollout.outcome and not rollout.outcome.failed)


def test_branching_in_fixed_shapes(policy: Policy) -> None:
    plain, static = sampler(policy, static=False), sampler(policy, static=True)
    trees = plain.collect(jobs(["a" * 40, "ba"], 4), policy_version=1)
    places = [middles(tree) for tree in trees]
    same_draws(
        static.branch_all(trees, places, samples=2, policy_version=1),
        plain.branch_all(trees, places, samples=2, policy_version=1),
    )
