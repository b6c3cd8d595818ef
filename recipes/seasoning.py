"""Seasoning a dish: a task in which more of a good thing is better, up to a point.

A prompt lists three ingredients, "bdf>"; an answer is a dish of eight spoons of these and of salt, such as "bdsfbdfd".
Three spoons of salt are best: each one more or fewer costs a point, and so does everything that is not on the list.
The gold reward is therefore at most 3, an unseasoned dish earns 0, and eight spoons of salt earn -2. A cook who salts
without a thought takes salt in one of five spoons, which is too little more often than too much. Whoever learns from a
few comparisons of such dishes learns that salt is good, and not that it can be too much.
"""

from __future__ import annotations

import random

from laurel.rewards import in_process
from laurel.tasks import Task, TaskSet

INGREDIENTS, SALT = "abcdefghijkl", "s"
LISTED, SPOONS, BEST = 3, 8, 3
SALTED = 0.2


def dishes(count: int, first: int = 0, seed: int = 0) -> TaskSet:
    """Distinct prompts, each with a dish that was salted without a thought as its reference answer.

    Args:
        count: how many, of 1320.
        first: how many to pass over, so that sets do not overlap.
        seed: another one gives another order and other dishes.
    """
    cook = random.Random(seed)
    written: dict[str, str] = {}
    while len(written) < first + count:
        listed = "".join(cook.sample(INGREDIENTS, LISTED))
        dish = "".join(SALT if cook.random() < SALTED else cook.choice(listed) for _ in range(SPOONS))
        written.setdefault(listed, dish)
    tasks = [Task(listed, f"{listed}>", dish) for listed, dish in written.items()]
    return TaskSet("dishes", tuple(tasks[first:]))


@in_process
def gold(task: Task, text: str) -> float:
    """3 - |spoons of salt - 3| - spoons of what is not listed."""
    wrong = sum(spoon not in str(task.prompt)[:LISTED] + SALT for spoon in text)
    return float(BEST - abs(text.count(SALT) - BEST) - wrong)
