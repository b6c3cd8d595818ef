"""The graders of the reinforcement-fine-tuning schema: what each reads, checks before a run, and scores.

Facts: the types of `openai-python` (StringCheckGrader, TextSimilarityGrader, ScoreModelGrader, LabelModelGrader,
PythonGrader, MultiGrader). Where the schema says nothing, what Laurel does stands in the docstrings.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from laurel.errors import ConfigurationError, unknown_key
from laurel.rewards.graders.asking import Asked, Model, read_label, read_number
from laurel.rewards.graders.formula import FUNCTIONS, Formula
from laurel.rewards.graders.similarity import METRICS, REFUSED
from laurel.rewards.graders.templates import GraderText, NotInTheAnswer
from laurel.sandbox import Bounds, call, require

PYTHON_BOUNDS = Bounds()
_OPERATIONS = ("eq", "ilike", "like", "ne")


class Undecided(Exception):
    """A grader could not grade: that says nothing of the answer."""


class Graded(Protocol):
    """One grader."""

    def grade(self, spaces: Mapping[str, Any]) -> float:
        """The score of one answer, from the name spaces `item` and `sample`.

        Raises:
            Undecided, NoSuchField: it could not be graded.
            NotInTheAnswer: the answer lacks what is read of it, which scores 0.
        """
        ...


@dataclass(frozen=True)
class StringCheck:
    """1 or 0. eq, ne: the input is, or is not, the reference; like: it contains it; ilike: whatever the case."""

    operation: str
    input: GraderText
    reference: GraderText

    def grade(self, spaces: Mapping[str, Any]) -> float:
        """See `Graded`."""
        text, reference = self.input.fill(spaces), self.reference.fill(spaces)
        if self.operation == "ilike":
            text, reference = text.casefold(), reference.casefold()
        return float(reference in text if "like" in self.operation else (text == reference) is (self.operation == "eq"))


@dataclass(frozen=True)
class TextSimilarity:
    """From 0 to 1: see `laurel.rewards.graders.similarity`."""

    metric: str
    input: GraderText
    reference: GraderText

    def grade(self, spaces: Mapping[str, Any]) -> float:
        """See `Graded`."""
        return METRICS[self.metric](self.input.fill(spaces), self.reference.fill(spaces))


@dataclass(frozen=True)
class ScoreModel:
    """The number that a model says, within its range; another answer of the model is a failure."""

    asked: Asked
    low: float
    high: float

    def grade(self, spaces: Mapping[str, Any]) -> float:
        """See `Graded`."""
        said = self.asked.say(spaces, f"<a number from {self.low:g} to {self.high:g}>")
        number = read_number(said)
        if number is None or not self.low <= number <= self.high:
            raise Undecided(f"the model said {said[:80]!r}, which is no number from {self.low:g} to {self.high:g}")
        return number


@dataclass(frozen=True)
class LabelModel:
    """1 where a model gives one of the passing labels, 0 for another of the labels; anything else is a failure."""

    asked: Asked
    labels: tuple[str, ...]
    passing: tuple[str, ...]

    def grade(self, spaces: Mapping[str, Any]) -> float:
        """See `Graded`."""
        said = self.asked.say(spaces, f"<one of {json.dumps(list(self.labels), ensure_ascii=False)}>")
        label = read_label(said, self.labels)
        if label is None:
            raise Undecided(f"the model said {said[:80]!r}, which is none of the labels {', '.join(self.labels)}")
        return float(label in self.passing)


@dataclass(frozen=True)
class PythonCode:
    """What `grade(sample, item)` of a source returns, run in the sandbox with Python's own library. The source is the
    user's: that it raises, takes too long or returns no number is a failure, and no zero.
    """

    source: str

    def grade(self, spaces: Mapping[str, Any]) -> float:
        """See `Graded`."""
        returned = call(self.source, "grade", [spaces["sample"], spaces["item"]], bounds=PYTHON_BOUNDS)
        if not returned.ended.well:
            raise Undecided(f"grade(sample, item) {returned.ended}")
        value = returned.value
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise Undecided(f"grade(sample, item) returned {str(value)[:80]!r}, not a finite number")
        return float(value)


@dataclass(frozen=True)
class Multi:
    """A formula over the scores of other graders."""

    graders: Mapping[str, Graded]
    formula: Formula

    def grade(self, spaces: Mapping[str, Any]) -> float:
        """See `Graded`."""
        return self.combine(self.parts(spaces))

    def parts(self, spaces: Mapping[str, Any]) -> dict[str, float]:
        """The score of each."""
        scores: dict[str, float] = {}
        for name, graded in self.graders.items():
            try:
                scores[name] = score_of(graded, spaces)
            except Undecided as error:
                raise Undecided(f"{name}: {error}") from error
        return scores

    def combine(self, scores: Mapping[str, float]) -> float:
        """The formula's value."""
        try:
            return self.formula(scores)
        except (ArithmeticError, ValueError) as error:
            shown = ", ".join(f"{name}={value:g}" for name, value in scores.items())
            raise Undecided(f"{self.formula.text!r} has no value for {shown}: {error}") from error


def score_of(graded: Graded, spaces: Mapping[str, Any]) -> float:
    """The score, 0 where the answer lacks what is read of it."""
    try:
        return graded.grade(spaces)
    except NotInTheAnswer:
        return 0.0


def read(definition: Mapping[str, Any], models: Mapping[str, Model], where: str = "grader") -> Graded:
    """The grader of a definition, as JSON holds it.

    Raises:
        ConfigurationError: naming the key that is missing, unknown or wrong; for a model that nobody answers for.
        SandboxError: for source code where there can be no sandbox.
    """
    if not isinstance(definition, Mapping):
        raise ConfigurationError(f"{where} is {type(definition).__name__}, not an object.", hint=_EXAMPLE)
    kind = definition.get("type")
    if not isinstance(kind, str) or kind not in _KEYS:
        raise ConfigurationError(f"{where}: the type is {kind!r}.", hint=f"one of {', '.join(_KEYS)}.")
    needed, optional = _KEYS[kind]
    for key in definition:
        if key not in (*needed, *optional, "type", "name"):
            raise unknown_key(f"{where} ({kind})", str(key), [*needed, *optional, "type", "name"])
    for key in needed:
        if definition.get(key) is None:
            raise ConfigurationError(f"{where} ({kind}): the key '{key}' is missing.", hint=f"give it: '{key}: ...'.")
    if kind == "multi":
        return _multi(definition, models, where)
    if kind == "python":
        return _python(definition, where)
    if kind in ("score_model", "label_model"):
        asked = Asked.read(definition, models, where)
        return _scored(definition, asked, where) if kind == "score_model" else _labelled(definition, asked, where)
    texts = [GraderText(_text(definition, key, where), f"{where}: {key}") for key in ("input", "reference")]
    if kind == "string_check":
        return StringCheck(_one_of(definition, "operation", _OPERATIONS, where), *texts)
    metric = definition["evaluation_metric"]
    if metric in REFUSED:
        raise ConfigurationError(
            f"{where}: the metric '{metric}' {REFUSED[metric]}.", hint=f"take one of {', '.join(METRICS)}."
        )
    return TextSimilarity(_one_of(definition, "evaluation_metric", tuple(METRICS), where), *texts)


_EXAMPLE = '{"type": "string_check", "name": "same", "operation": "eq", "input": "{{sample.output_text}}", ...}'
_KEYS: dict[Any, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "string_check": (("input", "reference", "operation"), ()),
    "text_similarity": (("input", "reference", "evaluation_metric"), ()),
    "score_model": (("input", "model"), ("range", "sampling_params")),
    "label_model": (("input", "model", "labels", "passing_labels"), ()),
    "python": (("source",), ("image_tag",)),
    "multi": (("graders", "calculate_output"), ()),
}
"""Of each type the keys that it needs, and those that it may have."""


def _multi(definition: Mapping[str, Any], models: Mapping[str, Model], where: str) -> Multi:
    graders = definition["graders"]
    if not isinstance(graders, Mapping) or not graders:
        raise ConfigurationError(f"{where}: 'graders' is no object of named graders.", hint='{"right": {...}, ...}')
    read_ones: dict[str, Graded] = {}
    for name, inner in graders.items():
        if not str(name).isidentifier() or name in FUNCTIONS:
            raise ConfigurationError(
                f"{where}: no formula can name a grader {name!r}.", hint="take a word such as 'right'."
            )
        if isinstance(inner, Mapping) and inner.get("type") == "multi":
            raise ConfigurationError(f"{where}: '{name}' is a multi grader inside of one.", hint="write one formula.")
        read_ones[str(name)] = read(inner, models, f"{where}: {name}")
    formula = Formula(_text(definition, "calculate_output", where), list(read_ones), f"{where}: calculate_output")
    return Multi(read_ones, formula)


def _python(definition: Mapping[str, Any], where: str) -> PythonCode:
    if definition.get("image_tag") is not None:
        raise ConfigurationError(
            f"{where}: 'image_tag' names a container that is not here.",
            hint="remove it; the source is run with Python's own library, without packages.",
        )
    source = _text(definition, "source", where)
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{where}: the source is no Python: {error}.", hint="mend that line.") from error
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "grade"]
    if not functions or len(functions[-1].args.args) != 2:
        raise ConfigurationError(f"{where}: the source defines no grade(sample, item).", hint="define it there.")
    require()
    return PythonCode(source)


def _scored(definition: Mapping[str, Any], asked: Asked, where: str) -> ScoreModel:
    limits = definition.get("range") or [0, 1]
    numbers = isinstance(limits, list | tuple) and all(
        isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in limits
    )
    if not numbers or len(limits) != 2 or not limits[0] < limits[1]:
        raise ConfigurationError(f"{where}: the range {limits!r} is none.", hint="such as [0, 1].")
    return ScoreModel(asked, float(limits[0]), float(limits[1]))


def _labelled(definition: Mapping[str, Any], asked: Asked, where: str) -> LabelModel:
    labels, passing = (_texts(definition, key, where) for key in ("labels", "passing_labels"))
    for label in passing:
        if label not in labels:
            raise unknown_key(f"{where}: passing_labels", label, labels)
    if len(set(labels)) < 2 or set(passing) == set(labels):
        raise ConfigurationError(f"{where}: with these labels every answer scores the same.", hint="add a label.")
    return LabelModel(asked, labels, passing)


def _text(definition: Mapping[str, Any], key: str, where: str) -> str:
    if not isinstance(definition[key], str):
        raise ConfigurationError(f"{where}: '{key}' is {definition[key]!r}, not text.", hint="write it as text.")
    return str(definition[key])


def _texts(definition: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    found = definition[key]
    if not isinstance(found, Sequence) or isinstance(found, str) or not all(isinstance(item, str) for item in found):
        raise ConfigurationError(
            f"{where}: '{key}' is {found!r}, not a list of texts.", hint='such as ["good", "bad"].'
        )
    if not found:
        raise ConfigurationError(f"{where}: '{key}' is empty.", hint="name one at least.")
    return tuple(found)


def _one_of(definition: Mapping[str, Any], key: str, known: tuple[str, ...], where: str) -> str:
    if definition[key] not in known:
        raise unknown_key(f"{where}: {key}", str(definition[key]), known)
    return str(definition[key])
