"""Single tokens from prepared weights are those from live ones, and never those from old ones."""

from __future__ import annotations

import pytest
import torch
from llama_like import FAMILIES, llama_like
from torch import Tensor

from laurel.errors import PolicyError
from laurel.policy import Policy, fused_decoding
from laurel.policy.attention import LayerCall


@pytest.fixture(params=FAMILIES)
def policy(request: pytest.FixtureRequest) -> Policy:
    return llama_like(request.param)


class _Products:
    """Not an attention, but every number of queries, keys and values is in it, and rows do not mix."""

    def attend(self, call: LayerCall) -> Tensor:
        groups = call.query.shape[1] // call.key.shape[1]
        key, value = (part.repeat_interleave(groups, 1) for part in (call.key, call.value))
        return (value + (call.query * key).sum(-1, keepdim=True) * call.scale * value).transpose(1, 2)


def _states(policy: Policy) -> Tensor:
    tokens = torch.arange(5).unsqueeze(1)
    with torch.no_grad():
        return policy.hidden_states(tokens, torch.tensor([[3], [0], [60], [7], [7]]), _Products())


@pytest.mark.parametrize("largest_table", [0, fused_decoding.LARGEST_TABLE])
def test_states_are_those_from_live_weights(
    policy: Policy, largest_table: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_decoding, "LARGEST_TABLE", largest_table)
    live = _states(policy)
    with policy.decoding():
        prepared = _states(policy)
    assert not torch.equal(prepared, live)  # the folded weights round differently: they were in use
    torch.testing.assert_close(prepared, live, rtol=0, atol=2e-5)
    assert torch.equal(_states(policy), live)


def test_new_weights_are_prepared_anew_and_old_ones_refuse(policy: Policy) -> None:
    parameter = policy.model.get_decoder().layers[1].mlp.up_proj.weight
    with policy.decoding():
        before = _states(policy)
        with torch.no_grad():
            parameter.mul_(2)
        with pytest.raises(PolicyError, match="changed while experience"):
            _states(policy)
    with policy.decoding():
        after = _states(policy)
    assert not torch.allclose(before, after, atol=1e-2)
    torch.testing.assert_close(after, _states(policy), rtol=0, atol=2e-5)


def test_large_models_are_not_copied(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_decoding, "LARGEST_COPY", 1000)
    live = _states(policy)
    with policy.decoding():
        assert torch.equal(_states(policy), live)
