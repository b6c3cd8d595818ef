"""Controlled English is read exactly, statements are compared by names and by truth, and the chain says what holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from second_checker import tautology

from laurel.errors import FormalError
from laurel.formal import (
    Attempt,
    equivalent,
    grammar,
    in_english,
    prove,
    read_english,
    read_statement,
    same_up_to_names,
)
from laurel.formal.meaning import truth_table

SYSTEM = grammar("propositional")

formulas = st.recursive(
    st.sampled_from("pqr").map(lambda name: (name,)),
    lambda inner: (
        inner.map(lambda one: ("wn", *one)) | st.tuples(inner, inner).map(lambda two: ("wi", *two[0], *two[1]))
    ),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("if p then (if q then p)", "CpCqp"),
        ("If P then (if Q then P)", "CpCqp"),
        ("p implies q", "Cpq"),
        ("p whenever q", "Cqp"),
        ("not p", "Np"),
        ("not not p implies q", "CNNpq"),
        ("not (p implies q)", "NCpq"),
        ("if not p then not q", "CNpNq"),
        ("((p))", "p"),
        ("if (p implies q) then (q whenever p)", "CCpqCpq"),
    ],
)
def test_english_by_hand(text: str, formula: str):
    assert SYSTEM.text(read_english(SYSTEM, text)) == formula


@pytest.mark.parametrize(
    "text",
    [
        "",
        "p q",
        "if p then if q then p",  # who closes what is not said
        "p implies q implies r",
        "if p then q implies r",
        "p implies",
        "then p",
        "(p",
        "p)",
        "not",
        "()",
        "it rains",
        "if p then (if q then p) or p",
        "p " * 3000,
    ],
)
def test_what_is_no_sentence_is_refused(text: str):
    with pytest.raises(FormalError, match="The statement") as caught:
        read_english(SYSTEM, text)
    assert caught.value.hint


@given(formulas, st.lists(st.integers(0, 2), min_size=8, max_size=8))
def test_what_is_said_reads_as_it_was_meant(term, ways: list[int]):
    said = in_english(SYSTEM, term, lambda count: ways.pop() % count)
    assert read_english(SYSTEM, said) == term


def test_there_is_no_english_for_what_the_database_cannot_say():
    with pytest.raises(FormalError, match="no syntax axiom 'wn'"):
        read_english(grammar("implication"), "not p")


@given(formulas)
def test_truth_tables(term):
    rows = truth_table(SYSTEM, term, ["p", "q", "r"])
    assert (rows == 2**8 - 1) == tautology(" ".join(["|-", *SYSTEM.written(term)]))


def test_a_truth_table_by_hand():
    # Rows count p as bit 0 and q as bit 1: pq = 00, 10, 01, 11. C p q is false in row 1 alone.
    assert truth_table(SYSTEM, ("wi", "p", "q"), ["p", "q"]) == 0b1101
    assert truth_table(SYSTEM, ("wn", "p"), ["p", "q"]) == 0b0101
    with pytest.raises(FormalError, match="13 variables"):
        truth_table(SYSTEM, ("p",), [f"v{number}" for number in range(13)])


def same(one: str, other: str) -> tuple[bool, bool]:
    left, right = read_statement(SYSTEM, one), read_statement(SYSTEM, other)
    return same_up_to_names(SYSTEM, left, right), equivalent(SYSTEM, left, right)


def test_what_is_the_same():
    assert same("CpCqp", "|- C p C q p") == (True, True)
    assert same("CpCqp", "CqCrq")[0]  # other names
    assert not same("Cpq", "Cpp")[0] and not same("Cpp", "Cpq")[0]  # names stay apart, and stay together
    assert same("Cpq", "CNqNp") == (False, True)  # the contrapositive says as much, in other words
    assert same("Cpq", "Cqp")[1] is False


@pytest.mark.parametrize("text", ["", "C", "Cp", "pq", "|-", "Axp", "wff p", "C p x ?", "¬p"])
def test_what_is_no_statement_is_not_read(text: str):
    with pytest.raises(FormalError):
        read_statement(SYSTEM, text)


def chain(statement: str, proof: str, informal: str = "if p then p") -> Attempt:
    asked: list[str] = []

    def formaliser(text: str) -> str:
        asked.append(text)
        return statement

    def prover(text: str) -> str:
        asked.append(text)
        return proof

    attempt = prove(informal, formaliser, prover)
    assert asked[0] == f"{informal}:"
    if attempt.statement is not None:
        assert asked[1] == attempt.statement.removeprefix("|-").replace(" ", "") + ":"
    return attempt


def test_the_chain_from_words_to_a_proof():
    assert chain("Cpp", "21D1D") == Attempt("if p then p", "|- C p p", "verified", "21D1D", True)
    assert chain("Cqq", "21D1D").holds
    # A theorem of the database is proved from what stands before it.
    assert not chain("Cpp", "I").proved
    refused = chain("Cpp", "1")
    assert not refused.proved and refused.formalisation == "verified" and "no case of it" in (refused.reason or "")


def test_a_proof_of_something_else_proves_nothing_that_was_asked():
    easy = chain("CpCqp", "1")
    assert easy.proved and easy.formalisation == "wrong" and not easy.holds
    assert easy.reason == "the formal statement says something else"


def test_what_nobody_can_read_stays_unverified():
    unknown = chain("Cpp", "21D1D", informal="whatever is so is so")
    assert unknown.proved and unknown.formalisation == "unverified" and not unknown.holds
    assert "the word 'whatever'" in (unknown.reason or "")
    broken = chain("Cp", "1")
    assert broken.statement is None and broken.formalisation == "unreadable" and broken.proof is None
    assert not broken.holds and "cannot be read" in (broken.reason or "")
