"""A policy learns to write programs that pass their tests, from the sandbox's verdicts alone."""

from pathlib import Path

import pytest

import laurel
from laurel.sandbox import kernel
from laurel.tasks import Task, TaskSet

BEGINNING = "from operator import add as a, sub as s, mul as m\nf = "
TESTS = {"+": "assert f(2, 5) == 7 and f(1, 1) == 2", "*": "assert f(2, 5) == 10", "-": "assert f(2, 5) == -3"}
RIGHT = {"+": "a", "*": "m", "-": "s"}


def operators() -> TaskSet:
    """Which of three functions does what the prompt asks? Anything else is no program, or a wrong one."""
    made = (Task(sign, f"{sign}>", RIGHT[sign], {"tests": tests, "start": BEGINNING}) for sign, tests in TESTS.items())
    return TaskSet("operators", tuple(made))


@pytest.mark.slow
@pytest.mark.skipif(kernel.missing() is not None, reason=f"no sandbox here: {kernel.missing()}")
def test_programs_that_pass_their_tests_become_likely(tmp_path: Path) -> None:
    policy = laurel.policy.tiny(alphabet="asm+*->", hidden_size=32, initial_scale=0.2, seed=0)
    reward = laurel.rewards.code(beginning="start")
    limits = laurel.Limits(max_new_tokens=2)

    def accuracy() -> float:
        sampler = laurel.rollout.LocalSampler(policy, laurel.Sampling(), limits, seed=0)
        with laurel.rewards.Grader(laurel.rewards.exact_match()) as grader:
            return laurel.evaluate(sampler, grader, operators(), samples=64).mean

    before = accuracy()
    laurel.train(
        policy=policy,
        tasks=operators(),
        reward=reward,
        algorithm=laurel.grpo(entropy=0.1),
        steps=25,
        prompts_per_step=3,
        samples_per_prompt=16,
        limits=limits,
        optimiser=laurel.OptimiserSettings(learning_rate=1e-2, betas=(0.9, 0.99)),
        checkpoint_every=25,
        seed=0,
        run=tmp_path / "run",
    )
    assert before < 0.3 and accuracy() > 0.9
