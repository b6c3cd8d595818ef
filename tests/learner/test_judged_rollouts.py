"""How a policy does on judged answers that it does not learn from: by hand, under any split, and without a trace."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from learner_trees import dialogue, fan
from test_rollout_objectives import Counting, judged, learner_of, policy, row_log_prob, thumbs

from laurel.algorithms import Algorithm, dpo, grpo, ipo, kto, orpo, simpo
from laurel.errors import LearnerError
from laurel.objectives import dpo_loss, ipo_loss, kto_loss, odds_ratio_loss, simpo_loss
from laurel.tree import FloatArray, Tree

Expected = tuple[FloatArray, Callable[[int, int], float]]

PAIRS = [
    judged("one", [1.0, 0.0], seed=1),
    judged("tie", [0.5, 0.5], seed=2),
    judged("two", [0.0, 1.0], seed=3),
    judged("three", [0.0, 1.0], seed=1),
]


def of_pair(rewards: FloatArray, read: FloatArray, loss: Callable[..., torch.Tensor], **settings: float) -> Expected:
    """The rewards of two answers, and the loss by which of them is the better one."""
    values = torch.from_numpy(read)
    return rewards, lambda best, worst: loss(values[best], values[worst], **settings).item()


EXPECTED: dict[str, Callable[[FloatArray, FloatArray, FloatArray], Expected]] = {
    "dpo": lambda said, ref, n: of_pair(0.3 * (said - ref), said - ref, dpo_loss, beta=0.3),
    "ipo": lambda said, ref, n: of_pair(0.1 * (said - ref) / n, (said - ref) / n, ipo_loss, tau=0.1),
    "orpo": lambda said, ref, n: of_pair(said / n, said / n, odds_ratio_loss, weight=0.1),
    "simpo": lambda said, ref, n: of_pair(2.0 * said / n, said / n, simpo_loss, beta=2.0, margin=0.5),
}


@torch.no_grad()
def by_row(tree: Tree) -> tuple[list[float], list[float], list[int]]:
    """log pi, log ref and the number of tokens of every answer, each in a row of its own through the stock model."""
    made, other = policy(), policy(seed=1)
    said = [row_log_prob(made, tree, leaf).item() for leaf in tree.leaves]
    compared = [row_log_prob(other, tree, leaf).item() for leaf in tree.leaves]
    return said, compared, [len(tree.segments[leaf]) for leaf in tree.leaves]


@pytest.mark.parametrize("algorithm", [dpo(beta=0.3), ipo(), orpo(), simpo(margin=0.5)], ids=lambda a: a.name)
def test_every_method_judges_by_its_own_reward(algorithm: Algorithm) -> None:
    found = learner_of(algorithm).judge(PAIRS)
    rewards, margins, losses = {}, [], []
    for tree in (tree for tree in PAIRS if tree.id != "tie"):
        own, loss = EXPECTED[algorithm.name](*map(np.array, by_row(tree)))
        best = int(np.argmax([rollout.reward for rollout in tree.rollouts]))
        rewards |= {f"{tree.id}.{place}": reward for place, reward in enumerate(own)}
        margins.append(own[best] - own[1 - best])
        losses.append(loss(best, 1 - best))
    assert found.rewards == pytest.approx(rewards, rel=1e-10)
    assert found.by_prompt["preference/margin"] == pytest.approx(margins, rel=1e-10)
    assert found.by_prompt["preference/accuracy"].tolist() == [float(margin > 0) for margin in margins]
    assert set(np.sign(margins)) == {1.0, -1.0}, "a test in which everything is right sees less"
    assert found.by_prompt["loss"] == pytest.approx(losses, rel=1e-10)


def test_kto_judges_answers_by_their_side_of_the_divergence() -> None:
    trees = thumbs()
    found = learner_of(kto(beta=0.2)).judge(trees)
    ratios = {}
    for tree in trees:
        said, compared, _ = by_row(tree)
        names = [rollout.id for rollout in tree.rollouts]
        ratios[tree.id] = dict(zip(names, np.array(said) - compared, strict=True))
    other = {tree.id: list(ratios[tree.id].values())[-1] for tree in trees}
    z = max(0.0, float(np.mean(list(other.values()))))
    assert z > 0
    good = {"up": [True], "down": [False], "both": [True, False], "up too": [True]}
    for place, tree in enumerate(trees):
        own = np.array(list(ratios[tree.id].values())[:-1])
        signs = np.where(good[tree.id], 1.0, -1.0)
        margins = 0.2 * signs * (own - z)
        divergence = torch.tensor(z, dtype=torch.float64)
        loss = kto_loss(torch.tensor(own), torch.tensor(good[tree.id]), divergence, beta=0.2).mean()
        assert found.by_prompt["preference/margin"][place] == pytest.approx(margins.mean(), rel=1e-10)
        assert found.by_prompt["preference/accuracy"][place] == np.mean(margins > 0)
        assert found.by_prompt["loss"][place] == pytest.approx(loss.item(), rel=1e-10)
    assert not any(name.endswith("mismatched") for name in found.rewards) and len(found.rewards) == 5


@pytest.mark.parametrize("budget", [12, 1])
@pytest.mark.parametrize("name", ["dpo", "kto"])
def test_no_split_changes_what_is_said(name: str, budget: int) -> None:
    algorithm = {"dpo": dpo(), "kto": kto()}[name]
    wide = [fan("wide", list(np.linspace(0, 1, 6)), seed=7), dialogue("talk", seed=2), *PAIRS]
    trees = thumbs() if name == "kto" else wide
    whole, cut = learner_of(algorithm).judge(trees), learner_of(algorithm, budget=budget).judge(trees)
    assert cut.rewards == pytest.approx(dict(whole.rewards), rel=1e-10)
    for measure, values in whole.by_prompt.items():
        np.testing.assert_allclose(np.sort(cut.by_prompt[measure]), np.sort(values), rtol=1e-10)  # NaN comes last


def test_it_leaves_no_trace_but_what_the_reference_said(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, untouched = learner_of(dpo()), learner_of(dpo())
    count = Counting(learner, monkeypatch)
    first = learner.judge(PAIRS)
    again = learner.judge(PAIRS)
    assert count.passes == 1 and learner.version == 0
    assert again.rewards == pytest.approx(dict(first.rewards), rel=1e-12)
    learner.update([PAIRS[0]], dpo().credit([PAIRS[0]]), 1)  # type: ignore[call-arg,arg-type]
    untouched.update([PAIRS[0]], dpo().credit([PAIRS[0]]), 1)  # type: ignore[call-arg,arg-type]
    for name, value in learner.policy.trainable_parameters().items():
        assert torch.equal(value, untouched.policy.trainable_parameters()[name])
    assert learner.judge(PAIRS).rewards["one.0"] > first.rewards["one.0"] + 1e-3


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(LearnerError, match="no judgement to compare with"):
        learner_of(dpo()).judge([PAIRS[1]])
    with pytest.raises(LearnerError, match="'grpo' compares no answers"):
        learner_of(grpo()).judge(PAIRS)
