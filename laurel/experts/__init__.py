"""Experts: who can be asked what to answer next, in a state that the policy has led to."""

from collections.abc import Callable

from laurel.experts.expert import AnotherPolicy, Expert, ExpertFunction, NoReply, Question, Replied
from laurel.experts.program import Program

EXPERTS: dict[str, Callable[..., Expert | AnotherPolicy]] = {"policy": AnotherPolicy, "program": Program}
"""The experts that a recipe names; a function is written as package.module:function."""

__all__ = ["EXPERTS", "AnotherPolicy", "Expert", "ExpertFunction", "NoReply", "Program", "Question", "Replied"]
