"""A recipe is the call of `laurel.train` as data: the same names, read from YAML, with every key checked.

The signature of `laurel.train` and of the named components (policies, task sources, rewards, environments, methods)
*is* the schema: there is no second list of keys and no second home of a default.

    policy: {name: tiny, hidden_size: 64}      # or a hub name or directory
    tasks: {name: jsonl, path: train.jsonl, prompt: question, reference: answer}
    reward: numeric_answer                     # or package.module:function
    algorithm: {name: grpo, clip: 0.2}
    steps: 200
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
import yaml

from laurel.errors import ConfigurationError, unknown_key

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def read(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The data of a recipe file with `key=value` overrides applied (dots reach inside: `algorithm.clip=0.3`).

    Strings may name environment variables as `${NAME}` or `${NAME:-default}`.

    Raises:
        ConfigurationError: if the file is missing, is not a YAML mapping, or an override has no `=`.
    """
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"Cannot read the recipe {path}: {error.strerror}.", hint="check the path.") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not YAML: {error}", hint="mend the line that is named.") from error
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path} holds no mapping of keys to values.", hint="start with 'policy: ...'.")
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator:
            raise ConfigurationError(f"'{override}' is no override.", hint="write key=value, such as steps=10.")
        _place(data, key.split("."), yaml.safe_load(value), override)
    return typing.cast(dict[str, Any], _expand(data, ""))


def resolve(data: Mapping[str, Any], target: Callable[..., Any], *, leave_out: Sequence[str] = ()) -> dict[str, Any]:
    """Keyword arguments for `target` (in practice `laurel.train`) from the data of a recipe.

    Args:
        leave_out: components that are checked for being there, but not built (a policy, when only rewards matter).

    Raises:
        ConfigurationError: for an unknown key, a missing one or a value of the wrong kind, naming the nearest key.
    """
    registries = {key: registry for key, registry in _registries().items() if key not in leave_out}
    built = arguments("recipe", target, data, components=registries, unchecked=leave_out)
    return {key: value for key, value in built.items() if key not in leave_out}


def arguments(
    kind: str,
    target: Callable[..., Any],
    settings: Mapping[str, Any],
    components: Mapping[str, Mapping[str, Callable[..., Any]]] | None = None,
    unchecked: Sequence[str] = (),
) -> dict[str, Any]:
    """Check `settings` against the signature of `target` and convert every value to its annotated type."""
    parameters = inspect.signature(target).parameters
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    resolved: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in parameters:
            raise unknown_key(kind, str(key), parameters)
        registry = (components or {}).get(key)
        if key in unchecked:
            resolved[key] = value
        elif registry is not None:
            resolved[key] = component(key, registry, value)
        else:
            resolved[key] = _convert(f"{kind}: {key}", hints.get(key, Any), value)
    for name, parameter in parameters.items():
        required = parameter.default is inspect.Parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        if required and name not in resolved:
            raise ConfigurationError(f"{kind}: the key '{name}' is missing.", hint=f"add '{name}: ...'.")
    return resolved


def component(kind: str, registry: Mapping[str, Callable[..., Any]], value: Any) -> Any:
    """Build one named component: `name`, `{name: ..., settings}`, `module:function`, or a model's name or directory."""
    if value is None:
        return None
    if isinstance(value, str):
        if value in registry:
            value = {"name": value}
        elif kind == "policy":
            value = {"name": "load", "name_or_directory": value}
        elif ":" in value:
            return _import(kind, value)
    if not isinstance(value, Mapping) or "name" not in value:
        known = ", ".join(sorted(registry))
        raise ConfigurationError(f"{kind}: cannot understand {value!r}.", hint=f"give a name: {known}.")
    settings = dict(value)
    name = settings.pop("name")
    if name not in registry:
        if isinstance(name, str) and ":" in name:
            factory = _import(kind, name)
            return factory(**arguments(f"{kind} {name}", factory, settings))
        raise unknown_key(kind, str(name), registry)
    if name == "weighted" and isinstance(settings.get("parts"), Mapping):
        parts = {
            key: (component(kind, registry, reward), weight) for key, (reward, weight) in settings["parts"].items()
        }
        settings["parts"] = parts
    return registry[name](**arguments(f"{kind} '{name}'", registry[name], settings))


def policies() -> dict[str, Callable[..., Any]]:
    """What builds a policy, by name."""
    from laurel import policy

    return {"load": policy.load, "tiny": policy.tiny}


def _registries() -> dict[str, Mapping[str, Callable[..., Any]]]:
    from laurel import algorithms, environments, rewards, tasks

    sources = tasks.SOURCES
    return {
        "policy": policies(),
        "tasks": sources,
        "held_out": sources,
        "reward": rewards.REWARDS,
        "environment": environments.ENVIRONMENTS,
        "algorithm": algorithms.METHODS,
    }


def _convert(where: str, annotation: Any, value: Any) -> Any:
    """`value` as `annotation`; mappings become the settings dataclass that the annotation names."""
    for option in _options(annotation):
        if dataclasses.is_dataclass(option) and isinstance(option, type) and isinstance(value, Mapping):
            return option(**arguments(where, option, value))
    try:
        adapter = pydantic.TypeAdapter(annotation, config=pydantic.ConfigDict(arbitrary_types_allowed=True))
        return adapter.validate_python(value)
    except pydantic.ValidationError as error:
        reason = "; ".join(str(item["msg"]) for item in error.errors())
        raise ConfigurationError(f"{where}: {value!r} does not fit: {reason}.", hint="see `laurel explain`.") from error


def _options(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _import(kind: str, path: str) -> Any:
    module_name, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"{kind}: cannot import '{path}': {error}", hint="write package.module:function, importable from here."
        ) from error


def _expand(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _expand(item, f"{where}.{key}".strip(".")) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = os.environ.get(name, default)
        if found is None:
            raise ConfigurationError(f"{where}: the variable {name} is not set.", hint=f"export {name}=...")
        return found

    return _VARIABLE.sub(replace, value)


def _place(data: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    for key in keys[:-1]:
        inner = data.get(key)
        if isinstance(inner, str):
            data[key] = inner = {"name": inner}
        if inner is None:
            data[key] = inner = {}
        if not isinstance(inner, dict):
            raise ConfigurationError(f"'{override}': '{key}' holds a value, not keys.", hint="replace it as a whole.")
        data = inner
    data[keys[-1]] = value
