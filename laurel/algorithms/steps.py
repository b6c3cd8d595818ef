"""Steps within a turn: the places where one ends and the next begins."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

from laurel.credit import Place, cut
from laurel.tree import IntArray, Segment, Source, Tree

Decode = Callable[[IntArray], str]
"""Token ids to text, without special tokens."""


def completions(tokens: IntArray, separator: str, decode: Decode) -> Iterator[int]:
    """The number of tokens after which each occurrence of the separator is whole."""

    def occurrences(count: int) -> int:
        return decode(tokens[:count]).count(separator)

    before = 0
    for number in range(1, occurrences(len(tokens)) + 1):
        place = bisect_left(range(len(tokens) + 1), number, key=occurrences)
        if place > before:  # a token may complete several at once
            yield place
        before = place


def in_steps(tree: Tree, separator: str, decode: Decode) -> Tree:
    """The same tree with every policy segment cut after each separator in its text: one segment per step.

    The separator belongs to the step that it ends; a token that holds more than the separator is not cut. The texts of
    the steps join to that of the segment.
    """
    places, texts = [], []
    for index, segment in enumerate(tree.segments):
        ends = []
        if segment.source is Source.POLICY:
            ends = [at for at in completions(segment.tokens, separator, decode) if at < len(segment)]
        places += [Place(index, at) for at in ends]
        texts += _texts(segment, ends, decode)
    parts, _ = cut(tree, places)
    segments = (replace(segment, text=text) for segment, text in zip(parts.segments, texts, strict=True))
    return replace(parts, segments=tuple(segments))


def _texts(segment: Segment, ends: list[int], decode: Decode) -> list[str]:
    lengths = [0, *(len(decode(segment.tokens[:end])) for end in ends), len(segment.text)]
    return [segment.text[start:end] for start, end in pairwise(lengths)]
