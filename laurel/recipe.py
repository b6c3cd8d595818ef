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
import traceback
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
import yaml

from laurel.errors import ConfigurationError, LaurelError, TreeError, unknown_key

NOT_IN_RECIPES = ("progress",)
"""Arguments of `laurel.train` that only Python can give."""

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def read(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The data of a recipe file with `key=value` overrides applied (dots reach inside: `algorithm.clip=0.3`).

    Strings may name environment variables as `${NAME}` or `${NAME:-default}`.

    Raises:
        ConfigurationError: if the file is missing, is not a YAML mapping, or an override has no `=`.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"Cannot read the recipe {path}: {error.strerror}.", hint="check the path.") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"The recipe {path} is not UTF-8 text.", hint="give a YAML file.") from error
    data = _yaml(text, str(path))
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path} holds no mapping of keys to values.", hint="start with 'policy: ...'.")
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator:
            raise ConfigurationError(f"'{override}' is no override.", hint="write key=value, such as steps=10.")
        _place(data, key.split("."), _yaml(value, f"The override '{override}'"), override)
    return typing.cast(dict[str, Any], _expand(data, ""))


def load(path: str | Path, overrides: Sequence[str] = (), target: Callable[..., Any] | None = None) -> dict[str, Any]:
    """The keyword arguments that a recipe file stands for: `laurel.train(**recipe.load(path))`.

    The run is named after the file, unless the recipe names one.

    Args:
        target: what they are for; None: `laurel.train`.

    Raises:
        ConfigurationError: see `read` and `resolve`.
    """
    from laurel.training import train

    return resolve({"run": f"runs/{Path(path).stem}", **read(path, overrides)}, target or train)


def assignments(pairs: Sequence[str]) -> dict[str, Any]:
    """`key=value` pairs as data; the values are YAML.

    Raises:
        ConfigurationError: one has no `=`.
    """
    data: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise ConfigurationError(f"'{pair}' is no setting.", hint="write key=value, such as clip=0.3.")
        data[key] = _yaml(value, f"The setting '{pair}'")
    return data


def resolve(data: Mapping[str, Any], target: Callable[..., Any], *, leave_out: Sequence[str] = ()) -> dict[str, Any]:
    """Keyword arguments for `target` (in practice `laurel.train`) from the data of a recipe.

    An environment with a method `tasks` is a source of tasks too: `tasks: {name: environment, count: 512}` calls it.
    A number as `held_out` is how many of the tasks (or which fraction) are split off: see `TaskSet.split`.

    Args:
        leave_out: components that are checked for being there, but not built (a policy, when only rewards matter).

    Raises:
        ConfigurationError: for an unknown key, a missing one or a value of the wrong kind, naming the nearest key.
    """
    _meant_for(data, target)
    named = {key: registry for key, registry in registries().items() if key not in leave_out}
    for key in NOT_IN_RECIPES:
        if key in data:
            raise ConfigurationError(f"recipe: '{key}' cannot be written in a recipe.", hint="remove it.")
    ready = list(leave_out)
    if data.get("environment") is not None and "environment" in named:
        environment = component("environment", named["environment"], data["environment"])
        data = {**data, "environment": environment}
        ready.append("environment")
        if hasattr(environment, "tasks"):
            for key in {"tasks", "held_out"} & set(named):
                named[key] = {**named[key], "environment": environment.tasks}
    held_out = data.get("held_out")
    splits = isinstance(held_out, int | float) and not isinstance(held_out, bool)
    if splits:
        ready.append("held_out")
    built = arguments("recipe", target, data, components=named, unchecked=ready)
    if splits:
        built["tasks"], built["held_out"] = built["tasks"].split(held_out)
    return {key: value for key, value in built.items() if key not in leave_out}


def defaults_of(target: Callable[..., Any]) -> dict[str, Any]:
    """What the arguments of a function are when they are left out, in its order."""
    return {name: parameter.default for name, parameter in inspect.signature(target).parameters.items()}


def _meant_for(data: Mapping[str, Any], target: Callable[..., Any]) -> None:
    """Refuse a recipe of another command by that command's name, not by its first key."""
    known = inspect.signature(target).parameters
    for key, command in {"gold_reward": "rlhf", "members": "fit-reward-model", "share": "fit-reward-model"}.items():
        if key in data and key not in known and "algorithm" not in data:
            raise ConfigurationError(f"recipe: '{key}' belongs to laurel {command}.", hint=f"laurel {command} RECIPE")


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
            raise unknown_key(kind, str(key), [name for name in parameters if name not in NOT_IN_RECIPES])
        registry = (components or {}).get(key)
        if key in unchecked:
            resolved[key] = value
        elif registry is not None:
            if value is None and parameters[key].default is inspect.Parameter.empty:
                raise ConfigurationError(f"{kind}: the key '{key}' is empty.", hint=f"give it a value: '{key}: ...'.")
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
        elif "reward" in kind and (os.sep in value or Path(value).is_dir()) and ":" not in value:
            value = {"name": "reward_model", "model": value}
        elif ":" in value:
            found = _import(kind, value)
            # A reward is a function itself, and an expert may be; other components are made by one, unless they stand
            # there ready-made.
            itself = "reward" in kind or (kind == "expert" and not inspect.isclass(found)) or not callable(found)
            return found if itself else _made(f"{kind}: {value}", found, {})
    if isinstance(value, str) and kind != "policy":
        raise unknown_key(kind, value, registry)
    if not isinstance(value, Mapping) or "name" not in value:
        known = ", ".join(sorted(registry))
        raise ConfigurationError(f"{kind}: cannot understand {value!r}.", hint=f"give a name: {known}.")
    settings = dict(value)
    name = settings.pop("name")
    if name not in registry:
        if isinstance(name, str) and ":" in name:
            return _made(f"{kind} {name}", _import(kind, name), settings)
        raise unknown_key(kind, str(name), registry)
    if kind == "environment" and settings.get("environment") is not None and name in registry:
        settings["environment"] = component(kind, registry, settings["environment"])
    if name == "weighted" and isinstance(settings.get("parts"), Mapping):
        settings["parts"] = {part: _part(kind, registry, part, pair) for part, pair in settings["parts"].items()}
    if kind == "environment" and isinstance(settings.get("reward"), str | Mapping):
        settings["reward"] = component(f"{kind} '{name}': reward", rewards(), settings["reward"])
    return _made(f"{kind} '{name}'", registry[name], settings)


def _made(where: str, factory: Callable[..., Any], settings: Mapping[str, Any]) -> Any:
    """What a factory makes; an error of its settings, or of somebody else's factory, names its key."""
    values = arguments(where, factory, settings)
    try:
        return factory(**values)
    except (ConfigurationError, TreeError) as error:  # others name their place themselves: a row, a model, a package
        raise ConfigurationError(f"{where}: {error.message}", hint=error.hint) from error
    except LaurelError:
        raise
    except Exception as error:  # whatever somebody's function does
        if getattr(factory, "__module__", "").partition(".")[0] == "laurel":
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise ConfigurationError(
            f"{where} raised {type(error).__name__}: {error} ({last.filename}, line {last.lineno}).",
            hint="mend what it names, or give it other settings.",
        ) from error


def _part(kind: str, registry: Mapping[str, Callable[..., Any]], part: str, pair: Any) -> tuple[Any, Any]:
    """One part of a weighted reward: [reward, weight]."""
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[1], int | float):
        raise ConfigurationError(
            f"{kind} 'weighted': the part '{part}' is {pair!r}, not a reward and a weight.",
            hint=f"write '{part}: [exact_match, 1.0]'.",
        )
    return component(f"{kind} 'weighted': {part}", registry, pair[0]), pair[1]


def policies() -> dict[str, Callable[..., Any]]:
    """What builds a policy, by name."""
    from laurel import policy

    return {"load": policy.load, "tiny": policy.tiny}


def rewards() -> dict[str, Callable[..., Any]]:
    """What makes a reward, by name: a verifier, or a reward model that was saved."""
    from laurel import policy
    from laurel.rewards import REWARDS

    return {
        **REWARDS,
        "judge": policy.JudgedReward,
        "negative_entropy": policy.negative_entropy,
        "process_reward": policy.SavedProcessReward,
        "reward_model": policy.SavedReward,
        "self_certainty": policy.self_certainty,
        "self_judge": policy.SelfJudged,
        "soft_q": policy.soft_q,
    }


def registries() -> dict[str, Mapping[str, Callable[..., Any]]]:
    """What a recipe can name: of each key that holds a part, what makes one by name."""
    from laurel import algorithms, environments, experts, objectives, preferences, tasks

    sources = {**tasks.SOURCES, **preferences.SOURCES}
    return {
        "policy": policies(),
        "tasks": sources,
        "held_out": sources,
        "reward": rewards(),
        "held_out_reward": rewards(),
        "watched_reward": rewards(),
        "gold_reward": rewards(),
        "objective": objectives.REWARD_OBJECTIVES,
        "environment": environments.ENVIRONMENTS,
        "expert": experts.EXPERTS,
        "algorithm": algorithms.METHODS,
    }


def _convert(where: str, annotation: Any, value: Any) -> Any:
    """`value` as `annotation`; mappings become the settings dataclass that the annotation names."""
    for option in _options(annotation):
        if dataclasses.is_dataclass(option) and isinstance(option, type) and isinstance(value, Mapping):
            return _settings(where, option, arguments(where, option, value))
        if typing.get_origin(option) in (dict, Mapping) and isinstance(value, Mapping):
            inner = typing.get_args(option)[1]
            if dataclasses.is_dataclass(inner):
                return {key: _convert(f"{where}: {key}", inner, item) for key, item in value.items()}
    options = _options(annotation)
    if len(options) == 1 and dataclasses.is_dataclass(annotation) and not isinstance(value, annotation):  # type: ignore[arg-type]
        raise _unfit(where, value, options)
    if isinstance(value, str) and ":" in value and any(typing.get_origin(option) is Callable for option in options):
        return _import(where, value)
    if isinstance(value, Mapping) and any(_of_functions(option) for option in options):
        return {key: _convert(f"{where}.{key}", Callable[..., Any], inner) for key, inner in value.items()}
    rows = any(typing.get_origin(option) is Iterable for option in options)
    if rows and isinstance(value, list):
        return value  # the source that takes them reads them, and complains by number
    truth = isinstance(value, bool) and {int, float} & set(options) and bool not in options
    if rows or truth:
        raise _unfit(where, value, options)
    try:
        adapter = pydantic.TypeAdapter(annotation, config=pydantic.ConfigDict(arbitrary_types_allowed=True))
        return adapter.validate_python(value)
    except pydantic.ValidationError as error:
        raise _unfit(where, value, options) from error


def _of_functions(annotation: Any) -> bool:
    """Whether an annotation is that of functions by name, which a recipe writes as package.module:function."""
    inner = typing.get_args(annotation)
    return typing.get_origin(annotation) is Mapping and typing.get_origin(inner[1]) is Callable


def _settings(where: str, kind: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """Settings that check themselves, and know neither the key that they stand under nor who reads it."""
    try:
        return kind(**values)
    except LaurelError as error:
        key = where.rpartition(": ")[2]
        raise ConfigurationError(f"{where}: {error.message.removeprefix(f'{key}: ')}", hint=error.hint) from error


def _unfit(where: str, value: Any, options: Sequence[Any]) -> ConfigurationError:
    wanted = " or ".join(dict.fromkeys(_kind(option) for option in options if option is not type(None)))
    empty = " (or null)" if type(None) in options else ""
    items = value if isinstance(value, list) else [value]
    truth = bool not in options and any(isinstance(item, bool) for item in items)
    quotes = " YAML reads yes, no, on and off as true or false: words like these stand in quotes." if truth else ""
    return ConfigurationError(f"{where}: {value!r} does not fit.", hint=f"give {wanted}{empty}.{quotes}")


def _kind(annotation: Any) -> str:
    """What an annotation asks for, in the words of someone who writes YAML."""
    origin = typing.get_origin(annotation)
    if annotation in _WORDS:
        return _WORDS[annotation]
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(annotation)))
    if origin in (tuple, list, Sequence, Iterable):
        return "a list, such as [a, b]"
    if origin is Callable:
        return "a function, as package.module:function"
    if dataclasses.is_dataclass(annotation):
        return "a mapping with some of the keys " + ", ".join(field.name for field in dataclasses.fields(annotation))
    if origin in (dict, Mapping):
        return "a mapping, such as {a: b}"
    return str(getattr(annotation, "__name__", annotation))


def _options(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _import(kind: str, path: str) -> Any:
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise ConfigurationError(f"{kind}: cannot understand '{path}'.", hint="write package.module:function.")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"{kind}: cannot import '{path}': {error}.", hint="write package.module:function, importable from here."
        ) from error
    except Exception as error:  # whatever somebody's module does while it is imported
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = "" if isinstance(error, SyntaxError) else f" ({last.filename}, line {last.lineno})"
        raise ConfigurationError(
            f"{kind}: importing '{module_name}' raised {type(error).__name__}: {error}{place}.", hint="mend the module."
        ) from error


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # untyped where the stubs are not installed
    """Refuses a key that stands twice in one mapping; YAML itself would take the last one in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key '{key.value}' is there twice", problem_mark=key.start_mark)
            seen.add(str(key.value))
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        place = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigurationError(f"{where}{place} is not YAML: {error.problem}.", hint="mend that line.") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{where} is not YAML: {error}.", hint="give a YAML file.") from error


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
