"""Fitting reward models: a known reward comes back, any split gives the same step, and a resumed fit is the same."""

from __future__ import annotations

import itertools
from fractions import Fraction
from math import log

import numpy as np
import pytest
import torch

from laurel.errors import LearnerError
from laurel.judged import comparison
from laurel.learner import OptimiserSettings, RewardLearner
from laurel.objectives import Binary, BradleyTerry, Ordinal, PlackettLuce, RewardObjective
from laurel.policy import Policy, RewardModel, answer_ends, pack, reward_model_for, tiny
from laurel.preferences import Kind, Preference
from laurel.tree import Failed, Outcome, Tree

ANSWERS = ("a", "b", "ab")
# exp(reward) of the answers to each prompt; 1 : 2 : 4 in another order.
WORLD = {"p>": (1, 2, 4), "q>": (4, 1, 2)}


def policy(seed: int = 0) -> Policy:
    return tiny(alphabet="abpq>", hidden_size=16, layers=1, heads=2, context_length=16, seed=seed)


def judged(reader: Policy, prompt: str, answers: tuple[str, ...], scores: tuple[float, ...], kind: Kind) -> Tree:
    task = Preference(f"{prompt}{scores}", prompt, answers=answers, scores=scores, kind=kind)
    return comparison(reader, task, f"{prompt}{answers}{scores}")


def pairs(reader: Policy) -> list[Tree]:
    """Every pair 15 times, won as often as Bradley-Terry says: 10 or 12 times by the better answer."""
    trees = []
    for prompt, weights in WORLD.items():
        for first, second in itertools.combinations(range(3), 2):
            wins = 15 * Fraction(weights[first], weights[first] + weights[second])
            assert wins.denominator == 1
            for copy in range(15):
                scores = (1.0, 0.0) if copy < wins else (0.0, 1.0)
                trees.append(judged(reader, prompt, (ANSWERS[first], ANSWERS[second]), scores, Kind.PAIR))
    return trees


def rankings(reader: Policy) -> list[Tree]:
    """The rankings of three answers, 105 per prompt, as often as Plackett-Luce says."""
    trees = []
    for prompt, weights in WORLD.items():
        for order in itertools.permutations(range(3)):
            chance, left = Fraction(1), Fraction(sum(weights))
            for place in order:
                chance *= weights[place] / left
                left -= weights[place]
            scores = tuple(float(2 - order.index(answer)) for answer in range(3))
            copies = 105 * chance
            assert copies.denominator == 1
            trees += [judged(reader, prompt, ANSWERS, scores, Kind.RANKING)] * int(copies)
    return trees


def thumbs(reader: Policy) -> list[Tree]:
    """30 thumbs per answer, up with probability w / (w + 2) = sigma(log w - log 2)."""
    trees = []
    for prompt, weights in WORLD.items():
        for answer, weight in zip(ANSWERS, weights, strict=True):
            ups = 30 * Fraction(weight, weight + 2)
            trees += [judged(reader, prompt, (answer,), (float(n < ups),), Kind.THUMB) for n in range(30)]
    return trees


def rewards(model: RewardModel, trees: list[Tree]) -> np.ndarray:
    packed = pack(trees, [np.zeros(len(tree.flat), np.bool_) for tree in trees])
    with torch.no_grad():
        return model.rewards(packed, answer_ends(trees, [tree.leaves for tree in trees])).numpy()


def fitted(objective: RewardObjective, trees: list[Tree], *, steps: int = 150, rate: float = 1e-2) -> RewardLearner:
    settings = OptimiserSettings(learning_rate=rate, schedule="linear", maximum_gradient_norm=None)
    made = RewardLearner(reward_model_for(policy()), objective, settings, total_steps=steps)
    for _ in range(steps):
        made.update(trees)
    return made


@pytest.mark.parametrize(("objective", "data"), [(BradleyTerry(), pairs), (PlackettLuce(), rankings)])
def test_comparisons_give_a_known_reward_back_up_to_a_constant(objective: RewardObjective, data: object) -> None:
    trees = data(policy())  # type: ignore[operator]
    made = fitted(objective, trees)
    for prompt, weights in WORLD.items():
        found = rewards(made.model, [judged(policy(), prompt, ANSWERS, (2.0, 1.0, 0.0), Kind.RANKING)])
        wanted = np.log(weights)
        np.testing.assert_allclose(found - found.mean(), wanted - wanted.mean(), atol=0.02)
    report = made.judge(trees)
    # Of 15 comparisons, 10, 10 and 12 go to the better one; the model says so, and is right about how often.
    assert report.accuracy.mean == pytest.approx(32 / 45, abs=1e-6)
    assert report.calibration.error < 0.01
    assert sum(report.calibration.counts) == report.accuracy.count


def test_thumbs_give_the_reward_back_up_to_the_cutpoint() -> None:
    trees = thumbs(policy())
    made = fitted(Binary(), trees)
    for prompt, weights in WORLD.items():
        found = rewards(made.model, [judged(policy(), prompt, ANSWERS, (2.0, 1.0, 0.0), Kind.RANKING)])
        np.testing.assert_allclose(found - float(made.own.detach()[0]), np.log(weights) - log(2), atol=0.02)
    assert made.judge(trees).calibration.error < 0.01


def test_ties_are_fitted_as_often_as_they_occur() -> None:
    trees = [judged(policy(), "p>", ("a", "b"), (0.5, 0.5), Kind.PAIR)] * 4
    trees += [judged(policy(), "p>", ("a", "b"), scores, Kind.PAIR) for scores in ((1.0, 0.0), (0.0, 1.0))]
    made = fitted(BradleyTerry(ties=True), trees, rate=5e-2)
    # Both win equally often, and four times as often neither: nu = 4.
    assert float(made.own.detach()[0]) == pytest.approx(log(4), abs=0.02)


def test_the_first_loss_is_that_of_no_opinion() -> None:
    made = RewardLearner(reward_model_for(policy()), BradleyTerry())
    assert made.judge(pairs(policy())).loss.mean == pytest.approx(log(2))
    ordinal = RewardLearner(reward_model_for(policy()), Ordinal(1, 2))
    rated = [judged(policy(), "p>", ("a", "b"), (1.0, 2.0), Kind.RATING)]
    assert ordinal.update(rated)["reward_model/loss"].mean == pytest.approx(log(2))


@pytest.mark.parametrize("budget", [1, 40, 10_000])
def test_no_split_changes_the_step(budget: int) -> None:
    trees = rankings(policy())[::20]
    made = []
    for tokens in (10_000, budget):
        optimiser = OptimiserSettings(learning_rate=1e-2, betas=(0.0, 0.0), epsilon=1.0)
        learner = RewardLearner(reward_model_for(policy()), BradleyTerry(), optimiser, tokens_per_microbatch=tokens)
        for _ in range(3):
            learner.update(trees)
        made.append(learner.model.tensors())
    for name, tensor in made[0].items():
        torch.testing.assert_close(made[1][name], tensor, rtol=0, atol=1e-6)


def test_a_resumed_fit_is_the_same_and_the_policy_is_not_touched() -> None:
    start = policy()
    before = {name: tensor.clone() for name, tensor in start.tensors().items()}
    trees = thumbs(start)[::5]

    def learner() -> RewardLearner:
        return RewardLearner(reward_model_for(start), Binary(), OptimiserSettings(learning_rate=1e-2))

    whole, first, second = learner(), learner(), learner()
    for _ in range(4):
        whole.update(trees)
    for _ in range(2):
        first.update(trees)
    tensors, counters = first.state()
    second.load_state({name: tensor.clone() for name, tensor in tensors.items()}, counters)
    for _ in range(2):
        second.update(trees)
    for name, tensor in whole.state()[0].items():
        assert torch.equal(second.state()[0][name], tensor), name
    assert all(torch.equal(start.tensors()[name], tensor) for name, tensor in before.items())
    with pytest.raises(LearnerError, match="another objective"):
        RewardLearner(reward_model_for(start), BradleyTerry()).load_state(tensors, counters)


def test_a_trunk_that_does_not_learn_stays() -> None:
    model = reward_model_for(policy(), learns_trunk=False)
    assert list(model.tensors()) == ["reward_head.weight"]
    before = {name: tensor.clone() for name, tensor in model.trunk.tensors().items()}
    RewardLearner(model, BradleyTerry(), OptimiserSettings(learning_rate=1e-2)).update(pairs(policy())[:1])
    assert all(torch.equal(model.trunk.tensors()[name], tensor) for name, tensor in before.items())
    assert model.head.abs().max() > 0


def test_prompts_that_say_nothing_are_counted() -> None:
    tied = judged(policy(), "p>", ("a", "b"), (0.5, 0.5), Kind.PAIR)
    made = RewardLearner(reward_model_for(policy()), BradleyTerry())
    assert made.update([tied])["reward_model/without_signal"].mean == 1.0
    assert made.state()[1]["left_out_steps"] == 1
    metrics = made.update([tied, pairs(policy())[0]])
    assert metrics["reward_model/without_signal"].mean == 0.5 and metrics["reward_model/loss"].count == 1
    with pytest.raises(LearnerError, match="no judgement"):
        made.judge([tied])


def test_an_answer_without_a_score_takes_no_part() -> None:
    whole = judged(policy(), "p>", ("a", "b", "ab"), (2.0, 1.0, 0.0), Kind.RANKING)
    leaf = whole.leaves[1]
    outcome = whole.segments[leaf].outcome
    assert outcome is not None
    broken = whole.with_outcomes({leaf: Outcome(outcome.ending, outcome.stop_reason, Failed("nobody looked"))})
    assert RewardLearner(reward_model_for(policy()), BradleyTerry()).judge([broken]).accuracy.count == 1


def test_errors_name_the_task() -> None:
    rated = judged(policy(), "p>", ("a", "b"), (1.0, 7.0), Kind.RATING)
    with pytest.raises(LearnerError, match=r"Task p>\(1.0, 7.0\): 7.0 is no rating"):
        RewardLearner(reward_model_for(policy()), Ordinal(1, 5)).update([rated])


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    made = RewardLearner(reward_model_for(policy()), BradleyTerry())
    with torch.no_grad():
        made.model.head.fill_(torch.inf)
    before = {name: tensor.clone() for name, tensor in made.model.tensors().items()}
    with pytest.raises(LearnerError, match="not finite, among the tasks p>"):
        made.update(pairs(policy())[:1])
    assert all(torch.equal(made.model.tensors()[name], tensor) for name, tensor in before.items())


def test_held_out_answers_are_judged_as_a_noisy_teacher_would() -> None:
    """r(y) = 1.5 per "a" more than "b"; the teacher draws each label, so that no model can be right every time."""
    reader = tiny(alphabet="abpq>", hidden_size=32, layers=1, heads=2, context_length=16, seed=0)
    draw = np.random.default_rng(0)
    answers = ["".join(letters) for letters in itertools.product("ab", repeat=4)]
    trees, ceiling = [], []
    for _ in range(900):
        first, second = draw.choice(answers, 2, replace=False)
        lead = 1.5 * (first.count("a") - second.count("a"))
        wins = float(draw.random() < 1 / (1 + np.exp(-lead)))
        trees.append(judged(reader, "p>", (first, second), (wins, 1 - wins), Kind.PAIR))
        ceiling.append(1 / (1 + np.exp(-abs(lead))))
    settings = OptimiserSettings(learning_rate=5e-3, schedule="linear")
    made = RewardLearner(reward_model_for(reader), BradleyTerry(), settings, total_steps=60)
    for step in range(60):
        made.update([trees[index % 600] for index in range(100 * step, 100 * step + 100)])
    report = made.judge(trees[600:])
    assert report.accuracy.count == 300
    assert report.accuracy.mean == pytest.approx(np.mean(ceiling[600:]), abs=0.06)
    assert report.calibration.error < 0.08
