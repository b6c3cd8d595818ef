"""A reward model with a potential: beside the reward of an answer, a number for every state on the way to it.

    reward(answer) = head_weight . hidden(last token)             as in `RewardModel`
    potential(t)   = potential_weight . hidden(t) + potential_bias

The potential shapes (`laurel.objectives.ShapedDiscriminator`): it says where a reward comes about, and changes no
optimum. It is kept beside the files of the reward model, which are complete without it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from laurel.errors import PolicyError
from laurel.policy.packed import Packed
from laurel.policy.policy import Policy
from laurel.policy.reward_files import export_reward_model, load_reward_model
from laurel.policy.reward_model import HEAD, RewardModel
from laurel.tree import IntArray

RECOVERED = "recovered.json"
"""What tells how a saved reward was recovered, beside its files."""

_POTENTIAL = "potential.safetensors"
_WEIGHT, _BIAS = "potential_head.weight", "potential_head.bias"


class ShapedRewardModel(RewardModel):
    """At first every reward and every potential is 0.

    Attributes:
        potential_weight, potential_bias: [1, D] and [1].
    """

    def __init__(self, trunk: Policy, *, learns_trunk: bool = True) -> None:
        super().__init__(trunk, learns_trunk=learns_trunk)
        self.potential_weight, self.potential_bias = self.zeros(1, self.width), self.zeros(1)
        self.read_by = {HEAD: self.head, _WEIGHT: self.potential_weight, _BIAS: self.potential_bias}

    def rewards_and_potentials(self, packed: Packed, ends: IntArray, rows: IntArray) -> tuple[Tensor, Tensor]:
        """[R] rewards of the answers that end at `ends` [R], and [P] potentials after the tokens at `rows` [P].

        Raises:
            PolicyError: when a path is longer than the context of the trunk.
        """
        asked, place = torch.unique(torch.from_numpy(np.concatenate([ends, rows])), return_inverse=True)
        hidden = self.hidden_states(packed, asked.to(self.device)).to(self.head.dtype)
        place = place.to(self.device)
        read = hidden @ torch.cat([self.head, self.potential_weight]).T
        return read[place[: len(ends)], 0], read[place[len(ends) :], 1] + self.potential_bias


def export_recovered(model: RewardModel, directory: str | Path, about: dict[str, Any]) -> None:
    """Write a recovered reward as a reward model, with its potential and what it was recovered by beside it.

    All of it is written before any of it is put in place; what was there is replaced.

    Args:
        about: JSON-able.

    Raises:
        PolicyError: see `export_reward_model`.
    """
    directory = Path(directory)
    beside = directory.with_name(f".{directory.name}.partial")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        export_reward_model(model, beside)
        if isinstance(model, ShapedRewardModel):
            kept = {_WEIGHT: model.potential_weight, _BIAS: model.potential_bias}
            save_file({name: part.detach().cpu().contiguous() for name, part in kept.items()}, beside / _POTENTIAL)
        (beside / RECOVERED).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        shutil.rmtree(directory, ignore_errors=True)
        beside.rename(directory)
    except OSError as error:
        raise PolicyError(f"Cannot write {directory}: {error}.", hint="choose another directory.") from error


def load_recovered(directory: str | Path, *, device: str | torch.device = "auto") -> tuple[RewardModel, dict[str, Any]]:
    """A recovered reward, with its potential where it has one, and what it was recovered by.

    Raises:
        PolicyError: the directory holds none.
    """
    directory = Path(directory)
    try:
        about = json.loads((directory / RECOVERED).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PolicyError(
            f"{directory} holds no recovered reward: {error}.",
            hint="give the directory `model` of a run of gail, airl or max_ent_irl.",
        ) from error
    plain = load_reward_model(directory, device=device)
    if not (directory / _POTENTIAL).is_file():
        return plain, about
    shaped = ShapedRewardModel(plain.trunk)
    kept = load_file(directory / _POTENTIAL)
    with torch.no_grad():
        shaped.head.copy_(plain.head)
        shaped.potential_weight.copy_(kept[_WEIGHT])
        shaped.potential_bias.copy_(kept[_BIAS])
    return shaped, about
