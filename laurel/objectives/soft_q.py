"""Inverse soft Q-learning: a policy's own logits as the soft Q-function of a reward that demonstrations maximise.

For the logits z(s, .) of a policy, Q(s, a) = z(s, a) and V(s) = logsumexp z(s, .), so that log pi(a|s) = Q - V: the
policy is the maximum-entropy optimum of the reward that its logits imply,

    r(s, a) = Q(s, a) - gamma V(s') = log pi(a|s) + V(s) - gamma V(s'),      V = 0 where the answer has ended.

Among all Q the demonstrations E choose the one with the greatest

    E_E[phi(r)] - (1 - gamma) E[V(first s)],     phi(x) = x - lambda x^2      (chi-squared; lambda = 1/(4 alpha))

Along demonstrations V telescopes, (1 - gamma) E[V(first s)] = E_E[V(s) - gamma V(s')], which leaves
E_E[log pi(a|s) - lambda r(s, a)^2]: cloning with a penalty on the temporal difference of the logits.

Source: Garg et al. 2021 (IQ-Learn), arXiv 2106.12142; Wulfmeier et al. 2024, arXiv 2409.01369.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from laurel.errors import ConfigurationError
from laurel.objectives.batch import TokenBatch


def implied_rewards(
    log_probs: torch.Tensor, values: torch.Tensor, rollout: torch.Tensor, *, discount: float = 1.0
) -> torch.Tensor:
    """r_t = log pi(a_t|s_t) + V(s_t) - gamma V(s_(t+1)), with V = 0 after the last token of a rollout. [N].

    At gamma = 1 the rewards of a whole answer sum to log pi(answer) + V(prompt).

    Args:
        log_probs: [N] of the tokens that were written.
        values: [N] V, the logsumexp of the logits that each was drawn from.
        rollout: [N] which rollout each belongs to; the tokens of one stand together, in order.
        discount: gamma.

    Example: one answer of two tokens, log_probs (-1, -2), values (3, 5), gamma 1: (-1 + 3 - 5, -2 + 5) = (-3, 3).
    """
    follows = torch.cat([rollout[1:] == rollout[:-1], torch.zeros_like(rollout[:1], dtype=torch.bool)])
    after = torch.where(follows, values.roll(-1), torch.zeros_like(values))
    return log_probs + values - discount * after


@dataclass(frozen=True)
class InverseSoftQ:
    """loss_t = -log pi(a_t|s_t) + lambda r_t^2, with r_t of `implied_rewards`: IQ-Learn on demonstrations. [N].

    At lambda = 0 it is cloning. Above it the policy that it rests at has the occupancy rho_E (1 - 2 lambda r): that of
    the expert, leaned towards what the reward calls worse, so that no reward has to be large.

    Attributes:
        regulariser: lambda, not negative, per squared unit of the reward; a unit of the reward is a nat.
        discount: gamma, in [0, 1].

    Diagnostics: `iq_learn/reward`, the mean of r; `iq_learn/squared_reward`; `cloning/token_probability`.
    """

    regulariser: float = 0.1
    discount: float = 1.0

    corrects_reuse = True
    needs_normaliser = True

    def __post_init__(self) -> None:
        if not 0 <= self.regulariser < float("inf"):
            raise ConfigurationError(
                f"The regulariser of the reward must be finite and not negative, got {self.regulariser!r}.",
                hint="0 is cloning; try 0.1.",
            )
        if not 0 <= self.discount <= 1:
            raise ConfigurationError(f"The discount must lie in [0, 1], got {self.discount!r}.", hint="1 is none.")

    def __call__(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if batch.log_normaliser is None:
            raise ConfigurationError(
                "Inverse soft Q-learning reads the normaliser of the logits, and there is none.",
                hint="score the tokens by laurel.policy.Policy.token_scores.",
            )
        rewards = implied_rewards(batch.log_probs, batch.log_normaliser, batch.rollout, discount=self.discount)
        squares = rewards.square()
        diagnostics = {
            "iq_learn/reward": rewards.detach(),
            "iq_learn/squared_reward": squares.detach(),
            "cloning/token_probability": batch.log_probs.detach().exp(),
        }
        return self.regulariser * squares - batch.log_probs, diagnostics
