"""C6: the quadratic model meets delta, the measured KL is at most delta, the surrogate improves, else it is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from learner_trees import VOCABULARY, batch, fan

from laurel.algorithms import KL, Algorithm, Credit, TrustRegion, grpo, ppo, reinforce, trpo
from laurel.credit import LeaveOneOut
from laurel.errors import ConfigurationError
from laurel.learner import Learner, OptimiserSettings, UpdateReport
from laurel.learner.trust_region import conjugate_gradient, search
from laurel.objectives import ConstantLength, Surrogate
from laurel.policy import Policy, critic_for, pack, tiny
from laurel.theory import example_logits, example_world, expected_return, group_tree
from laurel.tree import Tree

DELTA = 0.01


# Conjugate gradient


def test_two_iterations_solve_two_equations() -> None:
    """[[4, 1], [1, 3]] x = [1, 2] has x = [1/11, 7/11]; the first step goes 5/20 along b, to [1/4, 1/2]."""
    matrix, target = torch.tensor([[4.0, 1.0], [1.0, 3.0]], dtype=torch.float64), torch.tensor([1.0, 2.0]).double()
    once = conjugate_gradient(lambda v: matrix @ v, target, iterations=1)
    torch.testing.assert_close(once.x, torch.tensor([0.25, 0.5]).double())
    assert once.residual == pytest.approx(np.sqrt(0.25 + 0.0625) / np.sqrt(5))  # b - A x = [-1/2, 1/4]
    solved = conjugate_gradient(lambda v: matrix @ v, target, iterations=9)
    torch.testing.assert_close(solved.x, torch.tensor([1 / 11, 7 / 11]).double())
    assert solved.products == 2 and solved.residual < 1e-10


@given(seed=st.integers(0, 10**6), size=st.integers(1, 6))
def test_as_many_iterations_as_unknowns_are_exact(seed: int, size: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=draw, dtype=torch.float64)
    matrix = root @ root.T + torch.eye(size, dtype=torch.float64)
    target = torch.randn(size, generator=draw, dtype=torch.float64)
    found = conjugate_gradient(lambda v: matrix @ v, target, iterations=size).x
    torch.testing.assert_close(found, torch.linalg.solve(matrix, target), rtol=1e-7, atol=1e-9)


def test_no_curvature_and_no_target_end_it() -> None:
    flat = conjugate_gradient(torch.zeros_like, torch.ones(3), iterations=5)
    assert flat.products == 1 and not flat.x.any()
    assert conjugate_gradient(torch.zeros_like, torch.zeros(3), iterations=5).products == 0


# On a policy that is a table, where everything is a sum


class Table:
    """The surrogate of 64 fixed rollouts of an enumerable world, and the KL in their states, of a table of logits."""

    def __init__(self) -> None:
        self.world = example_world()
        self.start = example_logits(self.world)
        equal, draw = torch.ones(len(self.world.paths)), torch.Generator().manual_seed(1)
        drawn = torch.multinomial(equal, 64, replacement=True, generator=draw)
        paths = [self.world.paths[index] for index in drawn]
        (credit,) = LeaveOneOut()([group_tree(self.world, tuple(paths))])
        self.states = torch.tensor([state for path in paths for state in path.states])
        self.tokens = torch.tensor([token for path in paths for token in path.tokens])
        self.advantages = torch.tensor(credit.advantages[credit.mask])
        self.now = self.start.clone()

    def loss(self, table: torch.Tensor) -> torch.Tensor:
        ratio = (torch.log_softmax(table, -1) - torch.log_softmax(self.start, -1))[self.states, self.tokens].exp()
        return -(ratio * self.advantages).mean()

    def kl(self, table: torch.Tensor) -> torch.Tensor:
        old = torch.log_softmax(self.start, -1)
        by_state = (old.exp() * (old - torch.log_softmax(table, -1))).sum(-1)
        return by_state[self.states].mean()

    def gradient(self) -> torch.Tensor:
        table = self.start.clone().requires_grad_()
        return torch.autograd.grad(self.loss(table), table)[0].flatten()

    def fisher(self) -> torch.Tensor:
        """The Hessian of the KL at the start, which is the Fisher matrix."""
        size = self.start.numel()
        hessian = torch.autograd.functional.hessian(self.kl, self.start)
        return torch.as_tensor(hessian).reshape(size, size)

    def tried(self, displacement: torch.Tensor) -> tuple[float, float]:
        self.now = self.start + displacement.view(self.start.shape)
        return float(self.loss(self.now)), float(self.kl(self.now))


@pytest.mark.parametrize("delta", [1e-4, 1e-2, 0.2])
def test_a_step_in_a_table(delta: float) -> None:
    table, region = Table(), TrustRegion(delta, iterations=50, damping=0.0)
    matrix = table.fisher()
    outcome = search(table.gradient(), lambda v: matrix @ v, table.tried, float(table.loss(table.start)), region)
    assert outcome.refused is None
    step = (table.now - table.start).flatten()
    quadratic = 0.5 * float(step @ matrix @ step)
    assert quadratic * 4**outcome.halvings == pytest.approx(delta, rel=1e-9)
    assert outcome.kl == pytest.approx(float(table.kl(table.now)), abs=1e-15) and outcome.kl <= delta
    improvement = float(table.loss(table.start) - table.loss(table.now))
    assert outcome.improvement == pytest.approx(improvement) and improvement > 0
    assert expected_return(table.world, table.now) > expected_return(table.world, table.start)
    if delta < 1e-3:  # so small that the surrogate is its tangent and the KL its parabola
        assert outcome.kl == pytest.approx(quadratic, rel=0.1)
        assert improvement == pytest.approx(outcome.predicted_improvement, rel=0.1)


@pytest.mark.parametrize(("damping", "more"), [(0.0, 0), (0.1, 0), (10.0, 1)])
def test_an_unfinished_solution_is_scaled_by_its_own_curvature(damping: float, more: int) -> None:
    """After three iterations x^T g - c x^T x is x^T F x; where the damping is nearly all of x^T g it is computed."""
    table, region = Table(), TrustRegion(1e-4, iterations=3, damping=damping)
    matrix, asked = table.fisher(), []

    def fisher(direction: torch.Tensor) -> torch.Tensor:
        asked.append(direction)
        return matrix @ direction

    outcome = search(table.gradient(), fisher, table.tried, float(table.loss(table.start)), region)
    solved = conjugate_gradient(lambda v: matrix @ v + damping * v, table.gradient(), iterations=3).products
    assert outcome.refused is None and outcome.products == len(asked) == solved + more
    step = (table.now - table.start).flatten() * 2.0**outcome.halvings
    assert 0.5 * float(step @ matrix @ step) == pytest.approx(1e-4, rel=1e-9)


def test_a_step_is_the_best_one_that_the_parabola_allows() -> None:
    """No other direction of the same quadratic KL improves the tangent of the surrogate more."""
    table, region = Table(), TrustRegion(1e-4, iterations=50, damping=0.0)
    matrix, gradient = table.fisher(), table.gradient()
    outcome = search(gradient, lambda v: matrix @ v, table.tried, float(table.loss(table.start)), region)
    draw = torch.Generator().manual_seed(0)
    others = torch.randn(200, len(gradient), generator=draw, dtype=torch.float64)
    others *= torch.sqrt(2e-4 / ((others @ matrix) * others).sum(1, keepdim=True))
    best = float((others @ gradient).abs().max())
    assert outcome.predicted_improvement * 2**outcome.halvings >= best


def test_a_step_that_nowhere_improves_is_refused() -> None:
    table, region = Table(), TrustRegion(DELTA, halvings=3)
    matrix, seen = table.fisher(), []

    def worse(displacement: torch.Tensor) -> tuple[float, float]:
        seen.append(float(displacement.norm()))
        return 1.0, 0.0

    outcome = search(table.gradient(), lambda v: matrix @ v, worse, 0.0, region)
    assert outcome.refused is not None and "none of 4 step lengths" in outcome.refused
    np.testing.assert_allclose(np.array(seen) / seen[0], [1, 0.5, 0.25, 0.125])
    assert (outcome.kl, outcome.improvement, outcome.halvings) == (0.0, 0.0, 3)
    assert outcome.metrics()["trust_region/refused"].mean == 1


@pytest.mark.parametrize("answer", [(-1.0, 1.0), (-1.0, float("nan")), (float("nan"), 0.0)])
def test_neither_a_far_step_nor_one_that_is_not_finite_is_taken(answer: tuple[float, float]) -> None:
    table = Table()
    matrix = table.fisher()
    outcome = search(table.gradient(), lambda v: matrix @ v, lambda _: answer, 0.0, TrustRegion(DELTA, halvings=2))
    assert outcome.refused is not None


def test_a_gradient_without_curvature_is_refused_untried() -> None:
    outcome = search(torch.ones(3), torch.zeros_like, lambda _: pytest.fail("tried"), 0.0, TrustRegion())
    assert outcome.refused is not None and "no curvature" in outcome.refused
    assert "trust_region/full_step_kl" not in outcome.metrics()


# On a transformer, through the learner


def policy(dtype: torch.dtype = torch.float32, seed: int = 0) -> Policy:
    made = tiny(alphabet="abcdefghij", hidden_size=16, layers=2, heads=2, context_length=64, seed=seed)
    assert made.vocabulary_size == VOCABULARY
    made.model.to(dtype)
    return made


def update(made: Policy, algorithm: Algorithm, trees: Sequence[Tree] = (), **more: Any) -> tuple[Learner, UpdateReport]:
    trees = trees or batch()
    reference = made.snapshot("start") if algorithm.needs_reference else None
    learner = Learner(made, algorithm, reference=reference, **more)
    return learner, learner.update(trees, learner.credit(trees), 1)


def chances(made: Policy, trees: Sequence[Tree]) -> torch.Tensor:
    """[N, V] log-probabilities of the vocabulary in the state of every scored token, by the stock forward pass."""
    rows = []
    for tree in trees:
        flat = tree.flat
        for token in np.flatnonzero(flat.policy):
            path, above = [], int(flat.parent[token])
            while above >= 0:
                path.append(int(flat.tokens[above]))
                above = int(flat.parent[above])
            rows.append(path[::-1])
    made.model.set_attn_implementation("eager")
    with torch.no_grad():
        logits = [made.model(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1].double() for row in rows]
    made.model.set_attn_implementation("laurel")
    return torch.log_softmax(torch.stack(logits), -1)


def surrogate(old: torch.Tensor, now: torch.Tensor, trees: Sequence[Tree], credits: Sequence[Credit]) -> float:
    """sum_t w_t rho_t A_t over all scored tokens, from scratch."""
    weights = ConstantLength(1.0)(trees, [credit.mask for credit in credits])
    tokens = np.concatenate([tree.flat.tokens[tree.flat.policy] for tree in trees])
    worth = np.concatenate([w[c.mask] * c.advantages[c.mask] for w, c in zip(weights, credits, strict=True)])
    ratio = (now - old)[torch.arange(len(tokens)), torch.from_numpy(tokens)].exp()
    return float(ratio @ torch.from_numpy(worth))


@pytest.mark.parametrize("delta", [1e-3, 1e-2, 0.1])
def test_a_step_of_a_transformer(delta: float) -> None:
    made, trees = policy(), batch()
    algorithm = trpo(maximum_kl=delta)
    credits = algorithm.credit(trees)  # type: ignore[call-arg]
    before = chances(made, trees)
    learner, report = update(made, algorithm, trees)
    after = chances(made, trees)
    measured = {name: metric.mean for name, metric in report.metrics.items()}
    kl = float((before.exp() * (before - after)).sum(1).mean())
    assert report.refused is None and report.skipped is None and learner.version == 1
    assert measured["trust_region/kl"] == pytest.approx(kl, rel=1e-3) and kl <= delta
    gained = surrogate(before, after, trees, credits) - surrogate(before, before, trees, credits)
    assert measured["trust_region/improvement"] == pytest.approx(gained, rel=1e-3, abs=1e-6) and gained > 0
    assert measured["trust_region/halvings"] <= 2
    assert measured["weights_changed"] > 0.9
    assert "learning_rate" not in measured
    if delta <= 1e-2:  # near enough for the parabola to say how far the whole step leads
        assert measured["trust_region/full_step_kl"] == pytest.approx(delta, rel=0.3)


def test_more_conjugate_gradient_goes_further_in_the_same_region() -> None:
    gains = []
    for iterations in (1, 20):
        _, report = update(policy(), trpo(iterations=iterations, damping=0.01))
        gains.append(report.metrics["trust_region/predicted_improvement"].mean)
    assert gains[1] > 1.1 * gains[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_refused_step_leaves_everything_bit_for_bit(dtype: torch.dtype) -> None:
    class Contrary:
        """Its value grows wherever its gradient says it falls."""

        corrects_reuse = True

        def __call__(self, tokens: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            moved = tokens.log_probs - tokens.old_log_probs
            return -moved * tokens.advantages + 1e6 * moved.square(), {}

    made = policy(dtype)
    before = {name: tensor.clone() for name, tensor in made.tensors().items()}
    learner, report = update(made, replace(trpo(halvings=2), objective=Contrary()))
    assert report.refused is not None and "none of 3 step lengths" in report.refused
    assert report.metrics["trust_region/refused"].mean == 1 and report.metrics["trust_region/kl"].mean == 0
    assert report.metrics["weights_changed"].sum == 0 and learner.version == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in made.tensors().items())
    assert all(p.grad is None for p in made.model.parameters())
    masters, _ = learner.state()
    assert len(masters) == (len(before) if dtype is torch.bfloat16 else 0)
    assert all(torch.equal(master, before[name.removeprefix("master.")].float()) for name, master in masters.items())


def test_sixteen_bits_move_by_their_masters() -> None:
    made = policy(torch.bfloat16)
    before = chances(made, batch())
    learner, report = update(made, trpo(maximum_kl=0.05))
    kl = float((before.exp() * (before - chances(made, batch()))).sum(1).mean())
    assert report.refused is None and learner.version == 1
    assert report.metrics["trust_region/kl"].mean == pytest.approx(kl, rel=0.1)
    assert all(master.dtype is torch.float32 for master in learner.state()[0].values())


def test_no_cut_changes_the_step() -> None:
    whole, cut = policy(), policy()
    update(whole, trpo())
    _, report = update(cut, trpo(), tokens_per_microbatch=12)
    assert report.metrics["microbatches"].sum > 4
    ours, theirs = whole.tensors(), cut.tensors()
    start = policy().tensors()
    moved = max(float((ours[name] - start[name]).abs().max()) for name in ours)
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 0.02 * moved


def test_states_that_teach_nothing_count_in_the_kl() -> None:
    taught, silent = fan("taught", [1.0, 0.0], seed=1), fan("silent", [0.0, 0.0], seed=2)
    made = policy()
    before = chances(made, [taught, silent])
    _, report = update(made, trpo(), [taught, silent])
    kl = float((before.exp() * (before - chances(made, [taught, silent]))).sum(1).mean())
    assert report.metrics["trust_region/kl"].mean == pytest.approx(kl, rel=1e-3)
    assert report.metrics["scored_tokens"].sum == len(before)


def test_a_batch_without_signal_is_skipped_not_refused() -> None:
    _, report = update(policy(), trpo(), [fan("silent", [0.0, 0.0], seed=2)])
    assert report.skipped is not None and report.refused is None


def test_a_resumed_learner_takes_the_same_step() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        made = policy(dtype)
        learner, _ = update(made, trpo(maximum_kl=0.05))
        weights = {name: tensor.clone() for name, tensor in made.tensors().items()}
        tensors, counters = learner.state()
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        again = policy(dtype, seed=3)
        again.load_tensors(weights)
        resumed = Learner(again, trpo(maximum_kl=0.05))
        resumed.load_state(tensors, counters)
        assert resumed.version == learner.version == 1
        drawn = fan("next", [1.0, 0.0, 0.5], seed=9)
        trees = [
            replace(drawn, segments=(drawn.segments[0], *(replace(s, policy_version=1) for s in drawn.segments[1:])))
        ]
        reports = [one.update(trees, one.credit(trees), 2) for one in (learner, resumed)]
        assert reports[0].metrics == reports[1].metrics
        assert all(torch.equal(again.tensors()[name], tensor) for name, tensor in made.tensors().items())


def test_regularisers_are_part_of_the_surrogate() -> None:
    _, plain = update(policy(), trpo())
    made = policy()
    before = float(entropy(made))
    _, report = update(made, trpo(entropy=50.0))  # so strong that it decides
    assert report.refused is None and float(entropy(made)) > before
    _, held = update(policy(), trpo(kl=KL(0.5, place="loss")))
    assert held.metrics["kl/reference"].mean == pytest.approx(0, abs=1e-9)
    assert plain.metrics["loss"].mean != report.metrics["loss"].mean


def entropy(made: Policy) -> torch.Tensor:
    trees = batch()
    return made.token_scores(pack(trees, [tree.flat.policy for tree in trees])).entropy.detach().mean()


def test_a_critic_goes_with_it() -> None:
    made = policy()
    algorithm = replace(ppo(), objective=Surrogate(), step=TrustRegion())
    _, report = update(made, algorithm, critic=critic_for(made))
    assert report.refused is None and report.metrics["trust_region/kl"].mean <= DELTA
    assert "critic/loss" in report.metrics


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="reads no optimiser settings"):
        Learner(policy(), trpo(), OptimiserSettings())
    with pytest.raises(ConfigurationError, match="measures its objective where a step leads"):
        replace(reinforce(), step=TrustRegion())
    assert isinstance(replace(grpo(), step=TrustRegion()).step, TrustRegion)
    for wrong in ({"maximum_kl": 0.0}, {"iterations": 0}, {"damping": -1.0}, {"halvings": -1}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            trpo(**wrong)  # type: ignore[arg-type]
