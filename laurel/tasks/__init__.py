"""Tasks: what is asked, and what is known about a right answer."""

from laurel.tasks.task import Message, Prompt, Task

__all__ = ["Message", "Prompt", "Task"]
