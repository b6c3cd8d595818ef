"""Killed anywhere and resumed equals uninterrupted: weights, optimiser, metrics, trees, evaluations, byte for byte.

Each run happens in a forked child, which the kernel really kills (SIGKILL: no clean-up, no goodbye).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import laurel
from laurel.errors import ConfigurationError, RunError
from laurel.runs import PHASES, Run
from laurel.runs.checkpoints import hashes
from laurel.tasks import Task, TaskSet

STEPS = 6
CHECKPOINT_EVERY = 2
ALPHABET = "0123456789>"


def sums(first: int, last: int) -> TaskSet:
    """ "3+4>" without the plus: two digits to be added, one answer."""
    return TaskSet("sums", tuple(Task(f"{i}", f"{i:02d}>", str(i // 10 + i % 10)) for i in range(first, last)))


def train(directory: Path, *, resume: bool = False, **changes: object) -> Run:
    arguments: dict[str, object] = {
        "policy": laurel.policy.tiny(alphabet=ALPHABET, hidden_size=16, layers=1, heads=2, context_length=8),
        "tasks": sums(0, 60),
        "held_out": sums(60, 70),
        "reward": laurel.rewards.exact_match(),
        "algorithm": laurel.grpo(kl=0.01, minibatches=2),
        "steps": STEPS,
        "prompts_per_step": 4,
        "samples_per_prompt": 4,
        "limits": laurel.Limits(max_new_tokens=3),
        "optimiser": laurel.OptimiserSettings(learning_rate=1e-2, schedule="linear", warmup_steps=2),
        "evaluate_every": 3,
        "checkpoint_every": CHECKPOINT_EVERY,
        "run": directory,
        "resume": resume,
    }
    return laurel.train(**{**arguments, **changes})  # type: ignore[arg-type]


def in_child(action: Callable[[], object], environment: dict[str, str] | None = None) -> int:
    """Process id of a forked child that runs `action` and exits with 0, or 1 if it raised."""
    process = os.fork()
    if process:
        return process
    try:
        os.environ.update(environment or {})
        action()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def ended(process: int) -> int:
    """The exit status of a child; minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@dataclass(frozen=True)
class Result:
    digest: str
    checkpoints: dict[int, dict[str, str]]


def result(directory: Path) -> Result:
    with Run.open(directory) as run:
        assert run.status.state == "finished"
        folder = directory / "checkpoints"
        # A kill between the last rename and the tidying may leave one more, older checkpoint behind.
        kept = {step: hashes(folder / f"step-{step:06d}") for step in run.checkpoint_steps[-2:]}
        return Result(run.digest(), kept)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Result:
    directory = tmp_path_factory.mktemp("whole") / "run"
    assert ended(in_child(lambda: train(directory))) == 0
    return result(directory)


MOMENTS = [
    (name, step)
    for name in PHASES
    for step in (1, 3, 4)
    if name != "in_rewind"
    and (step == 3 or name != "after_evaluation")
    and (step == 4 or name not in ("in_checkpoint_write", "before_rename", "after_rename", "after_checkpoint"))
    and (step == 3 or name != "before_finish")
]


@pytest.mark.parametrize(("name", "step"), MOMENTS)
def test_killed_at_a_named_moment(name: str, step: int, tmp_path: Path, uninterrupted: Result) -> None:
    directory = tmp_path / "run"
    step = STEPS if name == "before_finish" else step
    killed = ended(in_child(lambda: train(directory), {"LAUREL_KILL_AT": f"{name}:{step}"}))
    assert killed == -signal.SIGKILL
    with Run.open(directory) as run:
        assert run.status.state == "interrupted"
    assert ended(in_child(lambda: train(directory, resume=True))) == 0
    assert result(directory) == uninterrupted


WITH_A_CRITIC: dict[str, object] = {
    "algorithm": laurel.ppo(epochs=2, minibatches=2, maximum_kl=0.05),
    "critic": laurel.CriticSettings(
        optimiser=laurel.OptimiserSettings(learning_rate=1e-2, schedule="cosine"), clip=0.5, prefit_updates=1
    ),
}


@pytest.mark.parametrize("kind", ["own", "shared"])
def test_a_critic_is_killed_and_resumed_too(kind: str, tmp_path: Path) -> None:
    changes = {**WITH_A_CRITIC, "critic": replace(WITH_A_CRITIC["critic"], kind=kind)}  # type: ignore[type-var]
    whole, directory = tmp_path / "whole", tmp_path / "run"
    assert ended(in_child(lambda: train(whole, **changes))) == 0
    killed = ended(in_child(lambda: train(directory, **changes), {"LAUREL_KILL_AT": "after_update:4"}))
    assert killed == -signal.SIGKILL
    assert ended(in_child(lambda: train(directory, resume=True, **changes))) == 0
    assert result(directory) == result(whole)


BOUND = laurel.Budget("answer_tokens", at_most=1.5, rate=0.1)
HELD: dict[str, laurel.Algorithm] = {
    "adaptive, in the reward": laurel.rloo(kl=laurel.KL(0.05, control="adaptive", target=0.01), constraint=BOUND),
    "lagrangian, in the loss": laurel.grpo(
        kl=laurel.KL(estimator="exact", control="lagrangian", target=1e-6, rate=3.0), minibatches=2
    ),
}


@pytest.mark.parametrize("name", HELD)
def test_coefficients_that_move_are_killed_and_resumed_too(name: str, tmp_path: Path) -> None:
    whole, directory = tmp_path / "whole", tmp_path / "run"
    assert ended(in_child(lambda: train(whole, algorithm=HELD[name]))) == 0
    killed = ended(in_child(lambda: train(directory, algorithm=HELD[name]), {"LAUREL_KILL_AT": "after_update:4"}))
    assert killed == -signal.SIGKILL
    assert ended(in_child(lambda: train(directory, resume=True, algorithm=HELD[name]))) == 0
    assert result(directory) == result(whole)
    with Run.open(directory) as run:
        moved = ["kl/coefficient", *(["budget/answer_tokens/coefficient"] if BOUND in HELD[name].penalties else [])]
        for metric in moved:
            values = [value.mean for _, value in run.metric(metric)]
            assert len(values) == STEPS and values[0] != values[-1], f"{metric} stood still: {values}"


def test_continuations_are_killed_and_resumed_too(tmp_path: Path) -> None:
    changes = {"algorithm": laurel.vine_ppo(every=1, continuations=2, budget=4)}
    whole, directory = tmp_path / "whole", tmp_path / "run"
    assert ended(in_child(lambda: train(whole, **changes))) == 0
    killed = ended(in_child(lambda: train(directory, **changes), {"LAUREL_KILL_AT": "after_sampling:4"}))
    assert killed == -signal.SIGKILL
    assert ended(in_child(lambda: train(directory, resume=True, **changes))) == 0
    assert result(directory) == result(whole)
    with Run.open(directory) as run:
        assert all(metric.mean > 1 for _, metric in run.metric("continuations"))


JUDGED: dict[str, object] = {
    "tasks": laurel.preferences.pairs(
        rows=[{"prompt": f"0{n}>", "chosen": str(n), "rejected": str((n + 1) % 10)} for n in range(8)]
    ),
    **dict.fromkeys(("held_out", "reward", "samples_per_prompt", "limits", "evaluate_every")),
}


@pytest.mark.parametrize("algorithm", [laurel.dpo(), laurel.kto(minibatches=2)], ids=["dpo", "kto"])
def test_a_run_on_judged_answers_is_killed_and_resumed_too(algorithm: laurel.Algorithm, tmp_path: Path) -> None:
    """Over three epochs of the data: what the reference said of them in the first is in the checkpoint."""
    changes, whole, directory = {**JUDGED, "algorithm": algorithm}, tmp_path / "whole", tmp_path / "run"
    assert ended(in_child(lambda: train(whole, **changes))) == 0
    killed = ended(in_child(lambda: train(directory, **changes), {"LAUREL_KILL_AT": "after_update:4"}))
    assert killed == -signal.SIGKILL
    assert ended(in_child(lambda: train(directory, resume=True, **changes))) == 0
    assert result(directory) == result(whole)


def test_killed_again_while_resuming(tmp_path: Path, uninterrupted: Result) -> None:
    directory = tmp_path / "run"
    assert ended(in_child(lambda: train(directory), {"LAUREL_KILL_AT": "after_update:4"})) == -signal.SIGKILL
    again = {"LAUREL_KILL_AT": "in_rewind:2"}
    assert ended(in_child(lambda: train(directory, resume=True), again)) == -signal.SIGKILL
    assert ended(in_child(lambda: train(directory, resume=True))) == 0
    assert result(directory) == uninterrupted


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_moments_until_it_is_done(seed: int, tmp_path: Path, uninterrupted: Result) -> None:
    directory = tmp_path / "run"
    generator = random.Random(seed)
    killed, longest = 0, 0.25
    for attempt in range(40):
        process = in_child(lambda: train(directory, resume=True))
        # Later attempts live longer, so that the loop ends on a slow machine too.
        time.sleep(generator.uniform(0.02, longest) * (1 + attempt / 4))
        os.kill(process, signal.SIGKILL)
        status = ended(process)
        assert status in (0, -signal.SIGKILL)
        if status == 0 and killed:
            break
        if status == 0:  # a fast machine was done before the first kill: once more, with less time
            shutil.rmtree(directory)
            longest /= 2
        else:
            killed += 1
    else:
        assert ended(in_child(lambda: train(directory, resume=True))) == 0
    assert killed > 0
    assert result(directory) == uninterrupted


def test_a_torn_checkpoint_is_skipped_and_said_so(tmp_path: Path, uninterrupted: Result) -> None:
    directory = tmp_path / "run"
    assert ended(in_child(lambda: train(directory), {"LAUREL_KILL_AT": "after_record:5"})) == -signal.SIGKILL
    torn = directory / "checkpoints" / "step-000004" / "policy.safetensors"
    torn.write_bytes(torn.read_bytes()[:-10])
    assert ended(in_child(lambda: train(directory, resume=True))) == 0
    assert result(directory) == uninterrupted
    with Run.open(directory) as run:
        assert any("checkpoint of step 4 skipped" in event.text for event in run.events())


def test_a_resumed_run_may_go_further_but_not_elsewhere(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    short = {"optimiser": laurel.OptimiserSettings(learning_rate=1e-2), "steps": 2}
    train(directory, **short)
    train(directory, resume=True, **{**short, "steps": 4})
    with Run.open(directory) as run:
        assert run.steps() == [1, 2, 3, 4]
    whole = tmp_path / "whole"
    train(whole, **{**short, "steps": 4})
    with Run.open(directory) as first, Run.open(whole) as second:
        assert first.metric("reward") == second.metric("reward")
    with pytest.raises(ConfigurationError, match="seed"):
        train(directory, resume=True, **{**short, "seed": 1})
    with pytest.raises(RunError, match="holds a run already"):
        train(directory, **short)


def test_a_resumed_run_may_cut_its_work_into_smaller_pieces(tmp_path: Path) -> None:
    """Where memory ran out, that is the way on."""
    directory = tmp_path / "run"
    short = {"optimiser": laurel.OptimiserSettings(learning_rate=1e-2), "steps": 2}
    train(directory, **short)
    train(directory, resume=True, **{**short, "steps": 3, "tokens_per_microbatch": 20, "max_live_rows": 2})
    with Run.open(directory) as run:
        assert run.steps() == [1, 2, 3]
        assert any("max_live_rows was 256, now 2" in event.text for event in run.events())


def test_more_steps_are_refused_where_the_schedule_depends_on_their_number(tmp_path: Path) -> None:
    """The steps that are done had the learning rates of a shorter run."""
    directory = tmp_path / "run"
    falling = {"optimiser": laurel.OptimiserSettings(learning_rate=1e-2, schedule="linear"), "steps": 2}
    train(directory, **falling)
    with pytest.raises(ConfigurationError, match="steps was 2, now 4"):
        train(directory, resume=True, **{**falling, "steps": 4})
    train(directory, resume=True, **falling)


def test_the_schedule_of_the_critic_counts_too(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    falling = {**WITH_A_CRITIC, "optimiser": laurel.OptimiserSettings(learning_rate=1e-2), "steps": 2}
    train(directory, **falling)
    with pytest.raises(ConfigurationError, match="steps was 2, now 4"):
        train(directory, resume=True, **{**falling, "steps": 4})
