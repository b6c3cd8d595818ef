"""`laurel check`: the parts of a recipe are tried on each other, whichever command it is for; nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from laurel.feedback_checks import feedback_findings, fit_findings
from laurel.findings import Checked, Finding
from laurel.fitting import fit_reward_model
from laurel.human_feedback import rlhf
from laurel.recipe import read, resolve
from laurel.recipe_target import target_of
from laurel.rewards.check import GOLD
from laurel.training import train
from laurel.training_checks import training_findings

LOOKS: dict[Callable[..., Any], Callable[[Mapping[str, Any], Any, str], list[Finding]]] = {
    train: training_findings,
    fit_reward_model: fit_findings,
    rlhf: feedback_findings,
}


def check(recipe: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, gold: str = GOLD) -> Checked:
    """Try the parts of a recipe on each other, without training.

    What is tried: `laurel.training_checks.training_findings`, and of recipes that learn from judged answers
    `laurel.feedback_checks`.

    Args:
        recipe: a file, or the keyword arguments of `laurel.train`, `laurel.fit_reward_model` or `laurel.rlhf`.
        overrides: such as "steps=10", for a file.
        gold: how a right answer is written; see `laurel.rewards.check_reward`.

    Raises:
        LaurelError: what the command would refuse before it looks at texts: keys, settings, files, a leak.
    """
    if isinstance(recipe, Mapping):
        target, arguments, policy = target_of(recipe), recipe, recipe.get("policy")
    else:
        data = {"run": f"runs/{Path(recipe).stem}", **read(recipe, overrides)}
        target = target_of(data)
        arguments, policy = resolve(data, target, leave_out=("policy",)), data["policy"]
    return Checked(tuple(LOOKS[target](arguments, policy, gold)))
