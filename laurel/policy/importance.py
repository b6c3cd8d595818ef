"""How much the end of a rollout attends to each of its tokens: a cheap guess at what its value rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from laurel.errors import ConfigurationError
from laurel.policy.attention import AttentionPlan, LayerCall
from laurel.policy.packed import pack
from laurel.policy.policy import Policy
from laurel.policy.reward_model import answer_ends
from laurel.policy.tree_attention import TreeAttention
from laurel.tree import FloatArray, Source, Tree


@dataclass
class WatchedAttention:
    """A plan that also keeps what some tokens attend to, averaged over heads, and summed over layers.

    Attributes:
        plan: computes the attention itself.
        paths: for each watched token the tokens from the root to itself, in the packed row.
        weights: what was seen so far, one array per watched token.
        layers: how many layers have called.
    """

    plan: AttentionPlan
    paths: Sequence[Tensor]
    weights: list[Tensor] = field(default_factory=list)
    layers: int = 0

    def attend(self, call: LayerCall) -> Tensor:
        """See `AttentionPlan`."""
        seen = [self._seen(call, path) for path in self.paths]
        self.weights = seen if not self.weights else [old + new for old, new in zip(self.weights, seen, strict=True)]
        self.layers += 1
        return self.plan.attend(call)

    def _seen(self, call: LayerCall, path: Tensor) -> Tensor:
        """[n] softmax of the last token's scores over its path, the mean over heads."""
        groups = call.query.shape[1] // call.key.shape[1]
        query, keys = call.query[0, :, path[-1]], call.key[0].index_select(1, path).repeat_interleave(groups, 0)
        scores = torch.einsum("hd,hnd->hn", query.float(), keys.float()) * call.scale
        if call.softcap is not None:
            scores = torch.tanh(scores / call.softcap) * call.softcap
        if call.window is not None and call.window < len(path):
            scores[:, : len(path) - call.window] = -torch.inf
        return torch.softmax(scores, -1).mean(0).double()


@torch.no_grad()
def attention_importance(trunk: Policy, tree: Tree) -> list[FloatArray]:
    """For every leaf of a tree, in order, the attention of its last token to the tokens of its path: [n], sum 1.

    The mean over heads and over the layers that attend; their weights are those of the forward pass.

    Raises:
        ConfigurationError: no layer of the model attends.
    """
    packed = pack([tree], [np.zeros(len(tree.flat), np.bool_)], trunk.device)
    starts, ends = tree.flat.starts, tree.flat.ends
    paths = [np.concatenate([np.arange(starts[s], ends[s]) for s in tree.path(leaf)]) for leaf in tree.leaves]
    assert [path[-1] for path in paths] == answer_ends([tree], [tree.leaves]).tolist()
    watched = WatchedAttention(TreeAttention.of(packed), [torch.from_numpy(path).to(trunk.device) for path in paths])
    trunk.hidden_states(packed.tokens, packed.positions, watched)
    if not watched.layers:
        raise ConfigurationError(f"No layer of {trunk.name} attends to tokens.", hint="take a transformer.")
    return [np.asarray((weights / watched.layers).cpu()) for weights in watched.weights]


def step_importance(tree: Tree, leaf: int, importance: FloatArray) -> FloatArray:
    """The sums over each policy segment of a path, in order; what prompts and environments said is left out.

    Args:
        importance: [n] of the path's tokens.
    """
    segments = [tree.segments[index] for index in tree.path(leaf)]
    sums = np.add.reduceat(importance, np.cumsum([0, *(len(segment) for segment in segments[:-1])]))
    return np.asarray(sums[[segment.source is Source.POLICY for segment in segments]])
