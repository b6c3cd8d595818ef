"""Critique and revision: a policy mends its own answers by principles, and the revised ones are demonstrations.

    laurel revise my-model --tasks prompts.jsonl --principles constitution.yaml --output revised.jsonl

Source: Bai et al. 2022, arXiv 2212.08073, section 3.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from laurel.errors import ConfigurationError, TaskError
from laurel.memory import enough_memory
from laurel.policy import Policy
from laurel.policy.fingerprint import fingerprint
from laurel.policy.verdicts import question_template
from laurel.preferences.constitution import HELPFUL_AND_HONEST, drawn_principle, principles_of
from laurel.rollout import Limits, Respondent
from laurel.tasks import Message, Task
from laurel.tasks.growing_file import GrowingFile

CRITIQUE = "{principle}\nWhere does your answer fall short of that? Name its faults, and nothing else."
REVISION = "Write the answer again without these faults. Write the answer only."

TASKS_AT_ONCE = 64
"""Tasks that are answered, criticised and revised together, and then written down."""
NAMED = 5

Ask = Callable[[Sequence[Sequence[Message]]], list[str | None]]
"""Answers conversations; None where there is no room for an answer."""


class Revisions(GrowingFile):
    """A file of revised answers: `task`, `prompt`, `answer`, and every text on the way to it."""

    noun: ClassVar[str] = "revisions"

    def check(self, row: Mapping[str, Any], where: str) -> None:
        """See `GrowingFile`."""
        if not all(isinstance(row.get(name), str) for name in ("task", "answer", "author")):
            raise TaskError(f"{where} is no revised answer.", hint="choose another file.")


@dataclass(frozen=True)
class Revised:
    """What a call of `revise` came to.

    Attributes:
        output: where the answers are.
        new, before: answers of this call, and of earlier ones.
        left: tasks that are still open, as a limit was reached.
        changed: answers in the file that are not what the policy said first.
        cut: rounds of them that had no room for the critique or the revision.
        left_out: tasks without an answer, and why; a further call tries them again.
    """

    output: Path
    new: int
    before: int
    left: int
    changed: int
    cut: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        text = (
            f"{self.new} answers more, {self.new + self.before} in {self.output}, {self.changed} of them changed by "
            f"revision. {self.left} tasks are left."
        )
        if self.cut:
            text += f"\n{self.cut} rounds had no room: take a model with a longer context, or shorter texts."
        if not self.left_out:
            return text
        named = [f"{task}: {why}" for task, why in list(self.left_out.items())[:NAMED]]
        return "\n".join([text, f"{len(self.left_out)} tasks have no answer:", *named])


@dataclass(frozen=True)
class _Asking:
    """How answers are criticised and revised; `ask` answers conversations."""

    ask: Ask
    principles: tuple[str, ...]
    rounds: int
    critique: str
    revision: str
    seed: int

    def rows(self, tasks: Sequence[Task], left_out: dict[str, str]) -> list[dict[str, Any]]:
        """A row for each task that has an answer; of the others `left_out` says why not."""
        said = self.ask([_conversation(task) for task in tasks])
        kept = [(task, text) for task, text in zip(tasks, said, strict=True) if text is not None and text.strip()]
        for task, text in zip(tasks, said, strict=True):
            if text is None or not text.strip():
                left_out[task.id] = "its prompt leaves no room" if text is None else "the policy said nothing"
        rows = [_first(task, text) for task, text in kept]
        for number in range(1, self.rounds + 1):
            self._round([task for task, _ in kept], rows, number)
        return rows

    def _round(self, tasks: Sequence[Task], rows: Sequence[dict[str, Any]], number: int) -> None:
        principles = [drawn_principle(self.principles, self.seed, task.id, str(number)) for task in tasks]
        asked = [
            [
                *_conversation(task),
                Message(role="assistant", content=row["answer"]),
                Message(role="user", content=_filled(self.critique, principle)),
            ]
            for task, row, principle in zip(tasks, rows, principles, strict=True)
        ]
        critiques = self.ask(asked)
        criticised = [number for number, critique in enumerate(critiques) if critique is not None]
        again = [
            [
                *asked[number],
                Message(role="assistant", content=critiques[number] or ""),
                Message(role="user", content=_filled(self.revision, principles[number])),
            ]
            for number in criticised
        ]
        revisions = dict(zip(criticised, self.ask(again), strict=True))
        for number, row in enumerate(rows):
            revision = revisions.get(number)
            row["rounds"].append({"principle": principles[number], "critique": critiques[number], "revision": revision})
            if revision is not None and revision.strip():
                row["answer"] = revision


def revise(
    model: Policy | str | Path,
    tasks: Sequence[Task],
    output: str | Path,
    *,
    principles: str | Path | Sequence[str] | None = None,
    rounds: int = 1,
    critique: str = CRITIQUE,
    revision: str = REVISION,
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_new_tokens: int = Limits.max_new_tokens,
    stop: Sequence[str] = (),
    limit: int | None = None,
    seed: int = 0,
    show: Callable[[str], None] | None = None,
) -> Revised:
    """Let a policy answer, criticise its answer by a principle, and revise it, `rounds` times.

        laurel.revise("my-model", prompts, "revised.jsonl", principles="constitution.yaml", rounds=2)
        laurel.train(policy="my-model", algorithm=laurel.clone(),
                     tasks=laurel.tasks.jsonl("revised.jsonl", prompt="prompt", reference="answer"))

    Each round begins with the prompt and the newest answer, and with a principle that is drawn by a hash of the seed,
    the task and the round. A row of the file has `task`, `prompt`, `answer` (the last revision), `first` (what was said
    first) and, round by round, `principle`, `critique` and `revision`. As `laurel.preferences.pairs` with
    chosen="answer" and rejected="first" the rows are comparisons. A revision that is blank, or for which there was no
    room, changes nothing.

    The file grows; a task that is in it is not answered again, so that after an interruption the same call goes on. A
    text hangs on the seed and on what was said before it, and on nothing that is answered beside it.

    Args:
        model: a policy, or the hub name or directory of one. With a chat template it is asked in a conversation; else
            it goes on from all that was said, line by line.
        tasks: whose prompts are answered.
        output: JSON lines.
        principles: a file or a list (`laurel.preferences.principles_of`); None: `HELPFUL_AND_HONEST`.
        rounds: of critique and revision; 0 keeps what is said first.
        critique, revision: what is asked, where {principle} stands for the principle; `critique` must name it.
        temperature, top_p, max_new_tokens, stop: of every text, see `Respondent`.
        limit: end after so many answers.
        seed: fixes draws and principles.
        show: is told how far it is.

    Raises:
        ConfigurationError: a setting makes no sense.
        PolicyError: the model cannot be loaded.
        TaskError: the file cannot be written, or another model or other settings began it.
    """
    if rounds < 0:
        raise ConfigurationError(f"rounds must not be negative, got {rounds}.", hint="0 keeps the first answers.")
    question_template(critique, may=(), must=("principle",))
    question_template(revision, may=("principle",), must=())
    known = HELPFUL_AND_HONEST if principles is None else principles_of(principles)
    respondent = Respondent(model)
    drawn = {"temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens, "stop": tuple(stop)}
    drawn["seed"] = seed
    asking = _Asking(_asker(respondent, drawn), known, rounds, critique, revision, seed)
    author = _author(model, [known, rounds, critique, revision, drawn])
    left_out: dict[str, str] = {}
    with Revisions(output) as kept:
        kept.check_author("author", author)
        before, done = len(kept.rows), {row["task"] for row in kept.rows}
        open_ones = [task for task in tasks if task.id not in done]
        end = len(open_ones) if limit is None else min(limit, len(open_ones))
        for start in range(0, end, TASKS_AT_ONCE):
            some = open_ones[start : min(start + TASKS_AT_ONCE, end)]
            with enough_memory("revising answers", "lower max_new_tokens, or take a device with more memory."):
                rows = asking.rows(some, left_out)
            for row in rows:
                kept.append_row({**row, "author": author})
            if show is not None:
                show(f"{start + len(some)} of {end} tasks are answered and revised")
        changed = sum(row["answer"] != row["first"] for row in kept.rows)
        cut = sum(each["revision"] is None for row in kept.rows for each in row["rounds"])
        new = len(kept.rows) - before
        return Revised(Path(output), new, before, len(open_ones) - end, changed, cut, left_out)


def _asker(respondent: Respondent, settings: Mapping[str, Any]) -> Ask:
    policy = respondent.policy

    def ask(conversations: Sequence[Sequence[Message]]) -> list[str | None]:
        lengths = policy.prompt_lengths([respondent.prompt(each) for each in conversations])
        fit = [number for number, length in enumerate(lengths) if length < policy.context_length]
        said: list[str | None] = [None] * len(conversations)
        answers = respondent.answers([conversations[number] for number in fit], **settings)
        for number, answer in zip(fit, answers, strict=True):
            said[number] = answer
        return said

    return ask


def _author(model: Policy | str | Path, settings: object) -> str:
    """Who writes, and how, as one number."""
    who = dict(model.description) if isinstance(model, Policy) else fingerprint(str(model))
    content = json.dumps([who, settings], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _conversation(task: Task) -> list[Message]:
    return [Message(role="user", content=task.prompt)] if isinstance(task.prompt, str) else list(task.prompt)


def _first(task: Task, text: str) -> dict[str, Any]:
    prompt = task.prompt if isinstance(task.prompt, str) else [dict(message) for message in task.prompt]
    return {"task": task.id, "prompt": prompt, "answer": text, "first": text, "rounds": []}


def _filled(template: str, principle: str) -> str:
    return question_template(template, may=("principle",), must=()).fill({"principle": principle}, "the request")
