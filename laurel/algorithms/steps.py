"""Steps within a turn: the places where one ends and the next begins."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from laurel.credit import Place, cut
from laurel.errors import TaskError
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


def step_ends(tokens: IntArray, steps: Sequence[str], decode: Decode) -> list[int]:
    """The number of tokens after which each step is whole; a token that spans two belongs to the earlier.

    Args:
        tokens: of an answer.
        steps: the texts that the answer is made of.

    Raises:
        TaskError: the tokens say another text, or a token holds a whole step and more.
    """
    if decode(tokens) != "".join(steps):
        raise TaskError(
            "its tokens do not give the text of its steps back.", hint="take a tokenizer that keeps every character."
        )
    ends: list[int] = []
    for length in accumulate(map(len, steps[:-1])):
        ends.append(bisect_left(range(len(tokens) + 1), length, key=lambda count: len(decode(tokens[:count]))))
    ends.append(len(tokens))
    if any(after <= before for before, after in pairwise([0, *ends])):
        raise TaskError("a token of it holds more than a step.", hint="join such steps.")
    return ends


def _texts(segment: Segment, ends: list[int], decode: Decode) -> list[str]:
    lengths = [0, *(len(decode(segment.tokens[:end])) for end in ends), len(segment.text)]
    return [segment.text[start:end] for start, end in pairwise(lengths)]
