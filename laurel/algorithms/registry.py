"""Methods by name, for recipes and the command line: the signature of a method is the list of its settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from laurel.algorithms.algorithm import Algorithm
from laurel.algorithms.critic_methods import ppo, turn_ppo
from laurel.algorithms.methods import clone, dapo, dr_grpo, grpo, reinforce, remax, rloo
from laurel.algorithms.ratio_methods import cispo, gspo, reinforce_plus_plus
from laurel.errors import ConfigurationError, unknown_key

METHODS: Mapping[str, Callable[..., Algorithm]] = MappingProxyType(
    {
        method.__name__: method
        for method in (
            cispo,
            clone,
            dapo,
            dr_grpo,
            grpo,
            gspo,
            ppo,
            reinforce,
            reinforce_plus_plus,
            remax,
            rloo,
            turn_ppo,
        )
    }
)


def settings(name: str) -> dict[str, Any]:
    """The settings of a method and their defaults: every setting has one.

    Raises:
        ConfigurationError: no method has this name; names the nearest.
    """
    if name not in METHODS:
        raise unknown_key("algorithm", name, METHODS)
    return {key: parameter.default for key, parameter in inspect.signature(METHODS[name]).parameters.items()}


def named(name: str, chosen: Mapping[str, Any] | None = None) -> Algorithm:
    """The method of this name with these settings; the others keep their defaults.

    Raises:
        ConfigurationError: an unknown method or setting (names the nearest), or one of the wrong type.
    """
    chosen = dict(chosen or {})
    known = settings(name)
    for key in chosen:
        if key not in known:
            raise unknown_key(f"algorithm '{name}'", key, known)
    annotations = inspect.get_annotations(METHODS[name], eval_str=True)
    for key, value in chosen.items():
        _check_type(name, key, value, annotations[key])
    return METHODS[name](**chosen)


def _check_type(name: str, key: str, value: object, annotation: Any) -> None:
    """A setting must be of its own type; an int is a float too, a bool is never a number."""
    allowed = getattr(annotation, "__args__", (annotation,))
    if float in allowed:
        allowed = (*allowed, int)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        wanted = " or ".join("nothing" if kind is type(None) else kind.__name__ for kind in dict.fromkeys(allowed))
        raise ConfigurationError(f"algorithm '{name}': '{key}' must be {wanted}, got {value!r}.")
