"""How sure a policy is: identities by hand, and against a stock forward pass of every answer alone."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

import laurel
from laurel.policy import CertaintyReader, Policy, negative_entropy, reward_for, self_certainty
from laurel.policy.certainty import kl_from_uniform, measured, negative_entropies
from laurel.policy.divergence import Compared
from laurel.policy.packed import pack
from laurel.rewards import Grader, exact_match, reads_labels, weighted
from laurel.tasks import Task
from laurel.tree import Ending, Failed, Outcome, Sampling, Score, Segment, Source, Support, Tree

TASK = Task("t", "12>", "3")


@pytest.fixture(scope="module")
def policy() -> Policy:
    shape: dict[str, Any] = {"hidden_size": 16, "layers": 1, "heads": 2, "context_length": 12}
    return laurel.policy.tiny(alphabet="0123456789>", initial_scale=0.3, seed=3, **shape)


@pytest.fixture(scope="module")
def stock(policy: Policy, tmp_path_factory: pytest.TempPathFactory) -> Any:
    policy.export(made := tmp_path_factory.mktemp("stock"))
    return AutoModelForCausalLM.from_pretrained(made).eval()


def drawn(policy: Policy, sampling: Sampling | None = None) -> Tree:
    """Two turns around an observation, one long answer, one of a single token."""

    def segment(text: str, source: Source, parent: int, ended: bool = True) -> Segment:
        tokens = policy.encode_answer(text)[:-1]
        outcome = Outcome(Ending.TRUNCATED, "length") if ended else None
        own = {"sampling": sampling} if source is Source.POLICY else {}
        return Segment(source, tokens, parent, text, outcome=outcome, rollout_id=f"t.{parent}.{text}", **own)  # type: ignore[arg-type]

    prompt = Segment(Source.PROMPT, policy.encode_prompt("12>"), -1, text="12>")
    turns = [segment("45", Source.POLICY, 0, False), segment(">7", Source.ENVIRONMENT, 1, False)]
    return Tree(
        "t",
        "t",
        (prompt, *turns, segment("8", Source.POLICY, 2), *(segment(t, Source.POLICY, 0) for t in ("9876", "3"))),
    )


def slowly(stock: Any, tree: Tree, of_row: Any) -> list[float]:
    """Row by row through the stock model, every path alone."""
    said = []
    for rollout in tree.rollouts:
        tokens = torch.from_numpy(np.concatenate([segment.tokens for segment in rollout.segments]))
        own = np.concatenate([np.full(len(s), s.source is Source.POLICY) for s in rollout.segments])
        with torch.no_grad():
            logits = stock(input_ids=tokens[None]).logits[0].double()
        said.append(float(np.mean([of_row(logits[place - 1].numpy()) for place in np.flatnonzero(own)])))
    return said


def by_definition(row: np.ndarray) -> float:
    """KL(U, p) = sum_v 1/V log((1/V) / p_v)."""
    p = np.exp(row - row.max())
    p /= p.sum()
    return float(np.mean(np.log(1 / len(p) / p)))


def entropy_by_definition(row: np.ndarray) -> float:
    p = np.exp(row - row.max())
    p /= p.sum()
    return float(np.sum(p * np.log(p)))


@pytest.mark.parametrize(
    ("reward", "of_row"), [(self_certainty(), by_definition), (negative_entropy(), entropy_by_definition)]
)
@pytest.mark.parametrize("frozen", [False, True])
def test_it_equals_a_slow_reference(policy: Policy, stock: Any, reward: Any, of_row: Any, frozen: bool) -> None:
    """Observation tokens count for nothing, though they move what comes after them."""
    tree = drawn(policy)
    bound = reward_for(policy, replace(reward, frozen=frozen))
    with Grader(bound) as grader:
        (graded,), _ = grader.grade([tree.with_outcomes({})], {"t": TASK})
    said = [r.outcome.score.value for r in graded.rollouts if r.outcome and isinstance(r.outcome.score, Score)]
    assert said == pytest.approx(slowly(stock, tree, of_row), abs=1e-6)


def test_temperature_and_truncation_of_the_draw_change_nothing(policy: Policy) -> None:
    bound = reward_for(policy, self_certainty())
    plain = [score.value for score in bound.score_rollouts([(TASK, r) for r in drawn(policy).rollouts])]
    cut = drawn(policy, Sampling(temperature=0.3, top_k=1))
    kept = [
        replace(s, support=Support(s.tokens, np.arange(len(s) + 1))) if s.source is Source.POLICY else s
        for s in cut.segments
    ]
    told = bound.score_rollouts([(TASK, r) for r in replace(cut, segments=tuple(kept)).rollouts])
    assert [score.value for score in told] == pytest.approx(plain, abs=1e-6)


@given(st.integers(2, 40), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_identities_of_a_row(width: int, seed: int) -> None:
    """log V - KL(p, U) = H, a shift changes nothing, and the certainty is logsumexp - mean - log V >= 0."""
    z = torch.from_numpy(np.random.default_rng(seed).normal(0, 3, (1, width)))
    sure, sharp = float(kl_from_uniform(z)[0]), float(negative_entropies(z)[0])
    assert sure == pytest.approx(by_definition(z[0].numpy()), abs=1e-12) and sure > -1e-12
    assert sharp == pytest.approx(entropy_by_definition(z[0].numpy()), abs=1e-12)
    assert -math.log(width) - 1e-12 <= sharp <= 1e-12
    assert float(kl_from_uniform(z + 7)[0]) == pytest.approx(sure, abs=1e-10)


def test_a_uniform_row_is_not_sure_at_all() -> None:
    assert float(kl_from_uniform(torch.zeros(1, 9))[0]) == pytest.approx(0, abs=1e-6)
    assert float(negative_entropies(torch.zeros(1, 9))[0]) == pytest.approx(-math.log(9), abs=1e-6)


def test_chunks_change_nothing(policy: Policy) -> None:
    tree = drawn(policy)
    packed = pack([tree], [tree.flat.policy])
    rows = len(packed.row_predictors)
    view = Compared(torch.randn(rows, 16, generator=torch.Generator().manual_seed(0)), policy.head)
    with torch.no_grad():
        whole = measured(view, packed.rows, kl_from_uniform)
        assert measured(view, packed.rows, kl_from_uniform, chunk_elements=1) == pytest.approx(whole, abs=1e-6)
    assert whole.shape == (rows,)


def test_the_live_policy_moves_and_the_frozen_one_does_not(policy: Policy) -> None:
    moving = laurel.policy.tiny(alphabet="0123456789>", hidden_size=16, layers=1, heads=2, context_length=12, seed=4)
    live, kept = reward_for(moving, self_certainty()), reward_for(moving, self_certainty(frozen=True))
    asked = [(TASK, r) for r in drawn(moving).rollouts]
    before = [s.value for s in live.score_rollouts(asked)]
    assert [s.value for s in kept.score_rollouts(asked)] == pytest.approx(before, abs=1e-6)
    with torch.no_grad():
        for parameter in moving.trainable_parameters().values():
            parameter.mul_(1.5)
    assert [s.value for s in kept.score_rollouts(asked)] == pytest.approx(before, abs=1e-6)
    assert [s.value for s in live.score_rollouts(asked)] != pytest.approx(before, abs=1e-3)


def test_without_a_policy_it_fails_and_a_weighted_part_is_bound(policy: Policy) -> None:
    rollout = drawn(policy).rollouts[0]
    assert isinstance(self_certainty()(TASK, rollout), Failed) and not reads_labels(self_certainty())
    mixed = weighted({"sure": (negative_entropy(), 0.5), "right": (exact_match(), 1.0)})
    bound = reward_for(policy, mixed)
    assert isinstance(bound.parts["sure"][0], CertaintyReader) and not reads_labels(bound.parts["sure"][0])
    (score,) = bound.score_rollouts([(TASK, rollout)])
    assert score.value == pytest.approx(0.5 * score.parts["sure"] + score.parts["right"])
