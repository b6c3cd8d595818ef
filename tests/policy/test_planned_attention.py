"""The dispatcher refuses what no plan can compute."""

from __future__ import annotations

import pytest
import torch

from laurel.errors import PolicyError
from laurel.policy import Policy
from laurel.policy.attention import attending, planned_attention

STATES = [torch.zeros(1, 1, 2, 4)] * 3


class Refuses:
    def attend(self, call: object) -> torch.Tensor:
        raise AssertionError("not reached")


def test_a_forward_pass_without_a_plan(qwen: Policy) -> None:
    with pytest.raises(PolicyError, match="outside of `attending"):
        qwen.model(torch.tensor([[1, 2]]))


@pytest.mark.parametrize(("options", "message"), [({"dropout": 0.1}, "dropout"), ({"s_aux": torch.zeros(1)}, "sinks")])
def test_dropout_and_sinks(options: dict[str, object], message: str) -> None:
    with attending(Refuses()), pytest.raises(PolicyError, match=message):
        planned_attention(torch.nn.Module(), *STATES, None, **options)  # type: ignore[arg-type]


def test_the_plan_ends_with_its_block(qwen: Policy) -> None:
    with attending(Refuses()), pytest.raises(AssertionError):
        qwen.model(torch.tensor([[1, 2]]))
    with pytest.raises(PolicyError):
        qwen.model(torch.tensor([[1, 2]]))
