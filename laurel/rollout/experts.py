"""Experts that need the sampler's machinery: functions, asked in threads with a deadline, and other policies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from laurel.credit import Place
from laurel.errors import EnvironmentFault
from laurel.experts import ExpertFunction, NoReply, Question, Replied
from laurel.policy import Policy
from laurel.rollout.answering import Answering, Call, Unanswered
from laurel.rollout.limits import Limits
from laurel.rollout.sampler import LocalSampler
from laurel.tree import Ending, Outcome, Sampling, Segment, Source, Tree


class FunctionExpert:
    """Asks a function of (task, dialogue): see `laurel.experts.expert`.

    Args:
        function: returns its answer as text; what it raises fails one question.
        limits: the deadline of one call is that of an environment's.
    """

    def __init__(self, function: ExpertFunction, limits: Limits) -> None:
        self._function = function
        self._limits = limits

    @property
    def description(self) -> str:
        """What a run records of it: where the function can be found."""
        return f"{self._function.__module__}:{getattr(self._function, '__qualname__', type(self._function).__name__)}"

    def replies(self, questions: Sequence[Question]) -> list[Replied | NoReply]:
        """See `Expert.replies`.

        Raises:
            EnvironmentFault: if too many calls hang.
        """
        direct = bool(getattr(self._function, "runs_in_process", False))
        calls = [
            Call(question.rollout, "the expert", partial(_reply, self._function, question), direct)
            for question in questions
        ]
        answers = Answering(self._limits).ask(calls)
        return [NoReply(answer.reason) if isinstance(answer, Unanswered) else answer for answer in answers]


def _reply(function: ExpertFunction, question: Question) -> Replied:
    text = function(question.task, question.dialogue)
    if not isinstance(text, str):
        raise EnvironmentFault(f"it answered {text!r}.", hint="answer with a text.")
    return Replied(text)


class PolicyExpert:
    """Another policy with the same tokenizer: it reads the path as it stands, and answers with its own tokens.

    Args:
        policy: who is asked; its weights do not change.
        limits: of the policy that asks: the expert's answer is one turn of it.
        greedy: take the likeliest token everywhere; else draw from the policy's distribution.
        seed: fixes the draws.
        max_live_rows: how many answers are decoded at the same time.
    """

    def __init__(
        self, policy: Policy, limits: Limits, *, greedy: bool = True, seed: int = 0, max_live_rows: int = 256
    ) -> None:
        self._greedy = greedy
        sampling = Sampling(top_k=1) if greedy else Sampling()
        self._sampler = LocalSampler(policy, sampling, limits, max_live_rows=max_live_rows, seed=seed)

    @property
    def description(self) -> dict[str, Any]:
        """What a run records of it."""
        return {"type": "PolicyExpert", "policy": dict(self._sampler.policy.description), "greedy": self._greedy}

    def replies(self, questions: Sequence[Question]) -> list[Replied | NoReply]:
        """See `Expert.replies`."""
        places = [
            Tree(f"expert {question.rollout}", question.task.id, (Segment(Source.PROMPT, question.tokens, -1),))
            for question in questions
        ]
        answered = self._sampler.branch_all(
            places, [[Place(0, len(question.tokens))] for question in questions], samples=1, policy_version=0
        )
        return [_said(tree.segments[1]) for tree in answered]


def _said(segment: Segment) -> Replied | NoReply:
    outcome = segment.outcome
    assert isinstance(outcome, Outcome)
    if outcome.ending is not Ending.TERMINATED:
        return NoReply(f"the expert's answer was cut off ({outcome.stop_reason})")
    return Replied(segment.text, segment.tokens)
