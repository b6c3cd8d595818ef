"""What reward models are fitted by: prompts count the same, scores are read as their kind, predictions by hand."""

from __future__ import annotations

from math import log

import pytest
import torch

from laurel.errors import ConfigurationError, LearnerError
from laurel.objectives import (
    BetweenLevels,
    Binary,
    BradleyTerry,
    Ordinal,
    PlackettLuce,
    RewardBatch,
    RewardObjective,
)


def batch(rewards: list[float], scores: list[float], prompts: list[int]) -> RewardBatch:
    return RewardBatch(
        torch.tensor(rewards, dtype=torch.float64),
        torch.tensor(scores, dtype=torch.float64),
        torch.tensor(prompts),
        max(prompts) + 1,
    )


def losses(objective: RewardObjective, of: RewardBatch) -> list[float]:
    values: list[float] = objective.losses(of, objective.start()).tolist()
    return values


def test_bradley_terry_averages_the_pairs_of_a_prompt() -> None:
    of = batch([0, log(3), 0, 0, 0], [1, 0, 2, 1, 0], [0, 0, 1, 1, 1])
    assert losses(BradleyTerry(), of) == pytest.approx([log(4), log(2)])


def test_ties_count_where_they_are_asked_for() -> None:
    of = batch([0, 0, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1])
    assert losses(BradleyTerry(), of) == pytest.approx([0, log(2)])
    assert losses(BradleyTerry(ties=True), of) == pytest.approx([log(3), log(3)])
    assert not BradleyTerry().teaches([1, 1]) and BradleyTerry(ties=True).teaches([1, 1])
    assert not BradleyTerry(ties=True).teaches([1])


def test_plackett_luce_sums_the_choices_of_a_prompt() -> None:
    of = batch([0, log(3), 0, 0, 0], [1, 0, 2, 1, 0], [0, 0, 1, 1, 1])
    assert losses(PlackettLuce(), of) == pytest.approx([log(4), log(6)])
    assert not PlackettLuce().teaches([1, 1])


def test_ordinal_reads_ratings() -> None:
    own = torch.tensor([-log(3), log(2 * log(3))], dtype=torch.float64)  # cutpoints -log 3 and log 3
    of = batch([0, 0, 0], [3, 4, 5], [0, 1, 1])
    objective = Ordinal(3, 5)
    assert objective.losses(of, own).tolist() == pytest.approx([log(4), (log(2) + log(4)) / 2])
    predicted = objective.predictions(of, own)
    assert predicted.confidence.tolist() == pytest.approx([0.5] * 3) and predicted.correct.tolist() == [0, 1, 0]


def test_binary_reads_thumbs() -> None:
    of = batch([0, log(3), -log(3)], [1, 0, 0], [0, 1, 2])
    assert losses(Binary(), of) == pytest.approx([log(2), log(4), log(4 / 3)])
    predicted = Binary().predictions(of, Binary().start())
    assert predicted.confidence.tolist() == pytest.approx([0.5, 0.75, 0.75])
    assert predicted.correct.tolist() == [0.5, 0, 1]


@pytest.mark.parametrize("objective", [BradleyTerry(), BradleyTerry(ties=True), PlackettLuce()])
def test_comparisons_predict_pairs(objective: RewardObjective) -> None:
    predicted = objective.predictions(batch([log(3), 0, log(9)], [2, 1, 0], [0, 0, 0]), objective.start())
    assert predicted.confidence.tolist() == pytest.approx([0.75, 0.75, 0.9])
    assert predicted.correct.tolist() == [1, 0, 0]


def test_scores_of_another_kind_are_refused() -> None:
    with pytest.raises(LearnerError, match="6 is no rating from 1 to 5"):
        Ordinal(1, 5).teaches([1, 6])
    with pytest.raises(BetweenLevels, match=r"2\.5 lies between two ratings, which are whole numbers from 1 to 5"):
        Ordinal(1, 5).teaches([2.5])
    with pytest.raises(LearnerError, match="2 is no thumb"):
        Binary().teaches([2])
    with pytest.raises(ConfigurationError, match="tell nothing apart"):
        Ordinal(2, 2)
