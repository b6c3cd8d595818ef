"""Reading of statements, proofs without their syntax, proofs from the end, and the enumeration of theorems."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laurel.errors import FormalError
from laurel.formal import Backward, Database, Grammar, ProofError, elaborate, grammar, principal_theorems
from laurel.formal.grammar import Unknown
from laurel.formal.search import covers
from laurel.formal.unify import Unifier

SYSTEM = grammar("implication")
CLASSICAL = grammar("propositional")
BRACKETS = """$c ( ) -> -. wff |- $. $v p q r $. wp $f wff p $. wq $f wff q $. wr $f wff r $.
wn $a wff -. p $. wi $a wff ( p -> q ) $.
1 $a |- ( p -> ( q -> p ) ) $. 2 $a |- ( ( p -> ( q -> r ) ) -> ( ( p -> q ) -> ( p -> r ) ) ) $.
${ D.1 $e |- ( p -> q ) $. D.2 $e |- p $. D $a |- q $. $}"""

formulas = st.recursive(
    st.sampled_from("pqr").map(lambda name: (name,)),
    lambda inner: (
        inner.map(lambda one: ("wn", *one)) | st.tuples(inner, inner).map(lambda two: ("wi", *two[0], *two[1]))
    ),
    max_leaves=12,
)


@given(formulas)
def test_what_is_written_reads_as_it_was(term):
    assert CLASSICAL.term(("wff", *CLASSICAL.written(term))) == term
    brackets = Grammar(Database(BRACKETS))
    assert brackets.term(("wff", *brackets.written(term))) == term


@given(formulas)
def test_a_term_is_built_by_a_proof_of_its_syntax(term):
    database = CLASSICAL.database
    statement = " ".join(["wff", *CLASSICAL.written(term)])
    database.verify(database.goal(statement), CLASSICAL.formation(term, CLASSICAL.label_of_variable))


@pytest.mark.parametrize("statement", ["|-", "|- C", "|- C p", "|- p q", "|- N", "|- C p q r"])
def test_what_is_no_formula_is_not_read(statement):
    with pytest.raises(FormalError, match=r"cannot be read by the syntax axioms of propositional\.mm"):
        CLASSICAL.term(tuple(statement.split()))


def test_identity_in_five_labels():
    """DD211 of condensed detachment, each rule after its premises; the whole proof has 40 labels."""
    claim = SYSTEM.database.goal("|- C p p")
    proof = elaborate(SYSTEM, claim, ["2", "1", "D", "1", "D"])
    SYSTEM.database.verify(claim, proof)
    assert len(proof) == 40 and [label for label in proof if label in SYSTEM.rules] == ["2", "1", "D", "1", "D"]
    brackets = Grammar(Database(BRACKETS))
    claim = brackets.database.goal("|- ( p -> p )")
    brackets.database.verify(claim, elaborate(brackets, claim, ["2", "1", "D", "1", "D"]))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("", "1 to 1000 steps"),
        ("1 D", r"step 2 \(D\): needs 2 statements, and there are 1"),
        ("1 1", "2 statements are left"),
        ("1", r"it proves 'C \?\d+ C \?\d+ \?\d+', and 'C p p' is no case of it"),
        ("1 wp", r"step 2: 'wp' is no label of something provable"),
        ("1 7", r"step 2: '7' is no label"),
        ("1 1 D 1 D 2 2 D 2 D D", r"does not fit"),
    ],
)
def test_an_impossible_step_is_named(labels, message):
    with pytest.raises(ProofError, match=message):
        elaborate(SYSTEM, SYSTEM.database.goal("|- C p p"), labels.split())


def test_hypotheses_and_lemmas_may_be_cited_and_what_comes_later_not():
    syllogism = CLASSICAL.database.claim("S")
    CLASSICAL.database.verify(syllogism, elaborate(CLASSICAL, syllogism, ["2", "1", "S.2", "D", "D", "S.1", "D"]))
    scotus = CLASSICAL.database.claim("X")
    CLASSICAL.database.verify(scotus, elaborate(CLASSICAL, scotus, ["1", "3", "S"]))
    with pytest.raises(ProofError, match="'X' does not stand before"):
        elaborate(CLASSICAL, syllogism, ["X"])
    with pytest.raises(ProofError, match=r"'S\.1' is no label"):
        elaborate(CLASSICAL, scotus, ["S.1"])


def test_a_proof_from_its_end():
    proof = Backward(SYSTEM, SYSTEM.database.goal("|- C p p"))
    with pytest.raises(ProofError, match="'2' does not give 'C p p'"):
        proof.apply("2")
    assert proof.goals == ["C p p"]
    proof.apply("D")
    assert [goal.split()[0] for goal in proof.goals] == ["C", proof.goals[0].split()[1]]
    for label in "D21":
        proof.apply(label)
    with pytest.raises(ProofError, match="1 goals are left"):
        proof.whole()
    proof.apply("1")
    assert proof.goals == [] and proof.labels == ["2", "1", "D", "1", "D"]
    SYSTEM.database.verify(proof.claim, proof.whole())
    with pytest.raises(ProofError, match="nothing is left"):
        proof.apply("1")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(principal_theorems(CLASSICAL, 3, longest=16)))
def test_backward_and_forward_are_the_same_proof(found):
    """The labels in the order of a proof, turned into the order of goals, close every goal, and come back."""
    names = dict(zip((part for part in found.term if isinstance(part, Unknown)), "p" * 99, strict=False))
    claim = CLASSICAL.database.goal(" ".join(["|-", *CLASSICAL.written(tuple(names.get(p, p) for p in found.term))]))
    if claim.assertion.number < len(CLASSICAL.database.assertions):
        return  # a theorem of the database states this, and its proof may cite it
    needs = {label: len(rule.hypotheses) for label, rule in CLASSICAL.rules.items()}
    stack: list[list[str]] = []
    for label in found.proof:
        parts = [stack.pop() for _ in range(needs[label])][::-1]
        stack.append([label, *itertools.chain(*parts)])
    backward = Backward(CLASSICAL, claim)
    for label in stack[0]:
        backward.apply(label)
    assert backward.labels == list(found.proof)
    CLASSICAL.database.verify(claim, backward.whole())


def test_unification_by_hand():
    one, two, three = (Unknown(number, "wff") for number in (1, 2, 3))
    unifier = Unifier(SYSTEM)
    assert unifier.unify(("wi", one, two), ("wi", "p", "wi", one, three), SYSTEM.kinds)
    assert unifier.resolved(("wi", one, two)) == ("wi", "p", "wi", "p", three)
    assert not unifier.unify((three,), ("wi", three, "p"), SYSTEM.kinds)  # nothing holds itself
    assert not unifier.unify((one,), ("q",), SYSTEM.kinds)  # a variable of the goal stands for itself
    assert unifier.resolved((one, two)) == ("p", "wi", "p", three)  # and what failed left nothing behind
    set_ = Unknown(9, "set")
    assert not Unifier(SYSTEM).unify((set_,), ("p",), SYSTEM.kinds)


def test_terms_that_double_are_refused_in_time():
    """C x1 x1 = x2, C x2 x2 = x3 ...: written out, the last one has 2^60 symbols."""
    unknowns = [Unknown(number, "wff") for number in range(60)]
    started = time.monotonic()
    unifier = Unifier(SYSTEM)
    for one, following in itertools.pairwise(unknowns):
        assert unifier.unify((following,), ("wi", one, one), SYSTEM.kinds)
    with pytest.raises(ProofError, match="too long"):
        unifier.resolved((unknowns[-1],))
    claim = SYSTEM.database.goal("|- C p p")
    for labels in ("2 1 D " * 300, "1 " * 500 + "D " * 499, ("2 " * 400 + "D " * 399)):
        with pytest.raises(ProofError):
            elaborate(SYSTEM, claim, labels.split())
    assert time.monotonic() - started < 5


def test_theorems_by_hand():
    """Of one detachment: D11, D12 and D21 (D22 too, whose two premises fit); and nothing that an earlier one covers."""
    found = {"".join(each.proof): " ".join(SYSTEM.written(each.term)) for each in principal_theorems(SYSTEM, 1)}
    assert found["1"] == "C ?1 C ?2 ?1" and found["2"] == "C C ?1 C ?2 ?3 C C ?1 ?2 C ?1 ?3"
    assert found["11D"] == "C ?1 C ?2 C ?3 ?2"
    assert found["21D"] == "C C ?1 ?2 C ?1 ?1"
    assert set(found) == {"1", "2", "11D", "12D", "21D", "22D"}
    identity = next(each for each in principal_theorems(SYSTEM, 2) if SYSTEM.written(each.term) == ("C", "?1", "?1"))
    assert identity.proof == ("2", "1", "D", "1", "D") and identity.steps == 2


def test_enumeration_misses_no_proof():
    """Whatever any string of labels with at most three detachments proves is covered by a theorem of as few steps."""
    found = principal_theorems(SYSTEM, 3, longest=60)
    checked = 0
    for steps in range(4):
        for labels in itertools.product("12D", repeat=2 * steps + 1):
            if labels.count("D") != steps:
                continue
            best = next((each for each in found if each.proof == labels), None)
            term = best.term if best is not None else proved(labels)
            if term is not None:
                assert any(each.steps <= steps and covers(SYSTEM, each.term, term) for each in found)
                checked += 1
    assert checked > 60


def proved(labels):
    """The most general statement of a proof, by unification of the whole at once."""
    unifier, stack = Unifier(SYSTEM), []
    for label in labels:
        _, hypotheses, conclusion = unifier.instance(SYSTEM.rules[label])
        if len(stack) < len(hypotheses):
            return None
        taken = [stack.pop() for _ in hypotheses][::-1]
        if not all(unifier.unify(one, two, SYSTEM.kinds) for one, two in zip(hypotheses, taken, strict=True)):
            return None
        stack.append(conclusion)
    return unifier.resolved(stack[0]) if len(stack) == 1 else None


def test_an_unknown_database_is_refused():
    with pytest.raises(FormalError, match="'peano' is no database"):
        grammar("peano")
    with pytest.raises(FormalError, match="cannot read"):
        grammar("nowhere.mm")
