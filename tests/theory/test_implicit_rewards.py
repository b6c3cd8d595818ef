"""Implicit process rewards are soft advantages: by listing all answers of a language model.

Every policy maximises E[R] - beta KL(pi, ref) for the reward R(y) = beta log pi(y)/ref(y) of whole answers. From R and
ref alone the soft values follow by recursion from the ends, and each token's implicit reward must be Q - V.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from laurel.policy import ImplicitProcessReward, Policy, pack, tiny
from laurel.rewards import Score
from laurel.tasks import Task
from laurel.tree import Ending, FloatArray, Outcome, Segment, Source, Tree

HORIZON = 3
BETA = 0.7
History = tuple[int, ...]


def policy(seed: int) -> Policy:
    made = tiny(alphabet="ab>", hidden_size=16, layers=1, heads=2, context_length=8, seed=seed)
    with torch.no_grad():
        for tensor in made.trainable_parameters().values():
            tensor *= 4  # far from uniform
    return made


def answers(some: Policy) -> list[History]:
    """All of them: what ends with an end token, or at the horizon."""
    found: list[History] = []
    for length in range(1, HORIZON + 1):
        for tokens in itertools.product(range(some.vocabulary_size), repeat=length):
            ended = tokens[-1] in some.end_ids
            if not set(tokens[:-1]) & some.end_ids and (ended or length == HORIZON):
                found.append(tokens)
    return found


def tree_of(some: Policy, listed: list[History]) -> Tree:
    """One tree in which every prefix stands once."""
    segments = [Segment(Source.PROMPT, some.encode_prompt("a>"), -1, "a>")]
    place: dict[History, int] = {(): 0}
    for tokens in listed:
        for length in range(1, len(tokens) + 1):
            prefix = tokens[:length]
            if prefix not in place:
                ended = Outcome(Ending.TERMINATED, "listed") if prefix == tokens else None
                segment = Segment(Source.POLICY, prefix[-1:], place[prefix[:-1]], "x", outcome=ended)
                place[prefix] = len(segments)
                segments.append(segment)
    return Tree.build("all", "task", segments)


def log_probs(some: Policy, tree: Tree) -> FloatArray:
    """[S] of the token of each segment; 0 for the prompt."""
    with torch.no_grad():
        values = some.token_scores(pack([tree], [tree.flat.policy])).log_probs.double().numpy()
    return np.concatenate([[0.0], values])


def soft_values(tree: Tree, reference: FloatArray, rewards: dict[int, float]) -> tuple[FloatArray, FloatArray]:
    """Q of the token of each segment, and V after it: beta log E_ref exp(R / beta)."""
    q, v = np.zeros(len(tree.segments)), np.zeros(len(tree.segments))
    for index in range(len(tree.segments) - 1, -1, -1):
        below = list(tree.children[index])
        if below:
            v[index] = BETA * float(np.logaddexp.reduce(reference[below] + q[below] / BETA))
            q[index] = v[index]
        else:
            q[index] = rewards[index]
    return q, v


def test_they_are_soft_advantages_of_the_reward_that_they_sum_to() -> None:
    now, start = policy(0), policy(1)
    tree = tree_of(now, answers(now))
    ours, theirs = log_probs(now, tree), log_probs(start, tree)
    for own in (ours, theirs):  # everything is listed
        total = sum(np.exp(own[list(tree.path(leaf))].sum()) for leaf in tree.leaves)
        assert total == pytest.approx(1, abs=1e-5)
    shift = 0.4  # a constant of the prompt changes no policy
    rewards = {leaf: BETA * float((ours - theirs)[list(tree.path(leaf))].sum()) + shift for leaf in tree.leaves}
    q, v = soft_values(tree, theirs, rewards)
    assert v[0] == pytest.approx(shift, abs=1e-5)  # beta log Z
    reward = ImplicitProcessReward(now, start, beta=BETA, total=True, writer=now)
    (by_token,) = reward.token_rewards([tree])
    parents = np.array([segment.parent for segment in tree.segments[1:]])
    prompt = len(tree.segments[0])
    assert np.ptp(by_token[prompt:]) > 1
    np.testing.assert_allclose(by_token[prompt:], (q[1:] - v[parents]), atol=2e-5)
    task = Task("task", "a>")
    for rollout, score in zip(
        tree.rollouts, reward.score_rollouts([(task, rollout) for rollout in tree.rollouts]), strict=True
    ):
        assert isinstance(score, Score)
        assert score.value == pytest.approx(rewards[rollout.leaf] - shift, abs=2e-5)
        assert sum(score.parts.values()) == pytest.approx(score.value, abs=1e-9)
