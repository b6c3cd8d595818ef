"""A reward model from scratch on real pairs: which of two answers of an assistant people found the less harmful.

What to expect: little. It reads 656 pairs of at most 500 characters character by character, and has never seen a text
before. Of 300 pairs held out it was right about 0.573 [0.517, 0.628], 0.637 [0.581, 0.689] and 0.520 [0.464, 0.576]
(seeds 0, 1, 2: other weights and another split), where preferring the shorter answer is right about 0.540, 0.517 and
0.520: a signal on two of three splits, none on the third. It is about as sure as it is right (an expected calibration
error of 0.03 to 0.05).

So the test asks for what must hold of any honest fit: it comes to be right about its own pairs, it is not worse than
chance beyond the interval, it is not better than such data allow (which would be a leak), and it is calibrated.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import laurel
from laurel.evaluation import interval
from laurel.fitting import fit_reward_model
from laurel.preferences import Preference, pairs
from laurel.runs import Run
from laurel.tasks import TaskSet

DATA = Path(os.environ.get("LAUREL_DATA", Path(__file__).parents[2] / "shared" / "data"))
HARMLESS = DATA / "hh-rlhf-harmless-test" / "test.jsonl.gz"
CHARACTERS, HELD_OUT, STEPS = 500, 300, 120


def short_pairs() -> TaskSet:
    """Those whose prompt and longer answer fit, with rows that cannot be used left out."""
    whole = pairs(HARMLESS)
    assert len(whole) == 2303 and whole.left_out.count == 9
    short = [t for t in whole if isinstance(t, Preference) and length(t) <= CHARACTERS]
    return replace(whole, tasks=tuple(short))


def length(task: Preference) -> int:
    return len(str(task.prompt)) + max(map(len, task.answers))


def shorter_is_right(tasks: TaskSet) -> float:
    """How often the shorter answer was preferred; equal lengths count half."""
    signs = [np.sign(len(t.answers[1]) - len(t.answers[0])) for t in tasks if isinstance(t, Preference)]
    return float(np.mean(signs) / 2 + 0.5)


@pytest.mark.slow
@pytest.mark.skipif(not HARMLESS.is_file(), reason=f"the real pairs are not there: set LAUREL_DATA ({HARMLESS})")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_real_pairs(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = short_pairs()
    texts = {text for t in tasks if isinstance(t, Preference) for text in (str(t.prompt), *t.answers)}
    training, held_out = tasks.split(HELD_OUT, seed=seed)
    run = fit_reward_model(
        policy=laurel.policy.tiny(
            alphabet="".join(sorted(set("".join(texts)))),
            hidden_size=64,
            layers=2,
            heads=4,
            context_length=512,
            seed=seed,
        ),
        tasks=training,
        held_out=held_out,
        steps=STEPS,
        prompts_per_step=16,
        optimiser=laurel.OptimiserSettings(learning_rate=2e-3, schedule="cosine", warmup_steps=5),
        seed=0,
        run=tmp_path / "run",
    )
    with Run.open(run.directory) as opened:
        found = {e.name: e.metric for e in opened.evaluations() if e.step == STEPS}
        trees = opened.evaluation_trees("accuracy", STEPS)
        last = [metric for step, metric in opened.metric("reward_model/accuracy") if step > STEPS - 40]
    said = [{r.outcome.score.value: r.outcome.score.parts["reward_model"] for r in tree.rollouts} for tree in trees]  # type: ignore[union-attr]
    right = np.array([np.sign(rewards[1.0] - rewards[0.0]) / 2 + 0.5 for rewards in said])
    mean, low, high = interval(right)
    fitted = sum(metric.sum for metric in last) / sum(metric.count for metric in last)
    error = found["calibration_error"].mean
    with capsys.disabled():
        print(
            f"\nseed {seed}: {len(training)} pairs fitted, in the last steps right about {fitted:.3f}; "
            f"{len(held_out)} held out: accuracy {mean:.3f} [{low:.3f}, {high:.3f}], "
            f"shorter answer {shorter_is_right(held_out):.3f}, expected calibration error {error:.3f}"
        )
    assert mean == pytest.approx(found["accuracy"].mean)
    assert high > 0.5 and low < 0.65
    assert fitted > 0.53
    assert error < 0.1
