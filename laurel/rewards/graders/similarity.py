"""How alike two texts are, from 0 to 1. Each is a formula of its own; none needs more than Python.

Words are runs of letters and digits, in small letters for ROUGE (as its paper's program reads them); for BLEU and GLEU
letters keep their case and every other sign is a word by itself.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

_WORD = re.compile(r"\w+")
_WORD_OR_SIGN = re.compile(r"\w+|[^\w\s]")
_LONGEST_GRAM = 4


def fuzzy_match(text: str, reference: str) -> float:
    """2 L / (n + m): L is the length of the longest common subsequence of characters, n and m the texts' lengths.

    This is 1 minus the normalised distance by insertions and deletions alone (`ratio` of rapidfuzz). Two empty texts
    are alike.
    """
    total = len(text) + len(reference)
    return 2 * longest_common_subsequence(text, reference) / total if total else 1.0


def bleu(text: str, reference: str) -> float:
    """min(1, exp(1 - m / n)) (p1 p2 p3 p4)^(1/4) for n words against m (Papineni et al. 2002), for one sentence.

    p_k is the share of the text's runs of k words that are in the reference, each at most as often as there. Without
    smoothing: a text in which no four words follow each other as in the reference scores 0.
    """
    words, wanted = _WORD_OR_SIGN.findall(text), _WORD_OR_SIGN.findall(reference)
    logs = 0.0
    for size in range(1, _LONGEST_GRAM + 1):
        matches, total, _ = _matches(words, wanted, size)
        if not matches:
            return 0.0
        logs += math.log(matches / total)
    brevity = min(0.0, 1 - len(wanted) / len(words))
    return math.exp(brevity + logs / _LONGEST_GRAM)


def gleu(text: str, reference: str) -> float:
    """min(precision, recall) over all runs of one to four words together (Wu et al. 2016, section 5.2)."""
    words, wanted = _WORD_OR_SIGN.findall(text), _WORD_OR_SIGN.findall(reference)
    counts = [_matches(words, wanted, size) for size in range(1, _LONGEST_GRAM + 1)]
    matches, ours, theirs = (sum(count[index] for count in counts) for index in range(3))
    return matches / max(ours, theirs) if max(ours, theirs) else 0.0


def rouge(size: int) -> Callable[[str, str], float]:
    """ROUGE-N of runs of `size` words, as F1: 2 P R / (P + R) (Lin 2004)."""

    def measured(text: str, reference: str) -> float:
        matches, ours, theirs = _matches(_WORD.findall(text.lower()), _WORD.findall(reference.lower()), size)
        return 2 * matches / (ours + theirs) if matches else 0.0

    return measured


def rouge_l(text: str, reference: str) -> float:
    """ROUGE-L, as F1 of the longest common subsequence of words (Lin 2004)."""
    words, wanted = _WORD.findall(text.lower()), _WORD.findall(reference.lower())
    common = longest_common_subsequence(words, wanted)
    return 2 * common / (len(words) + len(wanted)) if common else 0.0


def longest_common_subsequence(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Its length, by whole rows of the table at a time as the bits of one number (Hyyro 2004)."""
    places: dict[Hashable, int] = {}
    for index, item in enumerate(one):
        places[item] = places.get(item, 0) | 1 << index
    all_ones = (1 << len(one)) - 1
    row = all_ones
    for item in other:
        hits = row & places.get(item, 0)
        row = ((row + hits) | (row - hits)) & all_ones
    return len(one) - row.bit_count()


def _matches(words: Sequence[str], wanted: Sequence[str], size: int) -> tuple[int, int, int]:
    """Runs of words that both have, counted as often as in both; those of the first, those of the second."""
    ours, theirs = (
        Counter(tuple(words[i : i + size]) for i in range(len(words) - size + 1)) for words in (words, wanted)
    )
    return (ours & theirs).total(), ours.total(), theirs.total()


METRICS: dict[str, Callable[[str, str], float]] = {
    "bleu": bleu,
    "fuzzy_match": fuzzy_match,
    "gleu": gleu,
    **{f"rouge_{size}": rouge(size) for size in range(1, 6)},
    "rouge_l": rouge_l,
}

REFUSED = {
    "cosine": "compares the embeddings of another model, which the definition does not name",
    "meteor": "needs WordNet and a stemmer, which are data that Laurel does not bring",
}
"""Metrics of the schema that are left out, each with the reason."""
