"""What the imitation benchmark learns from, shared by both systems (standard library only).

One step learns from every row of a workload, and every step from the same rows, so that both systems have the same
batch whatever their order, and the losses of every step can be compared.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from workloads import LETTERS

UPPER = LETTERS.upper()


@dataclass(frozen=True)
class ImitationWorkload:
    """The rows of one optimiser step.

    Attributes:
        method: "dpo", "reward-model" (both on pairs) or "clone" (on demonstrations).
        model: the directory that `models.py` writes for it.
        rows: pairs or demonstrations in one step.
        prompt_tokens: of every prompt.
        answer_tokens: of every answer, its end token included; None: ragged, between 5 and 256 with mean near 40.
        wanted_speed: TRL's step over Laurel's, the project's target. Peak memory is to be below TRL's.
    """

    method: str
    model: str
    rows: int
    prompt_tokens: int
    answer_tokens: int | None
    wanted_speed: float

    def pairs(self, seed: int) -> list[dict[str, str]]:
        """Rows of a prompt and two different random answers, one character per token."""
        draw = random.Random(f"pairs {seed}")
        assert self.answer_tokens is not None
        return [
            {"prompt": letters(draw, self.prompt_tokens - 1) + "?"}
            | {side: letters(draw, self.answer_tokens - 1) for side in ("chosen", "rejected")}
            for _ in range(self.rows)
        ]

    def demonstrations(self, seed: int) -> list[dict[str, str]]:
        """Rows of a prompt and one answer, as ragged as the answers of `workloads.WORKLOADS["ragged"]`."""
        draw = random.Random(f"demonstrations {seed}")
        return [
            {"prompt": letters(draw, self.prompt_tokens - 1) + "?", "completion": "".join(ragged(draw))}
            for _ in range(self.rows)
        ]


def letters(draw: random.Random, count: int) -> str:
    """Random lower-case letters."""
    return "".join(draw.choices(LETTERS, k=count))


def ragged(draw: random.Random, longest: int = 255) -> Iterator[str]:
    """Three digits, then upper-case letters that stop with probability 1/10, or lower-case ones, with 1/64."""
    yield from "012"
    alphabet, stop = draw.choice(((UPPER, 1 / 10), (LETTERS, 1 / 64)))
    for _ in range(longest - len("012")):
        yield draw.choice(alphabet)
        if draw.random() < stop:
            return


IMITATION = {
    workload.method: workload
    for workload in (
        ImitationWorkload("dpo", "endless", 16, prompt_tokens=500, answer_tokens=64, wanted_speed=1.7),
        ImitationWorkload("reward-model", "judge", 16, prompt_tokens=500, answer_tokens=64, wanted_speed=1.7),
        ImitationWorkload("clone", "ragged", 128, prompt_tokens=12, answer_tokens=None, wanted_speed=1.0),
    )
}
