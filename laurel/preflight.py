"""What is checked before a run starts, so that none of it can stop the run at step 57."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from laurel.algorithms import Algorithm, Asked, Branching, Compared, Demonstrated, Sampled, TrustRegion
from laurel.asked import check_asked
from laurel.configuration import describe
from laurel.credit import (
    AnchorStates,
    LeaveOneOut,
    MonteCarloValues,
    Preferred,
    SiblingMean,
    Standardised,
    StepStandardised,
    Thumbs,
)
from laurel.environments import Environment, SingleTurn, runs_in_process
from laurel.errors import ConfigurationError, TaskError
from laurel.judged import judged
from laurel.judged_evaluation import OF_DRAWN_ANSWERS, held_out_judgements
from laurel.learner import CriticSettings, OptimiserSettings, RecoverySettings
from laurel.learner.schedule import check_total_steps
from laurel.lengths import check_demonstrations, check_prompts, prompt_lengths, usable_answers
from laurel.policy import Policy, check_reading, reward_models_in
from laurel.preferences import Kind
from laurel.rationalised import check_hints, hinted_tasks
from laurel.recovered import check_recovery
from laurel.rewards import REWARDS, GradingSettings, Reward, learning
from laurel.rollout import Limits
from laurel.score_parts import check_score_parts
from laurel.tasks import Curriculum, TaskSet, check_leak, walk
from laurel.tasks.normalise import normalised
from laurel.taught import check_given
from laurel.tree import Sampling
from laurel.without_labels import check_without_labels, learns_from_rewards

COUNTS = (
    "steps",
    "prompts_per_step",
    "samples_per_prompt",
    "evaluate_every",
    "evaluation_samples",
    "checkpoint_every",
    "max_live_rows",
    "tokens_per_microbatch",
)
SETTINGS = {
    "sampling": Sampling,
    "evaluation_sampling": Sampling,
    "limits": Limits,
    "optimiser": OptimiserSettings,
    "grading": GradingSettings,
    "curriculum": Curriculum,
}
COMPARE_SIBLINGS = (AnchorStates, LeaveOneOut, MonteCarloValues, Preferred, SiblingMean, Standardised)
NAMED_TASKS = 5


def check_parts(arguments: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse arguments of `laurel.train` that do not fit together, or that nobody would read.

    Args:
        arguments: all of them, by name.
        defaults: what each is when it is left out; one that equals its default counts as left out.

    Raises:
        ConfigurationError: naming the argument.
        TaskError: if a held-out prompt is trained on.
    """
    _check_kinds(arguments)
    for name in COUNTS:
        value = arguments[name]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ConfigurationError(
                f"{name} must be a whole number from 1, got {value!r}.", hint="change or remove it."
            )
    algorithm: Algorithm = arguments["algorithm"]
    for name, why in unread_arguments(arguments).items():
        if arguments[name] is not None and arguments[name] != defaults[name]:
            raise ConfigurationError(f"'{name}' would not be read: {why}.", hint=f"remove '{name}'.")
    _check_limits(arguments["limits"] or Limits(), arguments["environment"], arguments["expert"])
    graded = arguments["reward"] is not None or arguments["environment"] is not None
    if algorithm.needs_teacher and arguments["teacher"] is None:
        raise ConfigurationError(
            f"'{algorithm.name}' needs a teacher.", hint="add teacher: ..., the name or directory of a policy."
        )
    if not graded and isinstance(algorithm.source, Sampled) and algorithm.source.needs_reward:
        raise ConfigurationError(
            f"'{algorithm.name}' needs a reward.", hint="add reward: ..., or an environment that pays one."
        )
    _check_batch(algorithm, arguments)
    walk(arguments["tasks"], arguments["curriculum"], seed=arguments["seed"])
    _check_learning(algorithm, arguments["reward"])
    check_without_labels(arguments)
    check_hints(arguments)
    check_asked(arguments)
    check_given(arguments)
    check_recovery(arguments)
    _check_schedules(algorithm, arguments)
    if isinstance(algorithm.source, Sampled):
        judging = arguments["grading"] or GradingSettings()
        check_score_parts(algorithm, arguments["reward"], judging, arguments["environment"])
    sampling: Sampling = arguments["sampling"] or Sampling()
    if isinstance(algorithm.source, Sampled) and algorithm.source.greedy_baseline and sampling.top_k == 1:
        raise ConfigurationError(
            f"'{algorithm.name}' compares samples with the greedy answer, and with top_k=1 every sample is that.",
            hint="leave sampling.top_k out.",
        )
    if isinstance(algorithm.source, Sampled) and algorithm.source.branching is not None:
        _check_branching(algorithm.name, algorithm.source.branching, sampling)
    if arguments["held_out"] is not None:
        if not graded and arguments["held_out_reward"] is None and not held_out_judgements(arguments):
            judgements = ", or hold out judged answers" if isinstance(algorithm.source, Compared) else ""
            raise ConfigurationError(
                "Held-out tasks cannot be scored without a reward.", hint=f"add reward: ...{judgements}."
            )
        check_splits(arguments["tasks"], arguments["held_out"], arguments["environment"])


def _check_batch(algorithm: Algorithm, arguments: Mapping[str, Any]) -> None:
    """Refuse a step too small for what the method compares or splits."""
    alone = not (isinstance(algorithm.source, Sampled) and algorithm.source.self_play)
    if arguments["samples_per_prompt"] == 1 and alone and _compares_siblings(algorithm.credit):
        raise ConfigurationError(
            f"'{algorithm.name}' compares the samples of a prompt, so samples_per_prompt=1 teaches it nothing.",
            hint="take at least 2 (8 is usual), or a method without this comparison, such as reinforce.",
        )
    fitted: CriticSettings | None = arguments["critic"] if algorithm.needs_critic else None
    wanted = {"algorithm": algorithm.step.minibatches, "critic": (fitted.minibatches or 1) if fitted is not None else 1}
    for name, minibatches in wanted.items():
        if minibatches > arguments["prompts_per_step"]:
            raise ConfigurationError(
                f"{name}: {minibatches} minibatches of {arguments['prompts_per_step']} prompts per step leave some "
                "without a prompt.",
                hint=f"a prompt stays whole: lower {name}.minibatches, or raise prompts_per_step.",
            )
    if isinstance(algorithm.source, Compared) and algorithm.source.mismatched and arguments["prompts_per_step"] < 2:
        raise ConfigurationError(
            f"'{algorithm.name}' joins each prompt with an answer to another one of the step, and there is none.",
            hint="set prompts_per_step to at least 2; the more, the better its estimate of the divergence.",
        )


def _check_schedules(algorithm: Algorithm, arguments: Mapping[str, Any]) -> None:
    """Refuse a warm-up that leaves a falling schedule no step, of whatever learns in the run."""
    steps, usage = arguments["steps"], algorithm.step
    settings: OptimiserSettings | None = arguments["optimiser"]
    plans: dict[str, tuple[OptimiserSettings, int]] = {}
    alone = 0
    if algorithm.needs_critic:
        critic: CriticSettings = arguments["critic"] or CriticSettings()
        alone = critic.prefit_updates
        updates = (critic.epochs or usage.epochs) * (critic.minibatches or usage.minibatches)
        plans["critic.optimiser"] = critic.optimiser, steps * updates
    if algorithm.recovers is not None:
        recovery: RecoverySettings = arguments["recovery"] or RecoverySettings()
        plans["recovery.optimiser"] = recovery.optimiser, steps * recovery.updates
    if steps <= alone:
        raise ConfigurationError(
            f"critic: it is fitted alone for {alone} steps of {steps}, so the policy never learns.",
            hint="lower critic.prefit_updates, or take more steps.",
        )
    if settings is not None:
        plans["optimiser"] = settings, (steps - alone) * usage.epochs * usage.minibatches
    for name, (rates, total) in plans.items():
        try:
            check_total_steps(rates.schedule, warmup_steps=rates.warmup_steps, total_steps=total)
        except ConfigurationError as error:
            raise ConfigurationError(f"{name}: {error.message}", hint=error.hint) from error


def _check_learning(algorithm: Algorithm, reward: Reward | None) -> None:
    """Refuse a reward that learns from what the method does not gather."""
    if learning(reward) is None or learns_from_rewards(algorithm):
        return
    raise ConfigurationError(
        f"The reward learns from graded samples, and '{algorithm.name}' has none to learn from.",
        hint="take an online method, such as grpo.",
    )


def _compares_siblings(credit: object) -> bool:
    return isinstance(credit, COMPARE_SIBLINGS) or (isinstance(credit, StepStandardised) and credit.within_group)


def _check_limits(limits: Limits, environment: Environment | None, expert: object) -> None:
    """Refuse bounds on an environment that is not there, or that no clock stops."""
    if limits.max_turns > 1 and environment is None:
        raise ConfigurationError(
            "limits: 'max_turns' would not be read: without an environment nothing answers the first turn.",
            hint="add an environment, or remove 'max_turns'.",
        )
    if limits.environment_timeout_seconds != Limits.environment_timeout_seconds:
        if environment is None:
            why = "there is no environment"
        elif runs_in_process(environment) and (expert is None or hasattr(expert, "replies")):
            why = f"{type(environment).__name__} is marked with runs_in_process and has no deadline"
        else:
            return
        raise ConfigurationError(
            f"limits: 'environment_timeout_seconds' would not be read: {why}.",
            hint="remove 'environment_timeout_seconds'.",
        )


def _check_branching(name: str, branching: Branching, sampling: Sampling) -> None:
    """Refuse continuations without a bound, and such as can only repeat the sample that they continue."""
    _ = branching.places_per_sample
    if sampling.top_k == 1:
        raise ConfigurationError(
            f"'{name}' looks at what else could have followed, and with top_k=1 every continuation is the sample.",
            hint="leave sampling.top_k out.",
        )


def check_splits(tasks: TaskSet, held_out: TaskSet, environment: Environment | None) -> None:
    """Refuse held-out tasks that are trained on.

    Where prompts are the tasks, equal prompts are equal tasks. An environment may give many tasks one prompt and tell
    them apart by their ids: there, a pair with the same prompt and the same id is one task.

    Raises:
        TaskError: naming such tasks.
    """
    if environment is None or isinstance(environment, SingleTurn):
        check_leak(tasks, held_out)
        return
    trained = {(task.id, normalised(task.prompt)) for task in tasks}
    shared = [task.id for task in held_out if (task.id, normalised(task.prompt)) in trained]
    if shared:
        shown = ", ".join(shared[:NAMED_TASKS]) + (", ..." if len(shared) > NAMED_TASKS else "")
        raise TaskError(
            f"{len(shared)} tasks are in both '{tasks.name}' and '{held_out.name}', by id and prompt: {shown}.",
            hint="hold out others: tasks.split(...), or held_out: {name: environment, count: ..., first: ...}.",
        )


def check_fit(policy: Policy, arguments: Mapping[str, Any]) -> dict[str, TaskSet | None]:
    """Refuse prompts that leave no room for an answer, and demonstrations that are missing or too long.

    Every task is tokenised once. Where an environment writes the prompts, they are only known when it is asked.

    Returns:
        `tasks` and `held_out` as they can be used: where judged answers are read, without those that are too long.

    Raises:
        TaskError: naming the tasks.
    """
    sets: dict[str, TaskSet | None] = {name: arguments[name] for name in ("tasks", "held_out")}
    _check_entropy(policy, arguments["algorithm"], arguments["sampling"] or Sampling())
    _check_reward_models(policy, arguments)
    source = arguments["algorithm"].source
    if isinstance(source, Compared):
        sets["tasks"] = _usable(policy, arguments["algorithm"], arguments["tasks"])
    if arguments["environment"] is not None:
        return sets
    room = path_limit(policy, arguments)
    if isinstance(source, Demonstrated):
        check_demonstrations(policy, arguments["tasks"])
    elif not isinstance(source, Compared):
        if source.self_play or source.given or arguments["algorithm"].recovers is not None:
            check_demonstrations(policy, arguments["tasks"])
        check_prompts(policy, arguments["tasks"], room)
        if source.hint is not None:
            check_prompts(policy, hinted_tasks(arguments["tasks"], source.hint), room)
    if held_out_judgements(arguments):
        sets["held_out"] = _usable(policy, arguments["algorithm"], arguments["held_out"])
    elif arguments["held_out"] is not None:
        check_prompts(policy, arguments["held_out"], room)
    return sets


def _check_entropy(policy: Policy, algorithm: Algorithm, sampling: Sampling) -> None:
    """Refuse places where the policy is less decided than it can be."""
    branching = algorithm.source.branching if isinstance(algorithm.source, Sampled) else None
    if branching is None or branching.entropy_above is None:
        return
    tokens = min(sampling.top_k or policy.vocabulary_size, policy.vocabulary_size)
    if branching.entropy_above >= math.log(tokens):
        raise ConfigurationError(
            f"algorithm: entropy_above is {branching.entropy_above:g} nats, and no distribution over {tokens} tokens "
            f"has more than {math.log(tokens):.3g}, so there would be no place.",
            hint="lower algorithm.entropy_above; the metric 'entropy' of a run shows what its policy has on average.",
        )


def _check_reward_models(policy: Policy, arguments: Mapping[str, Any]) -> None:
    """Refuse reward models that do not read what this policy writes as what they were fitted to."""
    judges = ("reward", "held_out_reward", "watched_reward")
    models = [model for name in judges for model in reward_models_in(arguments[name])]
    if not models:
        return
    turns, limits = arguments["environment"] is not None, arguments["limits"] or Limits()
    sets = [] if turns else [some for some in (arguments["tasks"], arguments["held_out"]) if some is not None]
    longest = path_limit(policy, arguments)
    if not turns:
        longest = min(longest, max(max(prompt_lengths(policy, tasks)) for tasks in sets) + limits.max_new_tokens)
    for model in models:
        check_reading(model, policy, [task.prompt for some in sets for task in some], longest=longest, turns=turns)


def path_limit(policy: Policy, arguments: Mapping[str, Any]) -> int:
    """The most tokens on one path: what the limits say, within the policy's context."""
    limits: Limits = arguments["limits"] or Limits()
    return min(limits.max_path_tokens or policy.context_length, policy.context_length)


def _usable(policy: Policy, algorithm: Algorithm, tasks: TaskSet) -> TaskSet:
    """The tasks whose judged answers fit; some of them have to say something to this algorithm."""
    tasks = usable_answers(policy, tasks)
    if isinstance(algorithm.credit, Preferred) and not any(judged(task).distinguishes for task in tasks):
        raise TaskError(
            f"'{algorithm.name}' compares answers, and in '{tasks.name}' none is better than another to its prompt.",
            hint="give pairs or rankings without ties; from thumbs on single answers learns kto.",
        )
    if isinstance(algorithm.credit, Thumbs):
        _check_threshold(algorithm.name, algorithm.credit.threshold, tasks)
    mismatched = isinstance(algorithm.source, Compared) and algorithm.source.mismatched
    if mismatched and len({normalised(task.prompt) for task in tasks}) < 2:
        raise TaskError(
            f"'{algorithm.name}' joins each prompt with an answer to another one, and '{tasks.name}' has one prompt.",
            hint="give answers to at least two prompts; the more, the better its estimate of the divergence.",
        )
    return tasks


def _check_threshold(name: str, threshold: float, tasks: TaskSet) -> None:
    """Refuse a threshold that does not lie inside of the scale that answers were judged on, where that is no thumb."""
    judgements = [judged(task) for task in tasks]
    scores = [score for judgement in judgements if judgement.kind is not Kind.THUMB for score in judgement.scores]
    if scores and (min(scores) >= threshold or max(scores) <= threshold):
        side = "above" if min(scores) >= threshold else "below"
        raise TaskError(
            f"'{name}' tells good answers from bad ones at {threshold:g}, and in '{tasks.name}' all scores "
            f"({min(scores):g} to {max(scores):g}) lie {side} it or at it.",
            hint="set algorithm.threshold inside of the scale.",
        )


def _check_kinds(arguments: Mapping[str, Any]) -> None:
    """What Python users mix up, and a recipe mostly cannot."""
    seed = arguments["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ConfigurationError(f"seed must be a whole number from 0, got {seed!r}.", hint="such as seed=0.")
    if not isinstance(arguments["run"], str | Path) or not str(arguments["run"]):
        raise ConfigurationError(f"run={arguments['run']!r} is no directory.", hint="such as run='runs/mine'.")
    for name, kind in SETTINGS.items():
        if arguments[name] is not None and not isinstance(arguments[name], kind):
            raise ConfigurationError(
                f"{name} is a {type(arguments[name]).__name__}, not {kind.__name__}.",
                hint=f"write {name}=laurel.{kind.__module__.split('.')[1]}.{kind.__name__}(...).",
            )
    for name in (*SETTINGS, "algorithm"):
        _check_finite(name, describe(arguments[name]))
    algorithm, reward = arguments["algorithm"], arguments["reward"]
    if not isinstance(algorithm, Algorithm):
        raise ConfigurationError(f"algorithm={algorithm!r} is no algorithm.", hint="call a method: laurel.grpo().")
    for name in ("tasks", "held_out"):
        value = arguments[name]
        if not isinstance(value, TaskSet) and not (name == "held_out" and value is None):
            raise ConfigurationError(
                f"{name} is a {type(value).__name__}, not a TaskSet.",
                hint="make one: laurel.tasks.from_iterable(rows), or laurel.tasks.jsonl(path).",
            )
    if isinstance(arguments["environment"], type):
        name = arguments["environment"].__name__
        raise ConfigurationError(f"environment={name} is a class, not an environment.", hint=f"make one: {name}().")
    made = next((name for name, maker in REWARDS.items() if maker is reward), None)
    if made is not None:
        raise ConfigurationError(f"reward={made} is the function that makes the reward.", hint=f"call it: {made}().")


def _check_finite(name: str, described: Any) -> None:
    if isinstance(described, Mapping):
        for key, value in described.items():
            _check_finite(f"{name}.{key}", value)
    elif isinstance(described, list):
        for number, value in enumerate(described):
            _check_finite(f"{name}[{number}]", value)
    elif isinstance(described, float) and not math.isfinite(described):
        raise ConfigurationError(f"{name} is {described}.", hint="give a finite number.")


def unread_arguments(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Arguments that these others leave without a reader, each with the reason."""
    algorithm: Algorithm = arguments["algorithm"]
    judged = arguments["held_out"] is not None
    unread: dict[str, str] = {}
    if isinstance(algorithm.step, TrustRegion):
        unread["optimiser"] = f"'{algorithm.name}' finds the length of its steps itself, within algorithm.maximum_kl"
    if not algorithm.needs_teacher:
        unread["teacher"] = f"'{algorithm.name}' has none"
    if not isinstance(algorithm.source, Asked):
        unread["expert"] = f"'{algorithm.name}' asks none"
    if not algorithm.needs_critic:
        unread["critic"] = f"'{algorithm.name}' asks for no values"
    if algorithm.recovers is None:
        unread["recovery"] = f"'{algorithm.name}' recovers no reward"
    else:
        unread["environment"] = f"'{algorithm.name}' imitates the tasks' reference answers, of one turn each"
    if not judged:
        for name in (
            "evaluate_every", "evaluation_samples", "evaluation_sampling", "held_out_reward", "watched_reward",
        ):  # fmt: skip
            unread[name] = "without held_out tasks nothing is evaluated"
    if isinstance(algorithm.source, Asked):
        if not judged:
            unread |= dict.fromkeys(("reward", "grading"), f"'{algorithm.name}' learns from what its expert answers")
    elif not isinstance(algorithm.source, Sampled):
        what = "judged answers" if isinstance(algorithm.source, Compared) else "demonstrations"
        why = f"'{algorithm.name}' learns from {what}"
        unread["samples_per_prompt"] = why
        if judged and arguments["evaluation_sampling"] is not None:
            unread["sampling"] = f"{why}, and evaluation_sampling stands beside it"
        if not judged:
            for name in ("reward", "environment", "grading", "sampling", "limits", "max_live_rows"):
                unread[name] = f"{why}, and there are no held_out tasks to judge it by"
        elif held_out_judgements(arguments):
            unread |= dict.fromkeys(OF_DRAWN_ANSWERS, f"{why}, also held-out ones: nothing is drawn")
    elif algorithm.recovers is not None:
        if not judged:
            unread["reward"] = f"'{algorithm.name}' recovers its own, and there are no held_out tasks to judge it by"
    elif not algorithm.source.needs_reward and not judged:
        whom = "reference answers" if algorithm.source.self_play else "teacher"
        for name in ("reward", "grading", *(("environment",) if algorithm.source.self_play else ())):
            unread[name] = f"'{algorithm.name}' holds its samples against the {whom}"
    if not learns_from_rewards(algorithm):
        unread["curriculum"] = f"'{algorithm.name}' draws no answers that a reward pays for"
        unread["alarm"] = f"'{algorithm.name}' draws no answers that a reward pays for"
    if judged and arguments["held_out_reward"] is not None and not learns_from_rewards(algorithm):
        unread["reward"] = f"'{algorithm.name}' learns from none, and held_out_reward judges the held-out tasks"
    return unread
