"""A policy that is simply asked: messages in, a text out. What graders, judges and revisions are made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from laurel.policy import Policy, load
from laurel.rollout.limits import Job, Limits
from laurel.rollout.sampler import LocalSampler
from laurel.tasks.task import Message, Prompt, Task
from laurel.tree import Sampling


class Respondent:
    """answer(messages, **settings) -> text; `answers` asks about many conversations in one batch.

        ask = Respondent("my-model")
        ask([{"role": "user", "content": "2+2?"}], max_new_tokens=8)
        ask.answers(conversations, temperature=0.7, seed=1)

    The same weights, messages and settings give the same text, whatever is asked beside it and in whatever order: a
    draw follows from the seed and the messages alone. So two equal conversations get one answer; another seed gives
    another.

    Without a chat template a conversation is the text of its messages, one below the other, that the model goes on
    from.

    Args:
        policy: who answers, or the hub name or directory of one, which is loaded. Its weights are read as they are
            when it is asked.
        max_live_rows: answers that are drawn at the same time.
    """

    runs_in_process = True

    def __init__(self, policy: Policy | str | Path, *, max_live_rows: int = 256) -> None:
        self.policy = policy if isinstance(policy, Policy) else load(str(policy))
        self.max_live_rows = max_live_rows

    def __call__(
        self,
        messages: Sequence[Message],
        *,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        max_new_tokens: int = Limits.max_new_tokens,
        stop: Sequence[str] = (),
        seed: int = 0,
    ) -> str:
        """What it says to one conversation, without special tokens.

        Args:
            messages: at least one, the last of which it answers.
            temperature, top_k, top_p, min_p: see `laurel.Sampling`; temperature 0 is its limit, the likeliest token
                everywhere, whatever the others say.
            max_new_tokens: what is longer is cut off there.
            stop: texts that end the answer, and are not part of it.
            seed: fixes the draws.

        Raises:
            PolicyError: it cannot be encoded.
            SamplingError: it leaves no room for an answer.
            ConfigurationError, TreeError: a setting makes no sense.
        """
        return self.answers(
            [messages],
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            max_new_tokens=max_new_tokens,
            stop=stop,
            seed=seed,
        )[0]

    def answers(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        max_new_tokens: int = Limits.max_new_tokens,
        stop: Sequence[str] = (),
        seed: int = 0,
    ) -> list[str]:
        """What it says to each, in their order; the arguments are those of a call."""
        greedy = temperature == 0
        sampling = Sampling(top_k=1) if greedy else Sampling(temperature, top_k, top_p, min_p)
        limits = Limits(max_new_tokens=max_new_tokens, stop_strings=tuple(stop))
        sampler = LocalSampler(self.policy, sampling, limits, max_live_rows=self.max_live_rows, seed=seed)
        names = [_name(messages) for messages in conversations]
        asked = {name: number for number, name in reversed(list(enumerate(names)))}
        jobs = [
            Job(name, Task(f"conversation {number + 1}", self.prompt(conversations[number])), 1)
            for name, number in asked.items()
        ]
        trees = sampler.collect(jobs, policy_version=0) if jobs else []
        said = {tree.id: tree.rollouts[0].text for tree in trees}
        return [said[name] for name in names]

    def prompt(self, messages: Sequence[Message]) -> Prompt:
        """A conversation as this policy reads it."""
        if self.policy.chat.has_template:
            return tuple(Message(role=message["role"], content=message["content"]) for message in messages)
        return "\n".join(message["content"] for message in messages)


def _name(messages: Sequence[Message]) -> str:
    """What the draws of a conversation hang on: all of it, and nothing else."""
    content = json.dumps([[message["role"], message["content"]] for message in messages])
    return hashlib.sha256(content.encode()).hexdigest()
