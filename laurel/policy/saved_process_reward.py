"""A saved process reward model as a reward, by name."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from laurel.errors import ConfigurationError
from laurel.policy.policy import Policy
from laurel.policy.process_reward import ProcessReward
from laurel.policy.saved_reward import SavedReward
from laurel.rewards.steps import Aggregation, check_aggregation


class SavedProcessReward(SavedReward):
    """What a saved process reward model says of every step, see `ProcessReward`.

        reward:
          name: weighted
          parts:
            right: [numeric_answer, 1.0]
            process: [{name: process_reward, model: runs/process-model}, 0.0]

    Args:
        model: a directory, or a finished run of `laurel.fit_reward_model` with the objective `step_labels`.
        aggregation: the score itself: "min", "product", "last" or "mean" of the steps; None: 0.
        fingerprint: what the files must be (as a run records them); None: whatever they are.

    Raises:
        ConfigurationError, PolicyError: as `SavedReward`; for several models.
    """

    scores_steps: ClassVar[Literal[True]] = True

    def __init__(
        self, model: str | Path, *, aggregation: Aggregation | None = None, fingerprint: str | None = None
    ) -> None:
        check_aggregation(aggregation)
        super().__init__(model, fingerprint=fingerprint)
        if len(self.directories) > 1:
            raise ConfigurationError(
                f"{model} holds {len(self.directories)} reward models.", hint="give the directory of one of them."
            )
        self.aggregation = aggregation

    @property
    def description(self) -> dict[str, Any]:
        kept = {"model": self.model, "aggregation": self.aggregation, "fingerprint": self.fingerprint}
        return {"type": type(self).__name__, **kept}

    @property
    def pays_steps_alone(self) -> bool:
        """See `laurel.rewards.steps.pays_steps_alone`."""
        return self.aggregation is None

    def read_for(self, writer: Policy | None) -> ProcessReward:
        return ProcessReward(self.models[0], aggregation=self.aggregation, writer=writer)

    @cached_property
    def _of_texts(self) -> ProcessReward:
        return self.read_for(None)
