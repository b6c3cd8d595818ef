"""`trpo` in a run: solves a task without an optimiser, keeps its promise at every step, shows what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from no_tangents import Untangible
from rich.console import Console

import laurel
from laurel.errors import ConfigurationError
from laurel.runs import Run
from laurel.tasks import Task, TaskSet

LETTERS = "abcd"
DELTA = 0.05
STEPS = 25


def settings(directory: Path, seed: int = 1, **changes: Any) -> dict[str, Any]:
    """After a letter, the next one in a circle: an untrained policy is right about once in 49 answers."""
    following = dict(zip(LETTERS, LETTERS[1:] + LETTERS[0], strict=True))
    shape = {"hidden_size": 32, "layers": 1, "heads": 2, "context_length": 4}
    return {
        "policy": laurel.policy.tiny(alphabet=f"{LETTERS}>", initial_scale=0.15, seed=seed, **shape),
        "tasks": TaskSet("circle", tuple(Task(letter, f"{letter}>", following[letter]) for letter in LETTERS)),
        "algorithm": laurel.trpo(maximum_kl=DELTA),
        "reward": laurel.rewards.exact_match(),
        "limits": laurel.Limits(max_new_tokens=2),
        "steps": STEPS,
        "prompts_per_step": 8,
        "samples_per_prompt": 16,
        "seed": seed,
        "run": directory,
        **changes,
    }


def learns(seed: int, directory: Path) -> None:
    # Without the bonus, a policy this small sometimes settles on a wrong answer to one letter and never tries another.
    run = laurel.train(**settings(directory, seed, algorithm=laurel.trpo(maximum_kl=DELTA, entropy=0.05)))
    reward = [metric.mean for _, metric in run.metric("reward")]
    assert reward[0] < 0.15 and sum(reward[-3:]) / 3 > 0.8
    kls = [metric.mean for _, metric in run.metric("trust_region/kl")]
    assert len(kls) == STEPS and all(0 <= kl <= DELTA for kl in kls) and max(kls) > DELTA / 4


def test_it_learns_within_its_region(tmp_path: Path) -> None:
    learns(1, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 2, 3, 4, 5])
def test_it_learns_from_any_start(seed: int, tmp_path: Path) -> None:
    learns(seed, tmp_path / "run")


def test_a_model_without_the_derivatives_it_needs_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    given = settings(tmp_path / "run")
    decoder = given["policy"].model.get_decoder()
    decoder.layers[0].mlp.register_forward_hook(lambda module, given, output: Untangible.apply(output))
    with pytest.raises(ConfigurationError, match=r"no forward-mode derivative(.|\n)*What to do"):
        laurel.train(**given)
    assert not (tmp_path / "run").exists()


def test_what_is_refused_is_counted_recorded_and_shown(tmp_path: Path) -> None:
    """No step of a transformer meets delta to the sixth digit, and without a halving that is all that is tried."""
    run = laurel.train(**settings(tmp_path / "run", algorithm=laurel.trpo(maximum_kl=3.0, halvings=0), steps=3))
    refused = [step for step, metric in run.metric("trust_region/refused") if metric.mean]
    events = run.events("refused")
    assert refused and [event.step for event in events] == refused
    assert "none of 1 step lengths improved the surrogate" in events[0].text
    assert f"{len(refused)} refused" in str(run.summary())
    changed = dict(run.metric("weights_changed"))
    assert all(changed[step].sum == 0 for step in refused)


def test_resumed_is_the_same_run(tmp_path: Path) -> None:
    whole = laurel.train(**settings(tmp_path / "whole", steps=4, checkpoint_every=2))
    laurel.train(**settings(tmp_path / "cut", steps=2, checkpoint_every=2))
    cut = laurel.train(**settings(tmp_path / "cut", steps=4, checkpoint_every=2, resume=True))
    assert cut.digest() == whole.digest()
    with Run.open(tmp_path / "cut") as opened:
        assert opened.checkpoint_steps[-1] == 4


def test_settings_of_an_optimiser_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'optimiser' would not be read: 'trpo' finds the length"):
        laurel.train(**settings(tmp_path / "run", optimiser=laurel.OptimiserSettings(learning_rate=1e-3)))
    assert not (tmp_path / "run").exists()


def test_it_is_explained_with_its_costs(tmp_path: Path) -> None:
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(laurel.explain(settings(tmp_path / "run")))
    text = console.export_text()
    for said in (
        "maximum_kl=0.05",
        "iterations=10",
        "damping=0.1",
        "within 0.05 nats",
        "10 + 1 products",
        "vectors of",
    ):
        assert said in text
