"""Similarities of texts, by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.rewards.graders.similarity import METRICS, REFUSED, longest_common_subsequence

MAT, RED = "the cat sat on the mat", "the cat sat on the red mat"


def test_every_metric_of_the_schema_is_there_or_refused_for_a_reason():
    schema = ["cosine", "fuzzy_match", "bleu", "gleu", "meteor", *(f"rouge_{n}" for n in (1, 2, 3, 4, 5, "l"))]
    assert sorted([*METRICS, *REFUSED]) == sorted(schema)


@pytest.mark.parametrize(
    ("metric", "text", "reference", "value"),
    [
        # i, t, t, n are common to both in this order: 2 * 4 / (6 + 7)
        ("fuzzy_match", "kitten", "sitting", 8 / 13),
        ("fuzzy_match", "abc", "", 0.0),
        ("fuzzy_match", "", "", 1.0),
        # runs of 1, 2, 3, 4 words: 6 of 6, 4 of 5, 3 of 4, 2 of 3; 6 words against 7
        ("bleu", MAT, RED, math.exp(1 - 7 / 6) * (6 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25),
        # 6 of 7, 4 of 6, 3 of 5, 2 of 4, and no price for being longer
        ("bleu", RED, MAT, (6 / 7 * 4 / 6 * 3 / 5 * 2 / 4) ** 0.25),
        ("bleu", "the cat sat", "the cat sat", 0.0),  # no run of four words
        ("bleu", "the the the the", "the cat sat on", 0.0),
        ("gleu", MAT, RED, 15 / 22),
        ("gleu", RED, MAT, 15 / 22),
        ("gleu", "the the", "the cat", 1 / 3),  # "the" counts once; 2 + 1 runs on each side
        ("gleu", "", "", 0.0),
        ("rouge_1", MAT, RED, 12 / 13),
        ("rouge_2", MAT, RED, 8 / 11),
        ("rouge_3", MAT, RED, 6 / 9),
        ("rouge_4", MAT, RED, 4 / 7),
        ("rouge_5", MAT, RED, 2 / 5),
        ("rouge_1", "The CAT!", "the cat", 1.0),
        ("bleu", "The cat sat on", "the cat sat on", 0.0),  # letters keep their case: no run of four
        ("rouge_l", "police kill the gunman", "police killed the gunman", 6 / 8),
        ("rouge_l", "the gunman kill police", "police killed the gunman", 4 / 8),
        ("rouge_l", "", "police", 0.0),
    ],
)
def test_by_hand(metric, text, reference, value):
    assert METRICS[metric](text, reference) == pytest.approx(value, abs=1e-12)


def slow(one, other):
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@given(st.text("abcd", max_size=40), st.text("abcd", max_size=40))
def test_the_longest_common_subsequence_is_that_of_the_table(one, other):
    assert longest_common_subsequence(one, other) == slow(one, other)


@given(st.text("ab c.", max_size=30), st.text("ab c.", max_size=30), st.sampled_from(sorted(METRICS)))
def test_a_similarity_lies_between_0_and_1(one, other, metric):
    assert 0 <= METRICS[metric](one, other) <= 1 + 1e-12
    if metric != "bleu":
        assert METRICS[metric](one, other) == pytest.approx(METRICS[metric](other, one))
