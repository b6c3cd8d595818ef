"""A model or a run, judged on tasks: what `laurel eval` does, from Python as `laurel.eval`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from laurel.evaluation import Evaluation, evaluate
from laurel.lengths import check_prompts
from laurel.memory import enough_memory
from laurel.policy import Policy, as_reward, reward_for
from laurel.recipe import component, policies, rewards
from laurel.restoring import Judgement, judgement_of_run, policy_of_run
from laurel.rewards import Grader, Reward
from laurel.rewards.sub_goals import paid_by
from laurel.rollout import LocalSampler
from laurel.runs import is_run
from laurel.tasks import TaskSet
from laurel.without_labels import check_judge

REWARD = "exact_match"


def eval(
    model: Policy | str | Path,
    tasks: TaskSet,
    *,
    reward: Reward | str | None = None,
    samples: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    max_new_tokens: int | None = None,
    stop: Sequence[str] | None = None,
    max_live_rows: int | None = None,
    seed: int | None = None,
    name: str | None = None,
) -> Evaluation:
    """Score a model on tasks, with a 95 % interval.

    A run is judged as its held-out tasks were, from its record: the same tasks give the score of its last evaluation.

    Args:
        model: a policy, a hub name, a model directory, or the directory of a run.
        tasks: what it is asked.
        reward: a function of (task, text), or a name as in a recipe; None: the run's own, else exact_match.
        samples: answers per task; None: the run's, else 1.
        temperature, top_k, top_p, min_p: see `laurel.Sampling`; None: the run's, else that class's default.
        max_new_tokens, stop: budget of one answer, and texts that end it; None: as above.
        max_live_rows: answers drawn at the same time, which change no draw; None: the sampler's default.
        seed: fixes every draw; None: the run's, else 0.
        name: of the result; None: that of the task set.

    Raises:
        LaurelError: if the model cannot be loaded, a prompt does not fit, or too much could not be graded.
    """
    run = None if isinstance(model, Policy) or not is_run(model) else Path(model)
    named = REWARD if reward is None and run is None else reward
    judge = component("reward", rewards(), named) if isinstance(named, str) else as_reward(named)
    how = Judgement(reward=judge) if run is None else judgement_of_run(run, reward=judge)
    drawn = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    bounds = {"max_new_tokens": max_new_tokens, "stop_strings": None if stop is None else tuple(stop)}
    check_judge("reward", how.reward)
    sampling, limits = replace(how.sampling, **_given(drawn)), replace(how.limits, **_given(bounds))
    if isinstance(model, Policy):
        policy = model
    else:
        policy = component("policy", policies(), str(model)) if run is None else policy_of_run(run)
    rows = _given({"max_live_rows": max_live_rows})
    sampler = LocalSampler(policy, sampling, limits, seed=how.seed if seed is None else seed, **rows)
    if how.environment is None:
        check_prompts(policy, tasks, sampler.path_limit)
    less = "lower max_live_rows or max_new_tokens, or take a device with more memory."
    judge = reward_for(policy, paid_by(how.reward, how.environment))
    with Grader(judge, how.grading) as grader, enough_memory(f"evaluating {tasks.name}", less):
        return evaluate(
            sampler,
            grader,
            tasks,
            environment=how.environment,
            samples=samples or how.samples,
            name=name or tasks.name,
        )


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {key: value for key, value in options.items() if value is not None}
