"""Graders that ask a model: what it is sent, and how its answer is read."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laurel.errors import ConfigurationError, unknown_key
from laurel.rewards.graders.templates import GraderText
from laurel.tasks.task import Message

Model = Callable[..., str]
"""Answers a conversation: `model(messages, **sampling) -> str`. The settings are those of `sampling_params`."""

_SETTINGS = ("max_completions_tokens", "reasoning_effort", "seed", "temperature", "top_p")
_ROLES = {"assistant": "assistant", "developer": "system", "system": "system", "user": "user"}
_READ_SIGNS = 10_000
"""Of the end of a model's answer."""

_TEXTS = ("input_text", "output_text", "text")


@dataclass(frozen=True)
class Asked:
    """A model, and the conversation that it is sent.

    Attributes:
        messages: role and text of each; "developer" is another word for "system".
        settings: of sampling, as the definition gives them.
    """

    model: Model
    messages: tuple[tuple[str, GraderText], ...]
    settings: Mapping[str, Any]

    @classmethod
    def read(cls, definition: Mapping[str, Any], models: Mapping[str, Model], where: str) -> Asked:
        """From a definition with `model`, `input` and perhaps `sampling_params`.

        Raises:
            ConfigurationError: nobody answers for the model, or takes its settings; a message is none.
        """
        name = definition["model"]
        if not isinstance(name, str) or name not in models:
            known = f" There are: {', '.join(models)}." if models else ""
            raise ConfigurationError(
                f"{where}: nobody answers for the model {name!r}.{known}",
                hint="grader(definition, models={name: answer}) with answer(messages) -> str; nothing is sent anywhere "
                "unless that function does so.",
            )
        sampling = definition.get("sampling_params") or {}
        if not isinstance(sampling, Mapping):
            raise ConfigurationError(
                f"{where}: 'sampling_params' is {sampling!r}, no object.", hint='such as {"temperature": 0.7}.'
            )
        settings = {key: value for key, value in sampling.items() if value is not None}
        for key in settings:
            if key not in _SETTINGS:
                raise unknown_key(f"{where}: sampling_params", str(key), _SETTINGS)
        try:
            inspect.signature(models[name]).bind([], **settings)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{where}: what answers for the model {name!r} cannot be called so: {error}.",
                hint=f"it takes (messages{''.join(f', {key}' for key in settings)}).",
            ) from error
        given = definition["input"]
        if not isinstance(given, Sequence) or isinstance(given, str) or not given:
            raise ConfigurationError(f"{where}: 'input' is no list of messages.", hint=_EXAMPLE)
        messages = tuple(_message(item, f"{where}: input, message {i}") for i, item in enumerate(given, start=1))
        return cls(models[name], messages, settings)

    def say(self, spaces: Mapping[str, Any], form: str) -> str:
        """What the model answers; the last message ends with the form that is asked of it."""
        messages = [Message(role=role, content=text.fill(spaces)) for role, text in self.messages]
        last = messages[-1]
        wanted = f'{last["content"]}\n\nAnswer with one JSON object and nothing else: {{"result": {form}}}'
        messages[-1] = Message(role=last["role"], content=wanted)
        said: object = self.model(messages, **self.settings)
        if not isinstance(said, str):
            raise TypeError(f"the model answered {type(said).__name__}, not text")
        return said


_EXAMPLE = '[{"role": "user", "content": "Is this right? {{sample.output_text}}"}]'


def _message(item: Any, where: str) -> tuple[str, GraderText]:
    if not isinstance(item, Mapping) or item.get("role") not in list(_ROLES) or "content" not in item:
        raise ConfigurationError(f"{where} is no message.", hint=_EXAMPLE)
    for key in item:
        if key not in ("content", "role", "type"):
            raise unknown_key(where, str(key), ("content", "role", "type"))
    content = item["content"]
    pieces = [_piece(piece, where) for piece in (content if isinstance(content, list) else [content])]
    return _ROLES[item["role"]], GraderText("\n".join(pieces), where)


def _piece(piece: Any, where: str) -> str:
    if isinstance(piece, str):
        return piece
    if isinstance(piece, Mapping) and piece.get("type") in _TEXTS and isinstance(piece.get("text"), str):
        return str(piece["text"])
    kind = piece.get("type") if isinstance(piece, Mapping) else type(piece).__name__
    raise ConfigurationError(f"{where}: content of the kind {kind!r} cannot be sent.", hint="send text.")


def read_number(said: str) -> float | None:
    """The number of {"result": 0.5}, the last such object, or of an answer that is nothing but a number."""
    result = _result(said)
    if isinstance(result, str):
        try:
            result = float(result)
        except ValueError:
            return None
    if isinstance(result, bool) or not isinstance(result, int | float) or not math.isfinite(result):
        return None
    return float(result)


def read_label(said: str, labels: Sequence[str]) -> str | None:
    """The label of {"result": "good"}, or of an answer that is nothing but a label."""
    result = _result(said)
    return result.strip() if isinstance(result, str) and result.strip() in labels else None


def _result(said: str) -> Any:
    """What the last JSON object with a result gives, else the whole answer."""
    said = said[-_READ_SIGNS:]
    place = said.rfind("{")
    while place >= 0:
        try:
            found, _ = json.JSONDecoder().raw_decode(said, place)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and "result" in found:
            return found["result"]
        place = said.rfind("{", 0, place)
    return said.strip()
