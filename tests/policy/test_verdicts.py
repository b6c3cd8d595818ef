"""Verdicts against row-by-row scores; what questions share is computed once, and nothing else is shared."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import laurel.policy.verdicts as module
from laurel.errors import ConfigurationError
from laurel.policy import Policy, pack, tiny
from laurel.policy.verdicts import Verdicts, asked_trees, question_template
from laurel.tree import Failed, Segment, Source, Tree

ALPHABET = "abc yesno10?:\n"
QUESTIONS = ["ab?", "abc?", "ab", "c?", "ab?", "a", "ab? c?"]


@pytest.fixture(scope="module")
def judge() -> Policy:
    return tiny(alphabet=ALPHABET, hidden_size=32, layers=2, heads=4, context_length=24, initial_scale=0.3, seed=1)


def row_by_row(judge: Policy, question: str, verdicts: Sequence[str], *, ended: bool) -> np.ndarray:
    """log P of each verdict alone below its question, normalised over them."""
    totals = []
    for verdict in verdicts:
        tokens = judge.encode_answer(verdict)
        answer = Segment(Source.POLICY, tokens if ended else tokens[:-1], 0)
        row = Tree("row", "row", (Segment(Source.PROMPT, judge.encode_prompt(question), -1), answer))
        with torch.no_grad():
            totals.append(float(judge.token_scores(pack([row], [row.flat.policy])).log_probs.double().sum()))
    return np.array(totals) - np.logaddexp.reduce(totals)


@pytest.mark.parametrize("most", [4096, 9])
def test_verdicts_are_those_of_one_row_each(judge: Policy, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOKENS_PER_PASS", most)
    for verdicts, ended in ((("yes", "no"), False), (("1", "0", "10"), True)):
        said = Verdicts(judge, verdicts, conversation=False).ask(QUESTIONS)
        for question, row in zip(QUESTIONS, said, strict=True):
            assert not isinstance(row, Failed)
            np.testing.assert_allclose(row, row_by_row(judge, question, verdicts, ended=ended), atol=1e-5)
            assert np.exp(row).sum() == pytest.approx(1)


def test_a_snapshot_answers_as_the_policy_was(judge: Policy) -> None:
    moved = tiny(alphabet=ALPHABET, hidden_size=32, layers=2, heads=4, context_length=24, initial_scale=0.3, seed=1)
    asks = Verdicts(moved, ("yes", "no"), conversation=False, weights=moved.snapshot("start"))
    with torch.no_grad():
        moved.model.get_input_embeddings().weight.mul_(2)
    same = Verdicts(judge, ("yes", "no"), conversation=False).ask(["ab?"])
    np.testing.assert_array_equal(asks.ask(["ab?"])[0], same[0])


def test_what_cannot_be_asked_fails_alone(judge: Policy) -> None:
    long, unknown, fine = Verdicts(judge, ("yes", "no"), conversation=False).ask(["a" * 22, "z?", "ab?"])
    assert isinstance(long, Failed) and "25 tokens" in long.reason and "holds 24" in long.reason
    assert isinstance(unknown, Failed) and "cannot read" in unknown.reason
    np.testing.assert_allclose(fine, row_by_row(judge, "ab?", ("yes", "no"), ended=False), atol=1e-5)


def test_verdicts_and_questions_that_say_nothing_are_refused(judge: Policy) -> None:
    with pytest.raises(ConfigurationError, match="'no' and 'no' as the same tokens"):
        Verdicts(judge, ("yes", "no", "no"), conversation=False)
    with pytest.raises(ConfigurationError, match=r"must name \{answer\}"):
        question_template("{prompt}?", may=("prompt",), must=("answer",))


paths_of_tokens = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=9)


@settings(max_examples=60, deadline=None)
@given(paths_of_tokens)
def test_every_question_is_a_path_and_no_beginning_stands_twice(drawn: list[list[int]]) -> None:
    paths = [np.array(path) for path in sorted(drawn)]
    trees, ends = asked_trees(paths, [np.array([7]), np.array([8, 9])])
    places = [
        np.concatenate([tree.segments[above].tokens for above in tree.path(segment.parent)]).tolist()
        for tree in trees
        for segment in tree.segments
        if segment.source is Source.POLICY
    ][::2]
    assert [places[end] for end in ends] == sorted(drawn)
    beginnings = {tuple(path[:length]) for path in drawn for length in range(1, len(path) + 1)}
    distinct = {tuple(path) for path in drawn}
    assert sum(len(tree.flat) for tree in trees) == len(beginnings) + 3 * len(distinct)
