"""Proofs checked by hand are accepted, and every kind of wrong proof is refused with its step and its reason."""

import time

import pytest

from laurel.errors import FormalError
from laurel.formal import Database, ProofError, grammar
from laurel.formal.kernel import Recall
from laurel.formal.proofs import decode

# A wff under a variable that a quantifier binds: what stands before it must not depend on that variable.
QUANTIFIED = """
$c wff set |- C A $.   $v p q x y $.
wp $f wff p $.   wq $f wff q $.   vx $f set x $.   vy $f set y $.
wi $a wff C p q $.   wall $a wff A x p $.   weq $a wff x $.
1 $a |- C p C q p $.
${ $d x p $. 5 $a |- C p A x p $. $}
${ $d x y $. apart $a |- C x A y x $. $}
${ G.1 $e |- p $. G $a |- A x p $. $}
"""

# By hand, |- C p p: each D finds its p and q, then |- C p q and |- p, on the stack. C p p is built by "wp wp wi".
#   2 with q = C p p, r = p:  |- C C p C C p p p C C p C p p C p p
#   1 with q = C p p:         |- C p C C p p p             and D: |- C C p C p p C p p
#   1 with q = p:             |- C p C p p                 and D: |- C p p
CPP = "wp wp wi"
IDENTITY = f"wp {CPP} wi {CPP} wp {CPP} wp wi wi wp {CPP} wi {CPP} wi wp {CPP} wp 2 wp {CPP} 1 D wp wp 1 D"


def implication() -> Database:
    return grammar("implication").database


def refused(statement: str, proof: str, message: str, database: Database | None = None) -> ProofError:
    database = database or implication()
    with pytest.raises(ProofError, match=message) as caught:
        database.verify(database.goal(statement), proof.split())
    return caught.value


def test_identity_by_hand():
    database = implication()
    database.verify(database.goal("|- C p p"), IDENTITY.split())
    # The same proof under other names of variables is one of the renamed statement.
    database.verify(database.goal("|- C q q"), IDENTITY.replace("wp", "wq").split())
    # And of a case of it, where every p is built as C q r.
    database.verify(database.goal("|- C C q r C q r"), IDENTITY.replace("wp", "wq wr wi").split())


def test_an_axiom_is_its_own_proof_and_its_variables_are_replaced_at_once():
    database = implication()
    database.verify(database.goal("|- C p C q p"), ["wp", "wq", "1"])
    # p and q change places: one after the other would give C q C q q.
    database.verify(database.goal("|- C q C p q"), ["wq", "wp", "1"])


@pytest.mark.parametrize(
    ("proof", "message"),
    [
        ("", "the proof is empty"),
        ("?", "gap"),
        ("wp wq ? 1", "gap"),
        ("wp wq 9", r"step 3: '9' is no label"),
        ("wp 1", r"step 2 \(1\): needs 2 entries, and 1 are on the stack"),
        ("wp wq 1 wp", "2 expressions are left"),
        ("wq wp 1", "it proves '|- C q C p q', not '|- C p C q p'"),
        ("wp wq wi", "it proves 'wff C p q'"),
        ("wp wq 1 wp wi", r"step 5 \(wi\): 'p' wants 'wff ...', got '\|- C p C q p'"),
        ("wp wq wp wi wp wq 1 wp D", r"step 9 \(D\): 'wff p' is no instance of 'D.2'"),
        ("wp wq wp wq 1 wp wq 1 D", r"step 9 \(D\): '\|- C p C q p' is no instance of 'D.1'"),
        ("goal", "no label"),
        ("D.1", "no label"),
    ],
)
def test_what_is_wrong_with_a_proof_is_said(proof: str, message: str):
    refused("|- C p C q p", proof, message)


def test_a_refusal_names_its_step():
    assert refused("|- C p p", "wp wq 9", "no label").step == 3


def test_only_what_stands_before_a_statement_may_prove_it():
    database = grammar("propositional").database
    identity = database.claim("I")
    with pytest.raises(ProofError, match=r"step 2: 'I' does not stand before"):
        database.verify(identity, ["wp", "I"])
    with pytest.raises(ProofError, match=r"'X' does not stand before"):
        database.verify(identity, ["wp", "wp", "X"])
    # A goal that a theorem states, under whatever names, stands where that theorem stands; a case of it stands behind.
    with pytest.raises(ProofError, match=r"'I' does not stand before"):
        database.verify(database.goal("|- C r r"), ["wr", "I"])
    database.verify(database.goal("|- C N r N r"), ["wr", "wn", "I"])
    # And what only follows from hypotheses is no theorem.
    with pytest.raises(ProofError, match=r"'S.1' is no label"):
        database.verify(database.goal("|- C p q"), ["S.1"])


def test_distinct_variables():
    database = Database(QUANTIFIED)
    accepted = "${ $d x p $. ok $p |- C p A x p $= wp vx 5 $. $}"
    Database(QUANTIFIED + accepted)
    # In the order of their hypotheses: p, then x. Without $d in force for x and p, nothing keeps p from holding x.
    refused("|- C p A x p", "wp vx 5", "'p' and 'x' are distinct, and so 'p' and 'x' would have to be", database)
    # A variable is never distinct from itself: p becomes a wff that holds x.
    with pytest.raises(FormalError, match=r"line \d+: theorem 'no': step 4 \(5\)"):
        Database(QUANTIFIED + "${ $d x p $. no $p |- C x A x x $= vx weq vx 5 $. $}")
    # What replaces them may hold several variables: each pair counts.
    both = "no $p |- C C p q A x C p q $= wp wq wi vx 5 $."
    with pytest.raises(FormalError, match="'q'"):
        Database(QUANTIFIED + "${ $d x p $. " + both + " $}")
    Database(QUANTIFIED + "${ $d x p $. $d x q $. " + both.replace("no", "ok") + " $}")
    # Of a variable that only the proof knows, $d must be in force as well.
    dummy = "$d x p $. {0} ok $p |- C p A x p $= wp vx 5 $."
    Database(QUANTIFIED + "${ " + dummy.format("$d y p $.") + " $}")


def test_a_compressed_proof_is_the_same_proof():
    database = grammar("propositional").database
    claim = database.claim("S")
    words = [token.text for token in database.theorems["S"].proof]
    assert words[0] == "("
    database.verify(claim, words)
    # Z remembers a subproof, which the letter after the last label recalls: A A C is p, p, C p p.
    database.verify(database.goal("|- C C p p C C p p C p p"), ["(", "wi", "1", ")", "AABZDC"])


@pytest.mark.parametrize(
    ("letters", "number"),
    [("A", 1), ("T", 20), ("UA", 21), ("UT", 40), ("VA", 41), ("YT", 120), ("UUA", 121), ("YYT", 620), ("UUUA", 621)],
)
def test_letters_count_as_the_language_says(letters: str, number: int):
    """The table of appendix B: with no mandatory hypotheses and no labels, the first letter is the first subproof."""
    claim = Database("$c wff |- $. ok $a |- $. two $p |- $= ok $.").claim("two")
    assert decode(claim, ["(", ")", letters]) == [Recall(number - 1)]


@pytest.mark.parametrize(
    ("proof", "message"),
    [
        ("( wi 1", "have no end"),
        ("( wi 1 ) AABZE", r"step 5: recalls 2 of 1"),
        ("( wi 1 ) AAB*", "means nothing"),
        ("( wi 1 ) AABa", "means nothing"),
        ("( wi 1 ) ZAAB", "means nothing"),
        ("( wi 1 ) AABU", "ends within a number"),
        ("( wi 1 ) AAUZB", "means nothing"),
        ("( wi 1 ) AABZZDC", "means nothing"),
        ("( wi wi 1 ) AABZDC", "has a number already"),
        ("( wp wi 1 ) AABZDC", "has a number already"),
        ("( wi 1 ) AAB?", "gap"),
        ("( wi 1 ) UUUUUUUUUUUUA", "means nothing"),
        ("( wi 1 ) YYYA", "recalls"),
    ],
)
def test_what_is_wrong_with_a_compressed_proof_is_said(proof: str, message: str):
    refused("|- C C p p C C p p C p p", proof, message)


def test_a_proof_that_doubles_with_every_step_ends_soon():
    # Z recalls: C x x of what is there, 60 times, would be 2^60 symbols.
    letters = "A" + "".join("Z" + chr(ord("C") + step) + "B" for step in range(18))
    started = time.monotonic()
    error = refused("|- C p p", "( wi ) " + letters, "too many symbols")
    assert error.step is not None
    assert time.monotonic() - started < 2


def test_a_long_proof_needs_no_recursion():
    proof = "wp " * 5000 + "wi " * 4999
    refused("|- C p p", proof, "too many symbols")
    statement = "wff " + "C p " * 500 + "p"
    database = implication()
    database.verify(database.goal(statement), ("wp " * 501 + "wi " * 500).split())
