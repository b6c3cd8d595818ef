"""Material for the tests of runs: trees, a toy training loop, processes that die."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from laurel.algorithms.algorithm import Credit
from laurel.metrics import Metric
from laurel.runs import KILL_VARIABLE, Run, open_run
from laurel.tree import Ending, Failed, Outcome, Sampling, Score, Segment, Source, Support, Tree


def game(name: str = "1.0") -> Tree:
    """The dialogue of `laurel.tree`'s docstring with everything that can be recorded on it, and a failed rollout."""
    sampling = Sampling(temperature=0.5, top_k=2)
    first, second, third = np.array([-0.7]), np.array([-0.1, -2.5]), np.array([-3.0, 0.0])
    support = Support(np.array([7, 20, 21, 22]), np.array([0, 2, 4]))
    lost = Outcome(Ending.FAILED, "environment", Failed("the sandbox died"))
    won = Outcome(Ending.TERMINATED, "end", Score(1.0, {"right": 0.75, "short": 0.25}))
    return Tree(
        name,
        "guess",
        (
            Segment(Source.PROMPT, np.array([10, 11]), -1, text="guess 1-9:"),
            Segment(Source.POLICY, np.array([20]), 0, "5", first, Sampling(), None, 3, rollout_id="1.0.0"),
            Segment(Source.ENVIRONMENT, np.array([30]), 1, text="lower", reward=-0.25),
            Segment(Source.POLICY, np.array([21, 1]), 2, "3", second, sampling, support, 3, 0.0, won, "1.0.0"),
            Segment(Source.POLICY, np.array([22, 1]), 0, "9", third, Sampling(), None, 3, 0.0, lost, "1.0.1"),
        ),
    )  # fmt: skip


def credit_of(tree: Tree, value: float = 0.5) -> Credit:
    """The same credit for every policy token."""
    return Credit(np.where(tree.flat.policy, value, 0.0), tree.flat.policy.copy())


def assert_same_tree(found: Tree, wanted: Tree) -> None:
    """Equal in every field of every segment, with equal types of arrays."""
    assert (found.id, found.task_id, len(found.segments)) == (wanted.id, wanted.task_id, len(wanted.segments))
    for a, b in zip(found.segments, wanted.segments, strict=True):
        for name in ("source", "parent", "text", "sampling", "policy_version", "reward", "outcome", "rollout_id"):
            assert getattr(a, name) == getattr(b, name), name
        assert type(a.source) is type(b.source)
        pairs = [(a.tokens, b.tokens), (a.sampler_log_probs, b.sampler_log_probs)]
        assert (a.support is None) == (b.support is None)
        if a.support is not None and b.support is not None:
            pairs += [(a.support.ids, b.support.ids), (a.support.offsets, b.support.offsets)]
        for x, y in pairs:
            assert (x is None) == (y is None)
            if x is not None and y is not None:
                assert x.dtype == y.dtype
                np.testing.assert_array_equal(x, y)


CONFIGURATION = {"algorithm": "toy", "steps": 6}
STEPS = 6
CHECKPOINT_EVERY = 2


def toy_loop(directory: Path, *, resume: bool = False) -> Run:
    """A training loop in miniature: what it draws depends on its weights, and its weights on what it drew."""
    with open_run(directory, CONFIGURATION, resume=resume) as run:
        checkpoint = run.load_checkpoint()
        done = 0 if checkpoint is None else checkpoint.step
        weights = torch.zeros(3) if checkpoint is None else checkpoint.tensors["policy"]["weights"]
        moment = torch.zeros(3) if checkpoint is None else checkpoint.tensors["optimiser"]["moment"]
        if done == 0:
            _evaluate(run, 0, weights)
        for step in range(done + 1, STEPS + 1):
            trees = [_draw(f"{step}.{place}", weights, step) for place in range(3)]
            moment = 0.9 * moment + torch.tensor([float(tree.flat.tokens.sum() % 7) for tree in trees])
            weights = weights - 0.01 * moment
            credits = [credit_of(tree, float(weights[0])) for tree in trees]
            metrics = {"reward": Metric(float(weights.sum()), 3)}
            run.record_step(step, trees, credits, metrics, {"seconds": 0.1}, events=[("note", f"step {step}")])
            if step % CHECKPOINT_EVERY == 0:
                _evaluate(run, step, weights)
                groups = {"policy": {"weights": weights}, "optimiser": {"moment": moment}}
                run.save_checkpoint(step, groups, {"cursor": step * 3})
    return run


def _evaluate(run: Run, step: int, weights: torch.Tensor) -> None:
    tree = _draw(f"evaluation.{step}", weights, step)
    run.record_evaluation(step, "held_out", Metric(float(weights[1]), 1), [tree])


def _draw(name: str, weights: torch.Tensor, step: int) -> Tree:
    draw = np.random.default_rng([step, abs(int(weights.sum() * 1000))])
    score = Outcome(Ending.TERMINATED, "end", Score(float(weights[2])))
    tokens, log_probs = draw.integers(0, 300, 5), -draw.random(5).astype(np.float32)
    answer = Segment(Source.POLICY, tokens, 0, "x" * step, log_probs, Sampling(), None, step, 0.0, score, f"{name}.0")
    return Tree(name, "task", (Segment(Source.PROMPT, draw.integers(0, 300, 4), -1), answer))


def fork(act: Callable[[], object]) -> int:
    """Do something in a child process; returns its pid."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act()
            status = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    return pid


def wait(pid: int) -> int:
    """The exit status of a child; minus the signal if one killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die_at(moment: str, act: Callable[[], object]) -> None:
    """Do something in a child that is killed at a named moment ("phase:step"), and make sure that it was."""

    def child() -> None:
        os.environ[KILL_VARIABLE] = moment
        act()

    assert wait(fork(child)) == -signal.SIGKILL, f"nothing passes {moment}"
