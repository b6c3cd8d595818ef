"""How many tokens one pass holds: by hand, and what was wanted bounds everything."""

from __future__ import annotations

import torch

from laurel.learner.pass_tokens import TOKENS_PER_MICROBATCH, PassTokens


def test_by_hand() -> None:
    assert PassTokens.of(None, torch.device("cpu")) == PassTokens(2048, 4096)
    assert PassTokens.of(640, torch.device("cpu")) == PassTokens(640, 640)


def test_a_device_without_a_size_of_its_own_has_that_of_cuda() -> None:
    assert PassTokens.of(None, torch.device("meta")).together == TOKENS_PER_MICROBATCH["cuda"]
