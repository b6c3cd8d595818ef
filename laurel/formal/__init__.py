"""Formal proofs: a verifier for the Metamath language, and what finds, shortens and grades proofs around it.

Only `laurel.formal.kernel`, `laurel.formal.reader` and `laurel.formal.statements` are trusted; see docs/formal.md.
"""

from laurel.formal.answers import Attempt, Steps, prove, refusal
from laurel.formal.database import Database
from laurel.formal.elaborate import elaborate
from laurel.formal.english import in_english, read_english
from laurel.formal.grammar import Grammar
from laurel.formal.kernel import ProofError
from laurel.formal.meaning import equivalent, read_statement, same_up_to_names
from laurel.formal.search import Found, principal_theorems
from laurel.formal.statements import Assertion, Claim, Hypothesis
from laurel.formal.systems import claim_of, grammar
from laurel.formal.tactics import Backward

__all__ = [
    "Assertion",
    "Attempt",
    "Backward",
    "Claim",
    "Database",
    "Found",
    "Grammar",
    "Hypothesis",
    "ProofError",
    "Steps",
    "claim_of",
    "elaborate",
    "equivalent",
    "grammar",
    "in_english",
    "principal_theorems",
    "prove",
    "read_english",
    "read_statement",
    "refusal",
    "same_up_to_names",
]
