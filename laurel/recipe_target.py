"""What a recipe is for: its keys say so, as no two of these calls share all of theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from laurel.fitting import fit_reward_model
from laurel.human_feedback import rlhf
from laurel.preferences import SOURCES, PreferenceSet
from laurel.recipe import defaults_of
from laurel.training import train

TARGETS: tuple[Callable[..., Any], ...] = (train, rlhf, fit_reward_model)


def target_of(data: Mapping[str, Any]) -> Callable[..., Any]:
    """The call whose arguments these are: `laurel.train`, `laurel.fit_reward_model` or `laurel.rlhf`.

    The first of train, rlhf and fit_reward_model is meant that alone knows one of the keys. Where several know all of
    them, judged answers are fitted to, and anything else is trained on.

    Args:
        data: the data of a recipe, or keyword arguments.
    """
    keys = {target: set(defaults_of(target)) for target in TARGETS}
    for target in TARGETS:
        others = set().union(*(names for other, names in keys.items() if other is not target))
        if data.keys() & (keys[target] - others):
            return target
    return fit_reward_model if _judged(data.get("tasks")) else train


def _judged(tasks: Any) -> bool:
    return isinstance(tasks, PreferenceSet) or (isinstance(tasks, Mapping) and tasks.get("name") in SOURCES)
