"""Proofs are damaged in every way, by the thousand: no false one is accepted, and a second checker agrees on each."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from second_checker import RULES, proves, tautology

from laurel.errors import FormalError
from laurel.formal import Database, ProofError, elaborate, grammar, principal_theorems
from laurel.formal.statements import Claim

SYSTEM = grammar("propositional")
THEOREMS = principal_theorems(SYSTEM, 2, longest=14)
VARIABLES = "pqrst"
LABELS = [*RULES, *(f"w{name}" for name in "pqr"), "D.1", "goal", "?"]


def accepted(statement: str, proof: list[str]) -> bool:
    try:
        database = SYSTEM.database
        database.verify(database.goal(statement), proof)
    except ProofError:
        return False
    return True


def formula(random_: random.Random, depth: int) -> list[str]:
    kind = random_.random()
    if depth == 0 or kind < 0.4:
        return [random_.choice(VARIABLES)]
    if kind < 0.55:
        return ["N", *formula(random_, depth - 1)]
    return ["C", *formula(random_, depth - 1), *formula(random_, depth - 1)]


def true_proof(random_: random.Random) -> tuple[str, list[str], Claim]:
    """A theorem with a whole proof: a case of a most general one."""
    found = random_.choice(THEOREMS)
    values = {part: formula(random_, 1) for part in dict.fromkeys(found.term) if not isinstance(part, str)}
    written = SYSTEM.written(found.term)
    by_name = {f"?{part.number}": value for part, value in values.items()}
    statement = " ".join(["|-", *(word for symbol in written for word in by_name.get(symbol, [symbol]))])
    # What the theorem itself states under these names is not cut off: its own axioms are what it may use.
    claim = SYSTEM.database.goal(statement)
    try:
        return statement, elaborate(SYSTEM, claim, found.proof), claim
    except ProofError:  # it cites a theorem that states the same: take the next
        return true_proof(random_)


def compressed(claim: Claim, labels: list[str]) -> list[str]:
    """The letters of a proof."""
    mandatory = [each.label for each in claim.assertion.hypotheses]
    others = [label for label in dict.fromkeys(labels) if label not in mandatory]
    letters = ""
    for label in labels:
        high, low = divmod((mandatory + others).index(label), 20)
        digits = ""
        while high:
            high, digit = divmod(high - 1, 5)
            digits = chr(ord("U") + digit) + digits
        letters += digits + chr(ord("A") + low)
    return ["(", *others, ")", letters]


def damaged(random_: random.Random, statement: str, proof: list[str], claim: Claim) -> tuple[str, str, list[str]]:
    """(how, statement, proof) after one damage."""
    proof, words = list(proof), statement.split()
    place, other = random_.randrange(len(proof)), random_.randrange(len(proof))
    how = random_.choice(("swap", "drop", "duplicate", "replace", "insert", "cut", "letters", "statement", "exchange"))
    if how == "swap":
        proof[place], proof[other] = proof[other], proof[place]
    elif how == "drop":
        del proof[place]
    elif how == "duplicate":
        proof.insert(other, proof[place])
    elif how == "replace":
        proof[place] = random_.choice(LABELS)
    elif how == "insert":
        proof.insert(place, random_.choice(LABELS))
    elif how == "cut":
        proof = proof[:place] if random_.random() < 0.5 else proof[place:]
    elif how == "letters":
        written = compressed(claim, proof)
        letters = list(written[-1])
        letters[random_.randrange(len(letters))] = random_.choice("ABCDEFGHIJUVZ?")
        proof = [*written[:-1], "".join(letters)]
    elif how == "statement":
        proof_of = random_.choice(("symbol", "formula"))
        if proof_of == "formula":
            words = ["|-", *formula(random_, 3)]
        else:
            place = random_.randrange(1, len(words))
            same = [*VARIABLES] if words[place] in VARIABLES else [words[place]]
            words[place] = random_.choice(same)
    else:  # the proof of another theorem
        proof = true_proof(random_)[1]
    return how, " ".join(words), proof


def near_miss(random_: random.Random, statement: str) -> str:
    """A statement that is no tautology and differs from this one in a few symbols."""
    words = statement.split()
    while tautology(" ".join(words)):
        place = random_.randrange(1, len(words))
        if words[place] in VARIABLES:
            words[place] = random_.choice(VARIABLES)
        elif words[place] == "N":
            del words[place]
        elif random_.random() < 0.2:
            words.insert(place, "N")
    return " ".join(words)


def attack(seed: int, proofs: int) -> Counter[str]:
    """Damage so many proofs; count what was tried, what was false, and what was accepted."""
    random_ = random.Random(seed)
    counts: Counter[str] = Counter()
    while counts["tried"] < proofs:
        statement, proof, claim = true_proof(random_)
        assert accepted(statement, proof) and proves(statement, proof) and tautology(statement)
        assert accepted(statement, compressed(claim, proof))
        for _ in range(4):
            how, against, attempt = damaged(random_, statement, proof, claim)
            verdict = accepted(against, attempt)
            counts["tried"] += 1
            counts[how] += 1
            if attempt[:1] != ["("]:
                # The second checker knows no order: a theorem's own statement is checked against all labels there.
                cited_late = SYSTEM.database.goal(against).assertion.number < len(SYSTEM.database.assertions)
                assert verdict == proves(against, attempt) or (cited_late and not verdict), (against, attempt)
            if verdict:
                counts["accepted"] += 1
                assert tautology(against), (against, attempt)
            false = near_miss(random_, statement)
            assert not accepted(false, proof) and not accepted(false, attempt), (false, attempt)
            counts["false"] += 2
    return counts


def test_thousands_of_damaged_proofs_and_none_that_is_false_is_accepted():
    counts = attack(seed=0, proofs=2500)
    assert min(counts[how] for how in ("swap", "drop", "duplicate", "replace", "letters", "statement")) > 200
    assert counts["false"] == 5000
    # Most damages are seen; what is accepted is a true proof still, such as one with two equal labels exchanged.
    assert 0 < counts["accepted"] < 0.25 * counts["tried"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(1, 5))
def test_a_hundred_thousand_damaged_proofs(seed: int):
    assert attack(seed, 25_000)["false"] == 50_000


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(LABELS), max_size=12), st.randoms(use_true_random=False))
def test_any_labels_prove_tautologies_only(labels: list[str], random_: random.Random):
    statement = " ".join(["|-", *formula(random_, 2)])
    assert accepted(statement, labels) == proves(statement, labels)
    assert not accepted(statement, labels) or tautology(statement)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["1", "2", "3", "D", "S", "I", "X"]), max_size=8), st.randoms(use_true_random=False))
def test_what_unification_finds_is_a_proof_of_a_tautology(labels: list[str], random_: random.Random):
    """And of a statement that is none, nothing is found."""
    statement = " ".join(["|-", *formula(random_, 3)])
    claim = SYSTEM.database.goal(statement)
    try:
        proof = elaborate(SYSTEM, claim, labels)
    except ProofError:
        return
    SYSTEM.database.verify(claim, proof)
    assert tautology(statement)


def test_a_random_walk_over_the_rules_reaches_tautologies_only():
    """Forward, any theorem that unification concludes is one: the truth table is asked about each."""
    for found in principal_theorems(SYSTEM, 3, longest=20):
        statement = " ".join(["|-", *(word.replace("?", "p") for word in SYSTEM.written(found.term))])
        assert tautology(statement), statement


DISTINCT = """$c wff set |- C A $. $v p q x y $.
wp $f wff p $. wq $f wff q $. vx $f set x $. vy $f set y $.
wi $a wff C p q $. wall $a wff A x p $. weq $a wff x $.
${{ $d x p $. 5 $a |- C p A x p $. $}}
${{ {pairs} no $p |- C {body} A {variable} {body} $= {proof} $. $}}"""
BODIES = {
    "p": "wp",
    "x": "vx weq",
    "C p q": "wp wq wi",
    "C p x": "wp vx weq wi",
    "A x p": "wp vx wall",
    "C y A y p": "vy weq wp vy wall wi",
}


def test_distinct_variables_against_every_set_of_conditions():
    """|- C B A v B is provable exactly where v is declared distinct from each variable of B: all cases."""
    pairs = [("x", "p"), ("x", "q"), ("x", "y"), ("y", "p"), ("y", "q")]
    holds = 0
    for chosen in range(2 ** len(pairs)):
        declared = [pair for place, pair in enumerate(pairs) if chosen >> place & 1]
        for body, built in BODIES.items():
            for variable in ("x", "y"):
                in_force = " ".join(f"$d {one} {other} $." for one, other in declared)
                order = f"{built} v{variable}"
                text = DISTINCT.format(pairs=in_force, body=body, variable=variable, proof=f"{order} 5")
                needed = {name for name in body.split() if name in "pqxy"}
                wanted = all({variable, name} in [set(pair) for pair in declared] for name in needed)
                try:
                    Database(text)
                    verdict = True
                except FormalError as error:
                    verdict = "distinct" not in str(error) and None
                assert verdict is wanted, text
                holds += wanted
    assert holds > 50
