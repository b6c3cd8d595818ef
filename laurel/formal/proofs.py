"""Written proofs as steps for the kernel: labels in order, or the compressed form. Nothing here is trusted."""

from __future__ import annotations

from collections.abc import Sequence

from laurel.formal.kernel import ProofError, Recall, Save, Step
from laurel.formal.statements import Claim

_MOST_DIGITS = 8


def decode(claim: Claim, words: Sequence[str]) -> list[Step]:
    """The steps of a proof.

    Raises:
        ProofError: for a proof that is empty, has a gap ("?"), or is compressed wrongly.
    """
    if any("?" in word for word in words):
        raise ProofError("the proof has a gap ('?').", hint="fill it.")
    if not words:
        raise ProofError("the proof is empty.", hint="name the labels of its steps.")
    return _expanded(claim, words) if words[0] == "(" else list(words)


def _expanded(claim: Claim, words: Sequence[str]) -> list[Step]:
    """A compressed proof: labels in brackets, then letters that count through the mandatory hypotheses, the labels and
    the subproofs that a Z marked, in this order. A to T end a number (1 to 20), U to Y are digits of base 5 before.
    """
    if ")" not in words:
        raise ProofError("the labels of the compressed proof have no end.", hint="close them with ')'.")
    end = words.index(")")
    mandatory = [hypothesis.label for hypothesis in claim.assertion.hypotheses]
    labels = list(words[1:end])
    known = mandatory + labels
    if len(set(known)) < len(known):
        raise ProofError("the compressed proof lists a label that has a number already.", hint="leave it out.")
    steps: list[Step] = []
    value, digits = 0, 0
    for letter in "".join(words[end + 1 :]):
        if "A" <= letter <= "T":
            number = 20 * value + ord(letter) - ord("A")
            steps.append(known[number] if number < len(known) else Recall(number - len(known)))
            value, digits = 0, 0
        elif "U" <= letter <= "Y" and digits < _MOST_DIGITS:
            value, digits = 5 * value + ord(letter) - ord("U") + 1, digits + 1
        elif letter == "Z" and not digits and steps and not isinstance(steps[-1], Save):
            steps.append(Save())
        else:
            raise ProofError(f"the compressed proof has '{letter}' where it means nothing.", hint="write it anew.")
    if digits:
        raise ProofError("the compressed proof ends within a number.", hint="write it anew.")
    return steps
