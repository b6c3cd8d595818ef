"""Rewards that a fresh grading process can import: the good, the slow and the broken."""

import asyncio
import ctypes
import os
import sys
import time
from pathlib import Path

from laurel.tree import Failed, Score


def right(task, text):
    return text == task.reference


async def right_later(task, text):
    await asyncio.sleep(0.001)
    return float(text == task.reference)


def by_order(task, text):
    """What the text asks for: a table of everything that can go wrong."""
    if text == "hang":
        time.sleep(3600)
    if text == "spin":
        while True:
            pass
    if text == "exit":
        os._exit(3)
    if text == "sys.exit":
        sys.exit(4)
    if text == "segfault":
        ctypes.string_at(0)
    if text == "raise":
        raise ValueError("no sandbox at 0x7fdeadbeef00")
    if text == "score":
        return Score(0.5, {"a": 0.25})
    if text == "failed":
        return Failed("judge is offline")
    if text == "print":
        print("noise on stdout")
    return {"nan": float("nan"), "text": "1.0", "none": None, "list": [1.0], "true": True}.get(text, 1.0)


def slow(task, text):
    time.sleep(0.2)
    return 1.0


def length_in_tokens(task, rollout):
    return float(sum(len(s) for s in rollout.segments if s.sampler_log_probs is not None)) + len(rollout.turns) / 10


def second_time_lucky(task, text):
    """Fails once per task; `data` names a folder that outlives the process."""
    mark = Path(task.data["folder"]) / task.id
    if mark.exists():
        return 1.0
    mark.touch()
    raise OSError("first time")


def starts_a_child_and_hangs(task, text):
    import subprocess

    child = subprocess.Popen(["sleep", "3600"])
    Path(task.data["folder"], "child").write_text(str(child.pid))
    time.sleep(3600)


def process_id(task, text):
    return float(os.getpid())


def knows_torch(task, text):
    return "torch" in sys.modules


def lengths_of_steps(task, steps):
    return [len(step) for step in steps]
