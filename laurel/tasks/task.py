"""One thing to do, and what is known about doing it right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict


class Message(TypedDict):
    """One message of a conversation."""

    role: str
    content: str


Prompt = str | tuple[Message, ...]


@dataclass(frozen=True)
class Task:
    """A prompt with what its grader needs.

    Attributes:
        id: stable and unique within its set; rollouts, records and error messages carry it.
        prompt: plain text, or a conversation that the policy's chat template lays out.
        reference: the gold answer, if there is one.
        data: everything else that the row held, for graders and environments.
    """

    id: str
    prompt: Prompt
    reference: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def content(self) -> list[Any]:
        """What the fingerprint of a task set is made of, as JSON."""
        return [self.id, self.prompt, self.reference, dict(self.data)]
