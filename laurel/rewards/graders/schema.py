"""Graders of the reinforcement-fine-tuning schema, as a reward."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from laurel.errors import ConfigurationError
from laurel.rewards.graders.asking import Model
from laurel.rewards.graders.definitions import PYTHON_BOUNDS, Graded, Multi, PythonCode, Undecided, read, score_of
from laurel.rewards.graders.templates import NoSuchField
from laurel.rewards.tool_calls import calls_in
from laurel.tasks.task import Task
from laurel.tree import Failed, Score

DEEPEST = 100
"""An answer that nests lists and objects deeper than this is read as text, and not as JSON."""


@dataclass(frozen=True)
class SchemaGrader:
    """See `grader`.

    Attributes:
        definition: as JSON text, so that a grading process can be given it.
    """

    definition: str
    models: Mapping[str, Model] | None = field(default=None, compare=False)
    has_other_answers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.graded  # noqa: B018  # what is wrong with it is said now

    @cached_property
    def graded(self) -> Graded:
        """The definition, read."""
        return read(json.loads(self.definition), self.models or {})

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The names of a multi grader's graders."""
        return tuple(self.graded.graders) if isinstance(self.graded, Multi) else ()

    @property
    def runs_in_process(self) -> bool:
        """A model lives in this process; source code has a sandbox, but takes its time, and runs beside others."""
        return self.models is not None or not self.longest_seconds

    @property
    def longest_seconds(self) -> float:
        """How long the grading of one answer may take by the graders' own deadlines."""
        graders = self.graded.graders.values() if isinstance(self.graded, Multi) else [self.graded]
        return sum(PYTHON_BOUNDS.clock_seconds for graded in graders if isinstance(graded, PythonCode))

    def __call__(self, task: Task, text: str) -> Score | Failed:
        try:
            spaces = {"item": _item(task), "sample": _sample(text)}
            if not isinstance(self.graded, Multi):
                return Score(score_of(self.graded, spaces))
            parts = self.graded.parts(spaces)
            return Score(self.graded.combine(parts), parts)
        except (NoSuchField, Undecided) as error:
            return Failed(f"task {task.id}: {error}")


def grader(
    definition: Mapping[str, Any] | str | Path, *, models: Mapping[str, Callable[..., str]] | None = None
) -> SchemaGrader:
    """A grader as the reinforcement-fine-tuning schema defines it: string_check, text_similarity, score_model,
    label_model, python or multi.

        grader({"type": "string_check", "name": "same", "operation": "eq",
                "input": "{{sample.output_text}}", "reference": "{{item.reference}}"})

    Templates read `{{item...}}`: the task's row, with `id`, `prompt` and `reference`, where no column of the row has
    that name; and `{{sample...}}`: `output_text`, `output_json` (where the answer is JSON), `output_tools` (where it
    calls tools) and `choices`. They are filled in one pass, and reach nothing else. A multi grader's score has each of
    its graders as a part.

    An answer that lacks what a template reads of it scores 0 there. What says nothing of the answer is a failure: a row
    without a field, a model that does not answer in the form, source code that raises, a formula without a value.

    Args:
        definition: as an object, or the path of a JSON file that holds it.
        models: who answers for the models that the definition names: `answer(messages, **sampling_params) -> str`.

    Raises:
        ConfigurationError: naming the key that is missing, unknown, unread or wrong.
        SandboxError: for source code where there can be no sandbox.
    """
    if isinstance(definition, str | Path):
        definition = _from_file(Path(definition))
    try:
        text = json.dumps(dict(definition), ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"The grader's definition is no JSON: {error}.", hint="give an object.") from error
    reward = SchemaGrader(text, models)
    unused = sorted(set(models or {}) - _named_models(json.loads(text)))
    if unused:
        raise ConfigurationError(f"models: no grader asks '{unused[0]}'.", hint="remove it.")
    return reward


def _from_file(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"Cannot read the grader {path}: {error.strerror}.", hint="check the path.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"The grader {path} is no JSON: {error}.", hint="mend the file.") from error
    if not isinstance(found, Mapping):
        raise ConfigurationError(f"The grader {path} holds no object.", hint='{"type": ..., "name": ...}')
    return found


def _named_models(definition: Mapping[str, Any]) -> set[str]:
    inner = definition.get("graders")
    return {str(definition.get("model"))}.union(
        *(_named_models(one) for one in (inner.values() if isinstance(inner, Mapping) else ()))
    )


def _item(task: Task) -> dict[str, Any]:
    prompt = task.prompt if isinstance(task.prompt, str) else [dict(message) for message in task.prompt]
    known = {"id": task.id, "prompt": prompt, **({} if task.reference is None else {"reference": task.reference})}
    return {name: _plain(name, value) for name, value in {**known, **task.data}.items()}


def _plain(column: str, value: Any) -> Any:
    """A cell as JSON has it: dates in ISO 8601, numbers and arrays of other libraries as plain ones.

    Raises:
        Undecided: it holds something else.
    """
    try:
        return json.loads(json.dumps(value, default=_written))
    except (TypeError, ValueError, RecursionError) as error:
        raise Undecided(f"the row's '{column}' is no JSON: {error}") from error


def _written(value: Any) -> Any:
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if callable(getattr(value, "tolist", None)):
        return value.tolist()
    raise TypeError(f"it holds {type(value).__name__}")


def _depth(value: Any) -> int:
    """How deep lists and objects are nested, without recursion."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, list | dict)]:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def _sample(text: str) -> dict[str, Any]:
    """What there is to know of an answer. Its tools are written as chat completions write them."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    if _depth(parsed) > DEEPEST:
        parsed = None
    tools = [
        {"type": "function", "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}}
        for name, arguments in calls_in(text) or ()
    ]
    message = {"role": "assistant", "content": text}
    return {
        "output_text": text,
        "output_json": parsed,
        "output_tools": tools or None,
        "choices": [{"index": 0, "message": message}],
    }
