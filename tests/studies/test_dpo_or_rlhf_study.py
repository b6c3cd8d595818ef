"""The study of DPO and RLHF: what its classes can say, and each of its findings on one start."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from laurel.theory import bradley_terry, tilted, total_variation
from studies.dpo_or_rlhf import (
    BETA,
    WORDS,
    by_tokens,
    classes,
    fitted,
    gain,
    nearly_certain,
    policies,
    under_coverage,
    with_labels,
    without_bradley_terry,
    world,
)


def test_log_ratios_of_tokens_are_those_of_a_policy() -> None:
    """At 0 nothing has moved; anywhere the reference times their exponential is a distribution."""
    reference, _ = world(0)
    size, says = by_tokens(reference)
    assert size == 3 * (1 + 3 + 9)
    assert float(says(torch.zeros(size, dtype=torch.float64)).abs().max()) < 1e-14
    moved = says(torch.from_numpy(np.random.default_rng(0).normal(size=size)))
    assert float(reference @ np.exp(np.asarray(moved))) == pytest.approx(1, abs=1e-12)
    assert {name: size for name, (size, _) in classes(reference).items()} == {
        "answers": 27,
        "tokens": 39,
        "features": 9,
    }


def test_the_gain_is_0_at_the_reference_and_1_at_the_best() -> None:
    reference, rewards = world(1)
    assert gain(reference, reference, rewards) == pytest.approx(0, abs=1e-12)
    assert gain(tilted(reference, rewards, BETA), reference, rewards) == pytest.approx(1)


def test_one_class_one_answer() -> None:
    """With every pair, without, and with noise: in one class both are the same policy."""
    reference, rewards = world(2)
    wins = bradley_terry(rewards)
    np.fill_diagonal(wins, 0)
    made = policies(reference, wins)
    assert total_variation(made["DPO, answers"], made["RLHF, answers"]) < 1e-6
    size, says = classes(reference)["features"]
    direct = tilted(reference, fitted(size, says, wins, BETA), 1.0)
    assert total_variation(direct, made["RLHF, features"]) < 1e-6
    assert min(gain(policy, reference, rewards) for policy in made.values()) > 0.95
    assert under_coverage(7, 2)["apart"] < 1e-6 and with_labels(30, 2)["apart"] < 1e-6
    assert without_bradley_terry(1.5, 2)["apart"] < 1e-8


def test_without_coverage_only_what_is_known_of_others_helps() -> None:
    found = under_coverage(10, 0)
    assert found["gain"]["RLHF, features"] > found["gain"]["DPO, answers"] + 0.1
    unseen = found["mass on answers that nobody compared"]
    assert abs(unseen["RLHF, features"] - unseen["best"]) < abs(unseen["DPO, answers"] - unseen["best"])
    assert len(WORDS) == 27


def test_certain_preferences_take_all_unless_something_else_holds() -> None:
    found = nearly_certain(1e-4, 0)
    assert found["DPO"] > 0.99 and found["RLHF"] > 0.99 and found["apart"] < 1e-8
    held = ("IPO", "DPO, labels smoothed by 0.1", "RLHF, rewards clipped to their true range")
    assert max(found[name] for name in held) < 0.9
