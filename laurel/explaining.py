"""What a recipe would do, said before anything starts, whichever command it is for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from laurel.fitting import fit_reward_model
from laurel.fitting_plan import fit_account
from laurel.human_feedback import rlhf
from laurel.human_feedback_plan import feedback_account
from laurel.page import Page
from laurel.plan import training_account
from laurel.recipe import load, read
from laurel.recipe_target import target_of
from laurel.training import train

ACCOUNTS: dict[Callable[..., Any], Callable[[Mapping[str, Any]], RenderableType]] = {
    train: training_account,
    fit_reward_model: fit_account,
    rlhf: feedback_account,
}


def explain(recipe: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Page:
    """A readable account of what a recipe would do.

    Args:
        recipe: a file, or the keyword arguments of `laurel.train`, `laurel.fit_reward_model` or `laurel.rlhf`.
        overrides: such as "steps=10", for a file.

    Raises:
        LaurelError: what training would refuse before it starts.
    """
    if isinstance(recipe, Mapping):
        target, arguments = target_of(recipe), recipe
    else:
        target = target_of(read(recipe, overrides))
        arguments = load(recipe, overrides, target)
    return Page(ACCOUNTS[target](arguments))
