"""Where a sampled rollout is looked at from the middle: the places at which continuations are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from laurel.algorithms.steps import Decode, completions
from laurel.credit import Place, is_continuation
from laurel.errors import ConfigurationError
from laurel.tree import FloatArray, Rollout, Segment, Source, Tree


@dataclass(frozen=True)
class Branching:
    """Places in every sample, and how many continuations are drawn at each.

    A place stands before a policy token that is not the rollout's first. Wherever the environment has spoken there is
    one; within a turn they follow one of three rules. Each decides by the tokens before the place and not by those
    after it; this is what leaves the expected gradient exact (`laurel.credit.MonteCarloValues`). For the same reason a
    budget takes the first places of a rollout, not the best; the last step reaches to the end.

    Attributes:
        every: after every so many policy tokens of the rollout.
        separator: after each token that completes this string in the text of the turn.
        entropy_above: before each token that was drawn from a distribution of more entropy than this, in nats: where
            the policy was not sure how to go on. log 2 = 0.69 is an even choice between two tokens.
        continuations: K, at each place.
        budget: most continuations of one sample; places are taken while K more fit in. None is refused.

    Raises:
        ConfigurationError: unless exactly one rule is given; for a number out of range.
    """

    every: int | None = None
    separator: str | None = None
    entropy_above: float | None = None
    continuations: int = 9
    budget: int | None = None

    def __post_init__(self) -> None:
        rules = {"every": self.every, "separator": self.separator, "entropy_above": self.entropy_above}
        given = [name for name, value in rules.items() if value is not None]
        if len(given) != 1:
            raise ConfigurationError(
                f"Branching follows one rule; given: {', '.join(given) or 'none'}.",
                hint="set one of every, separator and entropy_above.",
            )
        if self.separator == "":
            raise ConfigurationError("The separator of steps is empty.", hint=r'such as separator="\n".')
        for name, least in (("every", 1), ("continuations", 1)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ConfigurationError(
                    f"{name} must be a whole number from {least}, got {value!r}.",
                    hint="such as 4.",
                )
        if self.entropy_above is not None and not 0 < self.entropy_above < float("inf"):
            raise ConfigurationError(
                f"entropy_above must be more than 0 nats, got {self.entropy_above!r}.",
                hint="0.69 is an even choice between two tokens.",
            )
        if self.budget is not None and self.budget < self.continuations:
            raise ConfigurationError(
                f"A budget of {self.budget} continuations per sample has no room for the {self.continuations} of one "
                "place.",
                hint=f"set budget to at least {self.continuations}, or continuations to at most {self.budget}.",
            )

    @property
    def places_per_sample(self) -> int:
        """Most places in one sample.

        Raises:
            ConfigurationError: without a budget.
        """
        if self.budget is None:
            raise ConfigurationError(
                "algorithm: continuations are drawn at every place of every sample, and no budget bounds them.",
                hint=f"set budget, the most continuations per sample, such as budget={4 * self.continuations}: "
                f"{self.continuations} at each of 4 places.",
            )
        return self.budget // self.continuations

    @property
    def needs_entropies(self) -> bool:
        """Whether `places` asks how undecided the policy was."""
        return self.entropy_above is not None

    def places(self, tree: Tree, decode: Decode, entropies: FloatArray | None = None) -> list[Place]:
        """The places of a tree, sample after sample, each in the order of its tokens.

        Args:
            decode: tokens to text.
            entropies: [T] of the distribution that drew each policy token, in nats, where `needs_entropies`; no place
                stands before a token that has none (NaN).
        """
        most = self.places_per_sample
        found: dict[Place, None] = {}
        for rollout in tree.rollouts:
            if is_continuation(rollout.id) or (rollout.outcome is not None and rollout.outcome.failed):
                continue
            for place, _ in zip(self._of(rollout, decode, entropies), range(most), strict=False):
                found[place] = None
        return list(found)

    def _of(self, rollout: Rollout, decode: Decode, entropies: FloatArray | None) -> Iterator[Place]:
        """The places of one rollout, without a bound."""
        tree, path, written, last, spoken = rollout.tree, rollout.tree.path(rollout.leaf), 0, 0, False
        for source, turn in groupby(path, key=lambda index: tree.segments[index].source):
            indices = list(turn)
            if source is not Source.POLICY:
                last = indices[-1]
                continue
            parts = [tree.segments[index] for index in indices]
            if spoken:
                yield Place(last, len(tree.segments[last]))
            spoken = True
            ends = np.cumsum([len(part) for part in parts])
            own = None
            if entropies is not None:
                own = np.concatenate([entropies[tree.flat.starts[i] : tree.flat.ends[i]] for i in indices])
            for count in self._steps(parts, written, decode, own):
                if 0 < count < ends[-1]:
                    part = int(np.searchsorted(ends, count))
                    yield Place(indices[part], int(count - ends[part] + len(parts[part])))
            written += int(ends[-1])

    def _steps(
        self, turn: Sequence[Segment], written: int, decode: Decode, entropies: FloatArray | None
    ) -> Iterator[int]:
        """How many tokens of a turn stand before each of its places; `written` tokens came in earlier turns."""
        if self.every is not None:
            length = sum(map(len, turn))
            yield from range(self.every - written % self.every, length, self.every)
        elif self.entropy_above is not None:
            if entropies is None:
                raise ConfigurationError(
                    "Places by entropy need that of the distribution which drew each token, and it was not measured.",
                    hint="pass entropies=laurel.rollout.drawn_entropies(policy, trees)[...].",
                )
            yield from np.flatnonzero(entropies > self.entropy_above).tolist()
        elif self.separator is not None:
            yield from completions(np.concatenate([part.tokens for part in turn]), self.separator, decode)
