"""Fitting a reward model to judged answers: the learner's packing, micro-batches and optimiser, another loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from laurel.credit import labelled_steps
from laurel.errors import LearnerError
from laurel.learner.batching import Microbatch, whole_trees
from laurel.learner.kept import below
from laurel.learner.optimiser import Optimiser, OptimiserSettings
from laurel.learner.pass_tokens import PassTokens
from laurel.learner.work import packed_row
from laurel.metrics import Metric
from laurel.objectives.reward_models import RewardBatch, RewardObjective, reads_steps
from laurel.policy import RewardModel, answer_ends
from laurel.preferences import Calibration, calibration
from laurel.tree import FloatArray, Score, Tree

_WEIGHTS, _MOMENTS, _OWN = "weights.", "optimiser.", "objective"
_NAMES_IN_ERRORS = 8


@dataclass(frozen=True)
class RewardReport:
    """How a reward model did on judged answers that it was asked about.

    Attributes:
        loss: per prompt.
        accuracy: the share of judgements that it held most likely.
        calibration: its confidence against that, in bins.
        by_prompt: that share for each prompt.
    """

    loss: Metric
    accuracy: Metric
    calibration: Calibration
    by_prompt: tuple[float, ...]

    @property
    def metrics(self) -> dict[str, Metric]:
        """`reward_model/loss`, `reward_model/accuracy` and `reward_model/calibration_error`."""
        return {
            "reward_model/loss": self.loss,
            "reward_model/accuracy": self.accuracy,
            "reward_model/calibration_error": Metric(self.calibration.error, 1.0),
        }


class RewardLearner:
    """Fits a reward model to trees whose leaves are answers that somebody judged (`laurel.judged.comparison`).

    One optimiser step minimises the mean over prompts of `objective.losses`. A tree stays in one micro-batch, and what
    each prompt counts is fixed before: no split changes the gradient. Leaves without a score are left out. An objective
    of steps (`laurel.objectives.StepLabels`) reads `laurel.credit.labelled_steps` in place of leaves.

    Args:
        model: what is fitted.
        objective: the likelihood of what the scores say; its own parameters are fitted too.
        optimiser: learning rate, clipping, schedule; None: the defaults.
        total_steps: of the whole fit, for schedules.
        tokens_per_microbatch: how many distinct tokens one forward pass holds (only a single tree exceeds it).
    """

    def __init__(
        self,
        model: RewardModel,
        objective: RewardObjective,
        optimiser: OptimiserSettings | None = None,
        *,
        total_steps: int | None = None,
        tokens_per_microbatch: int | None = None,
    ) -> None:
        self.model = model
        self.objective = objective
        self.own = torch.nn.Parameter(objective.start().to(model.device))
        parameters = model.trainable_parameters() | ({_OWN: self.own} if len(self.own) else {})
        self._optimiser = Optimiser(parameters, optimiser or OptimiserSettings(), total_steps=total_steps)
        self._together = PassTokens.of(tokens_per_microbatch, model.device).together

    def update(self, trees: Sequence[Tree]) -> dict[str, Metric]:
        """One optimiser step on these prompts.

        Returns:
            `reward_model/loss`, `reward_model/accuracy` (before the step), `reward_model/gradient_norm`, and
            `reward_model/without_signal`, the fraction of prompts whose scores say nothing.

        Raises:
            LearnerError: if a score is none that the objective can read, or a loss or gradient is not finite; the
                model is then as it was before.
        """
        taught = self._taught(trees)
        silent = {"reward_model/without_signal": Metric(float(len(trees) - len(taught)), float(len(trees)))}
        if not taught:
            self._optimiser.leave_out(1)
            return silent
        optimiser = self._optimiser
        optimiser.clear_gradients()
        total, correct = 0.0, []
        batches = whole_trees(taught, self._together)
        for micro in batches:
            batch = self._rewards(micro)
            loss = self.objective.losses(batch, self.own).sum() / len(taught)
            torch.autograd.backward(loss)
            optimiser.gather_gradients()
            total += float(loss.detach())
            correct += self.objective.predictions(_detached(batch), self.own.detach()).correct.tolist()
        norm = float(optimiser.gradient_norm())
        if not np.isfinite([total, norm]).all():
            optimiser.clear_gradients()
            names = ", ".join(tree.task_id for tree in taught[:_NAMES_IN_ERRORS])
            raise LearnerError(
                f"The reward model's loss ({total}) or gradient ({norm}) is not finite, among the tasks {names}.",
                hint="resume from the last checkpoint with a smaller learning rate.",
            )
        optimiser.step(norm)
        return silent | {
            "reward_model/loss": Metric(total * len(taught), float(len(taught))),
            "reward_model/accuracy": Metric.of(correct),
            "reward_model/gradient_norm": Metric(norm, 1.0),
        }

    @torch.no_grad()
    def judge(self, trees: Sequence[Tree]) -> RewardReport:
        """How the model, as it is, does on judged answers; meant for those that it was not fitted to.

        Raises:
            LearnerError: if a score is none that the objective can read, or no prompt says anything.
        """
        return reported(self.objective, self.own, trees, self.rewards(trees))

    @torch.no_grad()
    def rewards(self, trees: Sequence[Tree]) -> list[FloatArray]:
        """What the model says of the leaves of each tree that have a score, in their order."""
        said: list[FloatArray] = []
        for micro in whole_trees(trees, self._together):
            sizes = [len(judged_places(self.objective, piece.tree)) for piece in micro.pieces]
            values = self._rewards(micro).rewards.cpu().numpy()
            said += np.split(values, np.cumsum(sizes)[:-1])
        return said

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
        """(tensors, JSON-able): the weights and the optimiser; the tensors are the live ones."""
        moments, counters = self._optimiser.state()
        tensors = {f"{_WEIGHTS}{name}": tensor for name, tensor in self.model.tensors().items()}
        tensors |= {f"{_MOMENTS}{name}": tensor for name, tensor in moments.items()}
        return tensors | {_OWN: self.own.detach()}, counters

    def load_state(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, int]) -> None:
        """Go on as the learner that `state` came from.

        Raises:
            LearnerError, PolicyError: if it fitted another model, or by another objective.
        """
        if _OWN not in tensors or tensors[_OWN].shape != self.own.shape:
            raise LearnerError("The saved fit has another objective.", hint="resume with that of the run.")
        self.model.load_tensors(below(_WEIGHTS, tensors))
        self._optimiser.load_state(below(_MOMENTS, tensors), state)
        with torch.no_grad():
            self.own.copy_(tensors[_OWN])

    def _taught(self, trees: Sequence[Tree]) -> list[Tree]:
        return [tree for tree in trees if _teaches(self.objective, tree)]

    def _rewards(self, micro: Microbatch) -> RewardBatch:
        trees = [piece.tree for piece in micro.pieces]
        judged = [judged_places(self.objective, tree) for tree in trees]
        ends = answer_ends(trees, [[leaf for leaf, _ in some] for some in judged])
        device = self.model.device
        return RewardBatch(
            rewards=self.model.rewards(packed_row(micro, device), ends).double(),
            scores=torch.tensor([score for some in judged for _, score in some], dtype=torch.float64, device=device),
            prompts=torch.repeat_interleave(torch.tensor([len(some) for some in judged])).to(device),
            prompt_count=len(trees),
        )


@torch.no_grad()
def reported(
    objective: RewardObjective, own: torch.Tensor, trees: Sequence[Tree], rewards: Sequence[FloatArray]
) -> RewardReport:
    """How some rewards do on judged answers, whoever gave them: one model, or several together.

    Args:
        own: the objective's own parameters.
        rewards: for each tree, of its leaves that have a score, in their order.

    Raises:
        LearnerError: if a score is none that the objective can read, or no prompt says anything.
    """
    losses: list[float] = []
    confidence: list[float] = []
    correct: list[list[float]] = []
    for tree, said in zip(trees, rewards, strict=True):
        if not _teaches(objective, tree):
            continue
        scores = torch.tensor([score for _, score in judged_places(objective, tree)], dtype=torch.float64)
        values = torch.as_tensor(said, dtype=torch.float64)
        alone = torch.zeros(len(scores), dtype=torch.int64, device=own.device)
        batch = RewardBatch(values.to(own.device), scores.to(own.device), alone, 1)
        losses += objective.losses(batch, own).tolist()
        predicted = objective.predictions(batch, own)
        confidence += predicted.confidence.tolist()
        correct.append(predicted.correct.tolist())
    if not losses:
        raise LearnerError("There is no judgement to compare with.", hint="hold out answers whose scores differ.")
    every = [one for some in correct for one in some]
    by_prompt = tuple(float(np.mean(some)) for some in correct if some)
    return RewardReport(Metric.of(losses), Metric.of(every), calibration(confidence, every), by_prompt)


def _teaches(objective: RewardObjective, tree: Tree) -> bool:
    try:
        return objective.teaches([score for _, score in judged_places(objective, tree)])
    except LearnerError as error:
        raise LearnerError(f"Task {tree.task_id}: {error.message}", hint=error.hint) from error


def judged_places(objective: RewardObjective, tree: Tree) -> list[tuple[int, float]]:
    """The segments at whose ends rewards are read (labelled steps, or scored leaves), and what was said of each."""
    if reads_steps(objective):
        return labelled_steps(tree)
    outcomes = [(leaf, tree.segments[leaf].outcome) for leaf in tree.leaves]
    return [(leaf, o.score.value) for leaf, o in outcomes if o is not None and isinstance(o.score, Score)]


def _detached(batch: RewardBatch) -> RewardBatch:
    return RewardBatch(batch.rewards.detach(), batch.scores, batch.prompts, batch.prompt_count)
