"""Best-of-n by hand, against listing every choice, and its KL against the exact one."""

from __future__ import annotations

import itertools
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.best_of import best_of_kl, best_of_weights, expected_best
from laurel.errors import ConfigurationError


def test_by_hand() -> None:
    np.testing.assert_allclose(best_of_weights(3, 2), [0, 1 / 3, 2 / 3])
    assert expected_best([1, 2, 3], [5, 1, 0], 2) == pytest.approx(1 / 3)
    assert best_of_kl(1) == 0
    assert best_of_kl(2) == pytest.approx(log(2) - 0.5)


small = st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), min_size=1, max_size=6)


@given(small, st.data())
def test_every_choice_listed(answers: list[tuple[int, int]], data: st.DataObject) -> None:
    """Answers of equal proxy reward share the choice."""
    n = data.draw(st.integers(1, len(answers)))
    proxy, values = zip(*answers, strict=True)
    worth = []
    for chosen in itertools.combinations(range(len(answers)), n):
        best = max(proxy[place] for place in chosen)
        # Which of the equal ones is drawn depends on all that could have been: each is as likely.
        worth.append(np.mean([values[place] for place in range(len(answers)) if proxy[place] == best]))
    assert expected_best(proxy, values, n) == pytest.approx(np.mean(worth))


@given(st.integers(1, 40), st.data())
def test_weights_are_a_distribution(count: int, data: st.DataObject) -> None:
    weights = best_of_weights(count, data.draw(st.integers(1, count)))
    assert weights.sum() == pytest.approx(1) and (np.diff(weights) >= -1e-12).all()


@pytest.mark.parametrize("n", [1, 2, 4, 16])
def test_the_kl_is_that_of_many_answers_without_ties(n: int) -> None:
    """P(the i-th of m equally likely answers is best of n drawn with replacement) = (i^n - (i-1)^n) / m^n."""
    m = 20000
    i = np.arange(1, m + 1) / m
    chosen = i**n - (i - 1 / m) ** n
    exact = float((chosen * np.log(chosen * m)).sum())
    assert best_of_kl(n) == pytest.approx(exact, abs=1e-3)
    few = np.arange(1, 4) / 3
    coarse = few**n - (few - 1 / 3) ** n
    assert float((coarse * np.log(coarse * 3)).sum()) <= best_of_kl(n) + 1e-12  # with few answers it is a bound


def test_what_cannot_be_told_is_refused() -> None:
    for wrong in (lambda: best_of_kl(0), lambda: expected_best([1.0], [1.0], 2)):
        with pytest.raises(ConfigurationError):
            wrong()
