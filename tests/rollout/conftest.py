"""Fixtures: a small policy to sample from."""

import pytest
import torch
from sampling_checks import ALPHABET

from laurel.policy import Policy, tiny


@pytest.fixture(scope="session")
def policy() -> Policy:
    """A tiny policy that ends an answer after about 14 tokens, and has logits far from uniform."""
    made = tiny(alphabet=ALPHABET, hidden_size=32, layers=2, heads=4, context_length=160, seed=3)
    with torch.no_grad():
        made.model.get_input_embeddings().weight.mul_(3)
    return made
