"""Graders of the reinforcement-fine-tuning schema."""

from laurel.rewards.graders.schema import SchemaGrader, grader

__all__ = ["SchemaGrader", "grader"]
