"""Cutting turns into steps: where, with which texts, and that nothing else changes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from laurel.algorithms.steps import in_steps
from laurel.tree import Ending, Outcome, Score, Segment, Source, Tree

WORDS = ["a", "b", "\n", "c\n", "\n\n", "\nd", ""]
"""What token ids say; some hold more than a separator, the last is special."""


def decode(tokens) -> str:
    return "".join(WORDS[token] for token in tokens)


def turn(*tokens: int) -> Tree:
    outcome = Outcome(Ending.TERMINATED, "stop", Score(1.0))
    said = Segment(Source.POLICY, list(tokens), 0, text=decode(tokens), outcome=outcome, rollout_id="t.0",
                   sampler_log_probs=np.full(len(tokens), -1.0))  # fmt: skip
    return Tree("t", "t", (Segment(Source.PROMPT, [2, 2], -1, text="\n\n"), said))


def cut(*tokens: int) -> list[str]:
    return [segment.text for segment in in_steps(turn(*tokens), "\n", decode).segments[1:]]


def test_a_step_ends_with_its_separator():
    assert cut(0, 2, 1, 0, 2, 1) == ["a\n", "ba\n", "b"]
    assert cut(0, 2, 1, 2) == ["a\n", "b\n"], "nothing follows the last separator"
    assert cut(0, 1) == ["ab"]
    assert cut(2, 0) == ["\n", "a"]


def test_a_token_that_holds_more_is_not_cut():
    assert cut(0, 4, 1) == ["a\n\n", "b"]
    assert cut(0, 5, 1) == ["a\nd", "b"]
    assert cut(0, 3, 6) == ["ac\n", ""], "the end of the turn is a step of its own"


def test_a_text_that_was_cut_before_a_stop_string_stays_so():
    tree = turn(0, 2, 1, 0)
    short = Tree("t", "t", (tree.segments[0], type(tree.segments[1])(**{**vars(tree.segments[1]), "text": "a\nb"})))
    assert [s.text for s in in_steps(short, "\n", decode).segments[1:]] == ["a\n", "b"]


@given(st.lists(st.integers(0, len(WORDS) - 1), min_size=1, max_size=12))
def test_nothing_but_the_segments_changes(tokens):
    whole = turn(*tokens)
    parts = in_steps(whole, "\n", decode)
    for name in ("tokens", "source", "position", "parent", "policy", "sampler_log_probs"):
        np.testing.assert_array_equal(getattr(parts.flat, name), getattr(whole.flat, name))
    assert parts.rollouts[0].text == whole.rollouts[0].text
    assert parts.rollouts[0].reward == 1.0 and parts.rollouts[0].id == "t.0"
