"""Every method that learns from judged answers comes to like the right one best: after a letter, the next one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import laurel
from laurel.algorithms import Algorithm
from laurel.policy import Policy, pack
from laurel.preferences import PreferenceSet, pairs, thumbs
from laurel.tree import FloatArray, Segment, Source, Tree

LETTERS = "abcd"
FOLLOWING = dict(zip(LETTERS, LETTERS[1:] + LETTERS[0], strict=True))
LIKED = 0.8
METHODS: dict[str, Algorithm] = {
    "dpo": laurel.dpo(),
    "conservative": laurel.dpo(label_smoothing=0.1),
    "robust": laurel.dpo(label_smoothing=0.1, robust=True),
    "ipo": laurel.ipo(),
    "kto": laurel.kto(),
    "orpo": laurel.orpo(weight=1.0),
    "simpo": laurel.simpo(),
}


def judged(kind: str) -> PreferenceSet:
    """The right letter against each of the others, or each by itself with a thumb."""
    wrong = [(letter, other) for letter in LETTERS for other in LETTERS if other != FOLLOWING[letter]]
    if kind == "pairs":
        return pairs(rows=[{"prompt": f"{one}>", "chosen": FOLLOWING[one], "rejected": other} for one, other in wrong])
    rows = [{"prompt": f"{letter}>", "completion": FOLLOWING[letter], "label": True} for letter in LETTERS]
    return thumbs(rows=rows + [{"prompt": f"{one}>", "completion": other, "label": False} for one, other in wrong])


@torch.no_grad()
def among_letters(policy: Policy, letter: str) -> FloatArray:
    """How likely each letter is, among the four, as the answer to one."""
    segments = [Segment(Source.PROMPT, policy.encode_prompt(f"{letter}>"), -1)]
    segments += [Segment(Source.POLICY, policy.encode_answer(answer), 0) for answer in LETTERS]
    tree = Tree(letter, letter, tuple(segments))
    log_probs = policy.token_scores(pack([tree], [tree.flat.policy])).log_probs.double()
    return np.asarray(torch.softmax(log_probs.reshape(len(LETTERS), -1).sum(1), 0))


@pytest.mark.parametrize(("name", "kind"), [*((name, "pairs") for name in METHODS), ("kto", "thumbs")])
def test_a_method_likes_what_was_liked(name: str, kind: str, tmp_path: Path) -> None:
    shape = {"hidden_size": 32, "layers": 1, "heads": 2, "context_length": 4}
    policy = laurel.policy.tiny(alphabet=f"{LETTERS}>", initial_scale=0.15, seed=1, **shape)  # type: ignore[arg-type]
    right = {letter: LETTERS.index(FOLLOWING[letter]) for letter in LETTERS}
    assert np.mean([among_letters(policy, letter)[right[letter]] for letter in LETTERS]) < 0.5
    laurel.train(
        policy=policy,
        tasks=judged(kind),
        algorithm=METHODS[name],
        steps=40,
        prompts_per_step=8,
        optimiser=laurel.OptimiserSettings(learning_rate=5e-3, betas=(0.9, 0.99)),
        checkpoint_every=40,
        seed=1,
        run=tmp_path / "run",
    )
    for letter in LETTERS:
        liked = among_letters(policy, letter)
        assert liked.argmax() == right[letter] and liked.max() > LIKED, (letter, liked)
