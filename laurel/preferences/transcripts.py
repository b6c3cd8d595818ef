"""The prompt that two sides of a pair share: told in a column, or the common start of two transcripts.

"\\n\\nHuman: 2+2?\\n\\nAssistant: 4"  and  "\\n\\nHuman: 2+2?\\n\\nAssistant: 5"
prompt "\\n\\nHuman: 2+2?\\n\\nAssistant:", answers " 4" and " 5"
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from laurel.errors import TaskError
from laurel.preferences.left_out import BadRow, Fault
from laurel.tasks import Message
from laurel.tasks.rows import messages_in

HUMAN = "\n\nHuman:"
ASSISTANT = "\n\nAssistant:"
_ROLES = {HUMAN: "user", ASSISTANT: "assistant"}
_TURN = re.compile(f"({HUMAN}|{ASSISTANT})")


def shared_prompt(
    told: object, sides: Sequence[object], where: str, *, known: bool = False, conversation: bool = False
) -> tuple[Any, tuple[str, ...]]:
    """(prompt, answers) of some sides.

    Args:
        told: the prompt's own column: text, messages, or None where there is none.
        sides: texts, or lists of messages; a side may repeat the prompt's messages before its answer.
        known: the prompt comes from elsewhere (a template), so that the sides hold answers alone.
        conversation: turn a transcript of "Human:" and "Assistant:" into messages.

    Raises:
        BadRow: the sides do not share a prompt, or are neither texts nor messages.
    """
    if all(isinstance(side, str) for side in sides):
        plain = [str(side) for side in sides]
        if not known and isinstance(told, str) and all(side.startswith(HUMAN) for side in plain):
            answers = _after(told, plain, where)
            return told, tuple(map(str.strip, answers)) if conversation else answers
        if known or told is not None:
            return told, tuple(plain)
        prompt, answers = common_start(plain, where)
        return (messages_of(prompt), tuple(map(str.strip, answers))) if conversation else (prompt, answers)
    if not all(isinstance(side, list | tuple) and side for side in sides):
        kinds = " and ".join(type(side).__name__ for side in sides)
        raise BadRow(Fault.TYPE, f"{where}: the sides are {kinds}.", hint="give two texts, or two lists of messages.")
    dialogues = [_messages(side, where) for side in sides]
    before = [dialogue[:-1] for dialogue in dialogues]
    answers = tuple(dialogue[-1]["content"] for dialogue in dialogues)
    if any(dialogue[-1]["role"] != "assistant" for dialogue in dialogues):
        raise BadRow(Fault.TYPE, f"{where}: a side does not end with the assistant.", hint="its answer comes last.")
    asked = told
    if isinstance(told, str):
        asked = [Message(role="user", content=told)]
    elif isinstance(told, list | tuple):
        asked = _messages(told, where)
    elif told is None and not known:
        asked = before[0]
    if any(leading and leading != asked for leading in before) or not (asked or known):
        raise BadRow(
            Fault.DIFFERENT_PROMPTS,
            f"{where}: the messages before the answers are not the same, or not those of the prompt's own column.",
            hint="both sides of a pair answer one prompt.",
        )
    return asked, answers


def _after(told: str, transcripts: Sequence[str], where: str) -> tuple[str, ...]:
    """The answers of whole transcripts that stand beside a prompt of its own: what follows it.

    Raises:
        BadRow: they are about another prompt.
    """
    prompt, answers = common_start(transcripts, where)
    turns = messages_of(prompt)
    same = [prompt.removesuffix(ASSISTANT).strip(), *(turn["content"] for turn in turns if len(turns) == 1)]
    if told.strip().removesuffix(ASSISTANT.strip()).strip() not in same:
        raise BadRow(
            Fault.DIFFERENT_PROMPTS,
            f"{where}: the transcripts of the two sides are about another prompt than that of its own column.",
            hint="leave one of the two prompts out.",
        )
    return answers


def holds_prompt(side: object) -> bool:
    """Whether a side can bring its prompt: all that is no text may, and of texts a transcript."""
    return not isinstance(side, str) or _TURN.search(side) is not None


def common_start(sides: Sequence[str], where: str) -> tuple[str, tuple[str, ...]]:
    """Cut transcripts after the last turn of the human that they share.

    Raises:
        BadRow: they part before the assistant's last turn.
    """
    same = 0
    for letters in zip(*sides, strict=False):
        if len(set(letters)) > 1:
            break
        same += 1
    cut = sides[0][:same].rfind(ASSISTANT)
    answers = tuple(side[cut + len(ASSISTANT) :] for side in sides)
    if sides[0] == sides[1]:
        raise BadRow(Fault.IDENTICAL, f"{where}: both answers are the same.", hint="leave the row out.")
    if cut < 0 or any(_TURN.search(answer) for answer in answers):
        raise BadRow(
            Fault.DIFFERENT_PROMPTS,
            f"{where}: the two transcripts part before the assistant's last turn.",
            hint=f"they must agree up to the last {ASSISTANT!r}, or give the prompt a column of its own.",
        )
    return sides[0][: cut + len(ASSISTANT)], answers


def messages_of(transcript: str) -> list[Message]:
    """The turns of a transcript that ends where the assistant speaks."""
    parts = _TURN.split(transcript)
    return [
        Message(role=_ROLES[mark], content=text.strip())
        for mark, text in zip(parts[1::2], parts[2::2], strict=True)
        if text.strip()
    ]


def _messages(value: Any, where: str) -> list[Message]:
    try:
        return list(messages_in(value, where))
    except TaskError as error:
        raise BadRow(Fault.TYPE, error.message, hint=error.hint) from error
