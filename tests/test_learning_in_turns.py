"""Methods with a critic learn a game of two turns in which only who listens wins always: guess one of three numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

import laurel
from laurel.algorithms import Algorithm
from laurel.environments import NumberGuessing
from laurel.learner.schedule import Schedule

UNTRAINED = 0.05
# Two numbers out of three without listening; an untrained policy rarely ends its turn in time.
WITHOUT_LISTENING = 2 / 3
ENTROPY = 0.03
# Once every game is won the advantages are the critic's last errors. AdamW with its usual 1e-8 blows them up to full
# steps, and a policy that was perfect falls apart now and then.
EPSILON = 1e-5
METHODS: dict[str, Algorithm] = {
    # Two tokens per turn are a rule of this game. Were a cut turn worth what the critic says after it, nobody would
    # ever end a turn: at first nine in ten are cut, and the values that their ends lead to are made of each other.
    "ppo": laurel.ppo(entropy=ENTROPY, bootstrap=False),
    "turn_ppo": laurel.turn_ppo(entropy=ENTROPY, bootstrap=False),
}


def play(
    name: str, seed: int, directory: Path, *, steps: int, prompts: int, rate: float, schedule: Schedule = "constant"
) -> tuple[float, float]:
    """The part of held-out games that is won before and after training."""
    game = NumberGuessing(low=1, high=3, turns=2, higher="+", lower="-")
    shape = {"hidden_size": 32, "layers": 2, "heads": 2, "context_length": 32}
    run = laurel.train(
        policy=laurel.policy.tiny(alphabet="gues 123:+-", seed=seed, **shape),
        environment=game,
        tasks=game.tasks(512),
        held_out=game.tasks(200, first=512),
        algorithm=METHODS[name],
        steps=steps,
        prompts_per_step=prompts,
        limits=laurel.Limits(max_new_tokens=2, max_turns=2),
        optimiser=laurel.OptimiserSettings(learning_rate=rate, betas=(0.9, 0.99), epsilon=EPSILON, schedule=schedule),
        critic=laurel.CriticSettings(optimiser=laurel.OptimiserSettings(learning_rate=3e-3)),
        evaluation_samples=4,
        checkpoint_every=steps,
        seed=seed,
        run=directory,
    )
    first, last = (evaluation.metric.mean for evaluation in run.evaluations())
    return first, last


def test_turns_are_learned(tmp_path: Path) -> None:
    before, after = play("turn_ppo", 1, tmp_path / "run", steps=60, prompts=16, rate=2e-3)
    assert before < UNTRAINED and after > (1 + WITHOUT_LISTENING) / 2


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("name", METHODS)
def test_turns_are_learned_from_any_start(name: str, seed: int, tmp_path: Path) -> None:
    before, after = play(name, seed, tmp_path / "run", steps=120, prompts=32, rate=1e-3, schedule="linear")
    assert before < UNTRAINED and after > 0.9
