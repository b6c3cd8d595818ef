"""Reinforcement by a verifier raises the share of held-out theorems that a policy proves; cloning on does not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

import laurel
from laurel import recipe
from laurel.formal import prove
from laurel.metrics import Metric
from laurel.policy import Policy
from laurel.rewards import metamath_proof
from laurel.rollout import Respondent
from laurel.runs import Run
from laurel.tasks import Curriculum, TaskSet, theorems
from laurel.tree import Source

DEMONSTRATIONS, HELD_OUT = 60, 150
CLONE_STEPS = 100
LIMITS = laurel.Limits(max_new_tokens=6)  # five labels are two detachments, and the end
GREEDY = laurel.Sampling(top_k=1)


@dataclass(frozen=True)
class Result:
    """Shares of held-out theorems that are proved at the first, greedy attempt."""

    cloned: Metric
    reinforced: Metric
    cloned_on: Metric | None


def splits(seed: int) -> tuple[TaskSet, TaskSet, TaskSet]:
    """(demonstrations, training, held out): theorems of up to two detachments, no two the same up to names."""
    tasks = theorems(count=500, steps=2, longest=13, variables=2, seed=seed)
    training, held_out = tasks.split(HELD_OUT, seed=seed)
    return training[:DEMONSTRATIONS], training, held_out


def clone(policy: Policy, tasks: TaskSet, steps: int, seed: int, directory: Path) -> Run:
    return laurel.train(
        policy=policy,
        tasks=tasks,
        algorithm=laurel.clone(),
        steps=steps,
        prompts_per_step=50,
        optimiser=laurel.OptimiserSettings(learning_rate=1e-3),
        checkpoint_every=steps,
        seed=seed,
        run=directory,
    )


def proved(policy: Policy, tasks: TaskSet) -> Metric:
    sampler = laurel.rollout.LocalSampler(policy, GREEDY, LIMITS, seed=0)
    with laurel.rewards.Grader(metamath_proof()) as grader:
        return laurel.evaluate(sampler, grader, tasks).metric


def seconds(run: Run) -> float:
    return sum(sum(run.timings(step).values()) for step in run.steps())


def learn(seed: int, directory: Path, steps: int, curriculum: Curriculum | None = None, control: bool = True) -> Result:
    demonstrations, training, held_out = splits(seed)
    policy = laurel.policy.tiny(alphabet="Cpq:12D", context_length=32, seed=seed)
    first = clone(policy, demonstrations, CLONE_STEPS, seed, directory / "clone")
    start = {name: tensor.clone() for name, tensor in policy.tensors().items()}
    before = proved(policy, held_out)
    run = laurel.train(
        policy=policy,
        tasks=training,
        reward=metamath_proof(),
        curriculum=curriculum,
        algorithm=laurel.grpo(),
        steps=steps,
        prompts_per_step=32,
        limits=LIMITS,
        optimiser=laurel.OptimiserSettings(
            learning_rate=3e-4, betas=(0.9, 0.99), schedule="linear", warmup_steps=5, maximum_gradient_norm=1.0
        ),
        checkpoint_every=steps,
        seed=seed,
        run=directory / "reinforce",
    )
    after = proved(policy, held_out)
    if not control:
        return Result(before, after, None)
    policy.load_tensors(start)
    as_long = max(1, round(seconds(run) / (seconds(first) / CLONE_STEPS)))
    clone(policy, demonstrations, as_long, seed, directory / "control")
    return Result(before, after, proved(policy, held_out))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(3))
def test_the_verifier_alone_raises_held_out_proofs(seed: int, tmp_path: Path) -> None:
    result = learn(seed, tmp_path, steps=200)
    assert result.cloned_on is not None
    assert result.reinforced.mean > result.cloned.mean + 0.15
    assert result.reinforced.mean > result.cloned_on.mean + 0.15


def test_the_recipe_takes_its_first_steps(tmp_path: Path) -> None:
    """Turns are answered by the environment, and the level of the curriculum is recorded."""
    sizes = ("prompts_per_step=4", "samples_per_prompt=24", "tasks.count=60", "held_out=6")
    small = ("steps=2", "optimiser.warmup_steps=0", f"run={tmp_path}/r", *sizes)
    settings = recipe.load(Path(__file__).parents[1] / "recipes" / "proofs.yaml", small)
    run = laurel.train(**settings)
    assert [metric.mean for _, metric in run.metric("level")] == [0, 0]
    segments = [segment for step in (1, 2) for tree in run.trees(step) for segment in tree.segments]
    heard = {segment.text for segment in segments if segment.source is Source.ENVIRONMENT}
    assert heard and all(text.endswith(":") for text in heard)
    assert any(text.startswith("no ") for text in heard)


def test_a_formaliser_and_a_prover_are_policies(tmp_path: Path) -> None:
    """The chain asks any policy; an untrained one formalises nothing, and the report says so."""
    policy = laurel.policy.tiny(alphabet="CN|-ifthenos pqr():", hidden_size=16, layers=1, heads=2, context_length=64)
    ask = Respondent(policy)

    def formaliser(text: str) -> str:
        return ask([{"role": "user", "content": text}], max_new_tokens=6)

    attempt = prove("if p then (if q then p)", formaliser, lambda text: "1")
    assert not attempt.holds and attempt.reason
