"""The reward that a policy's own logits imply, read token by token, and paid to another policy.

    r_t = Q(s_t, a_t) - gamma V(s_(t+1)),     Q = the logit of the token, V = logsumexp of the logits
    V(s_(t+1)) = 0 after the end of an answer; where a limit cut it off, what its last state is worth

See `laurel.objectives.InverseSoftQ`, which fits a policy so that this reward explains demonstrations. At gamma = 1 the
rewards of a whole answer sum to log pi(answer) + V(prompt): a constant of the prompt above its log-probability.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch

from laurel.errors import PolicyError
from laurel.policy.learned_reward import LearnedReward
from laurel.policy.load import load
from laurel.policy.log_probs import CHUNK_ELEMENTS
from laurel.policy.packed import pack
from laurel.policy.policy import Policy
from laurel.policy.reward_model import RewardModel
from laurel.policy.tree_attention import TreeAttention
from laurel.tree import Ending, FloatArray, Rollout, Source, Tree


class SoftQ:
    """A policy as the soft Q-function that it is.

    Attributes:
        trunk: the policy; only read.
        discount: gamma.
    """

    def __init__(self, trunk: Policy, discount: float = 1.0) -> None:
        self.trunk = trunk
        self.discount = discount

    @property
    def device(self) -> torch.device:
        return self.trunk.device

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all weights of the policy as they are now."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.trunk.model.named_parameters()):
            plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(f"{name}/{tensor.dtype}/{list(tensor.shape)}\n".encode() + plain.numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def token_rewards(self, trees: Sequence[Tree]) -> list[list[FloatArray]]:
        """r_t of the policy tokens of every rollout of every tree, in their order on the path."""
        packed = pack(trees, [np.zeros(len(tree.flat), np.bool_) for tree in trees], self.device)
        hidden = self.trunk.hidden_states(packed.tokens, packed.positions, TreeAttention.of(packed))
        offsets = np.cumsum([0, *(len(tree.flat) for tree in trees)])
        parents = np.concatenate([t.flat.parent + start for t, start in zip(trees, offsets[:-1], strict=True)])
        tokens = np.concatenate([tree.flat.tokens for tree in trees])
        chosen, values = np.zeros(len(tokens)), np.zeros(len(tokens))
        size = max(1, CHUNK_ELEMENTS // self.trunk.vocabulary_size)
        for start in range(0, len(tokens), size):
            logits = self.trunk.logits(hidden[start : start + size])
            values[start : start + size] = torch.logsumexp(logits, 1).double().cpu().numpy()
            read = np.flatnonzero((parents >= start) & (parents < start + size))
            places = (torch.from_numpy(parents[read] - start), torch.from_numpy(tokens[read]))
            chosen[read] = logits[places[0].to(logits.device), places[1].to(logits.device)].double().cpu().numpy()
        return [
            [self._of_rollout(rollout, chosen[start:end], values[start:end]) for rollout in tree.rollouts]
            for tree, start, end in zip(trees, offsets[:-1], offsets[1:], strict=True)
        ]

    def _of_rollout(self, rollout: Rollout, chosen: FloatArray, values: FloatArray) -> FloatArray:
        """Args: chosen, values: [T] the logit of each token of the tree, and V after it."""
        flat = rollout.tree.flat
        written = np.concatenate(
            [
                np.arange(flat.starts[segment], flat.ends[segment])
                for segment in rollout.tree.path(rollout.leaf)
                if rollout.tree.segments[segment].source is Source.POLICY
            ]
            or [np.empty(0, np.int64)]
        )
        if rollout.outcome is None:
            cut = int(flat.tokens[flat.ends[rollout.leaf] - 1]) not in self.trunk.end_ids
        else:
            cut = rollout.outcome.ending is Ending.TRUNCATED
        after = [values[flat.ends[rollout.leaf] - 1] if cut else 0.0]
        following = np.concatenate([values[flat.parent[written[1:]]], after])[: len(written)]
        rewards: FloatArray = chosen[written] - self.discount * following
        return rewards


class SoftQReward(LearnedReward):
    """reward(task, rollout) = the sum of r_t over what the policy wrote, r of the soft Q-function that `policy` is.

        reward: {name: soft_q, policy: expert-like}                          in a recipe, or
        laurel.train(..., reward=laurel.policy.SoftQReward("expert-like"))   in Python

    Args:
        policy: a policy, or the hub name or directory of one; nothing here changes it.
        discount: gamma, as it was fitted with.
        writer: as in `LearnedReward`.
    """

    def __init__(self, policy: Policy | str | Path, *, discount: float = 1.0, writer: Policy | None = None) -> None:
        made = policy if isinstance(policy, Policy) else load(str(policy))
        self.soft_q = SoftQ(made, discount)
        super().__init__(cast(RewardModel, self.soft_q), writer=writer)

    @property
    def description(self) -> dict[str, object]:
        """What a run records of it: `soft_q` makes it again from this, where the policy lies in a directory."""
        read = {"policy": self.soft_q.trunk.name, "discount": self.soft_q.discount}
        return {"type": type(self).__name__, **read, "fingerprint": self.soft_q.fingerprint}

    def read_for(self, writer: Policy) -> SoftQReward:
        return SoftQReward(self.soft_q.trunk, discount=self.soft_q.discount, writer=writer)

    def read(self, trees: Sequence[Tree], segments: Sequence[Sequence[int]]) -> list[float]:
        return [
            float(rewards[tree.leaves.index(leaf)].sum())
            for tree, rewards, leaves in zip(trees, self.soft_q.token_rewards(trees), segments, strict=True)
            for leaf in leaves
        ]


def soft_q(policy: str | Path, discount: float = 1.0, fingerprint: str | None = None) -> SoftQReward:
    """The reward whose soft Q-function the logits of a policy are, as `iq_learn` fits it (`SoftQReward`).

    Args:
        policy: hub name or directory of a policy that iq_learn fitted (`laurel export` writes one).
        discount: gamma, as it was fitted with.
        fingerprint: what the weights must be (as a run records them); None: whatever they are.

    Raises:
        PolicyError: it cannot be loaded, or its weights are others.
    """
    made = SoftQReward(policy, discount=discount)
    if fingerprint not in (None, made.soft_q.fingerprint):
        raise PolicyError(
            f"{policy} holds another policy than it did when the run was recorded.",
            hint="put the one that was used back, or start a new run.",
        )
    return made
