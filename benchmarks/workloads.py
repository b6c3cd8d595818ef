"""The three workloads and their reward, shared by both systems (standard library only)."""

import random
from dataclasses import dataclass

LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOWELS = frozenset("aeiou")


@dataclass(frozen=True)
class Workload:
    """One training step's worth of sampling.

    `model` names the directory that `models.py` writes for it: in `endless` the end token practically never
    comes, in `ragged` the answers' lengths spread between 5 and 256 with mean near 40. `wanted_speed` and
    `wanted_memory` are the project's targets: TRL's step over Laurel's, Laurel's peak over TRL's.
    """

    name: str
    model: str
    prompts_per_step: int
    samples_per_prompt: int
    prompt_tokens: int
    max_new_tokens: int
    wanted_speed: float
    wanted_memory: float | None = None

    @property
    def rollouts_per_step(self) -> int:
        """Answers in one step."""
        return self.prompts_per_step * self.samples_per_prompt

    def prompts(self, steps: int, seed: int) -> list[str]:
        """`steps * prompts_per_step` random texts that end in a question mark, one character per token.

        Every step has new prompts, so that nothing can be kept from one step to the next.
        """
        draw = random.Random(f"{self.name} {seed}")
        count = steps * self.prompts_per_step
        return ["".join(draw.choices(LETTERS, k=self.prompt_tokens - 1)) + "?" for _ in range(count)]


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("short", "endless", 16, 8, prompt_tokens=6, max_new_tokens=32, wanted_speed=1.5),
        Workload(
            "shared-prompt",
            "endless",
            4,
            16,
            prompt_tokens=500,
            max_new_tokens=64,
            wanted_speed=10.0,
            wanted_memory=0.4,
        ),
        Workload("ragged", "ragged", 8, 8, prompt_tokens=12, max_new_tokens=256, wanted_speed=3.0),
    )
}


def vowel_fraction(text: str) -> float:
    """The reward: the part of the answer's characters that are vowels; instant, and it varies in every group."""
    return sum(character in VOWELS for character in text) / max(len(text), 1)
