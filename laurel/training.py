"""The loop: gather experience, learn from it, record it, repeat. `rollout` and `learner` meet only here."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from laurel.algorithms import Algorithm, Asked, Compared, Sampled
from laurel.allocation import keep_freed_memory
from laurel.asked import AskedExperience, found_expert
from laurel.collapse import Alarm, watch_for
from laurel.configuration import describe
from laurel.environments import Environment
from laurel.experience import DemonstratedExperience, Gather, SampledExperience
from laurel.experts import AnotherPolicy, Expert, ExpertFunction
from laurel.judged import JudgedExperience, SelfPlayExperience
from laurel.learner import CriticSettings, Learner, OptimiserSettings, RecoverySettings
from laurel.lengths import newly_left_out
from laurel.memory import enough_memory
from laurel.metrics import merge
from laurel.policy import Policy, Reference, RewardModel, as_reward, asks_start, critic_for, load, reward_for
from laurel.policy.fingerprint import check_frozen, fingerprint
from laurel.preflight import check_fit, check_parts
from laurel.progress import ProgressView, Silent
from laurel.rationalised import RationalisedExperience
from laurel.recovered import RecoveredExperience, recovering
from laurel.rewards import Grader, GradingSettings, LearningReward, Reward, learning
from laurel.rewards.sub_goals import paid_by
from laurel.rollout import Limits, LocalSampler
from laurel.runs import Run, check_trackers, is_run, open_run, open_trackers, phase
from laurel.score_parts import try_score_parts
from laurel.session import Session
from laurel.tasks import Curriculum, Cursor, TaskSet, walk
from laurel.taught import TaughtExperience, check_teacher
from laurel.tree import Sampling

SAMPLES_PER_PROMPT = 8
# What may be changed when a run is resumed: how far it goes, how often it is looked at, and how its work is cut up for
# the memory there is (whose only trace is the rounding of sums); not what it learns.
MAY_DIFFER = ("steps", "alarm", "evaluate_every", "checkpoint_every", "max_live_rows", "tokens_per_microbatch")
SAMPLE_LESS = "lower max_live_rows (fewer rollouts at once), limits.max_new_tokens or samples_per_prompt."
LEARN_LESS = "lower tokens_per_microbatch (fewer tokens in one pass), or train an adapter (policy.lora)."


def train(
    *,
    policy: Policy | str | Path,
    tasks: TaskSet,
    algorithm: Algorithm,
    reward: Reward | RewardModel | str | Path | None = None,
    environment: Environment | None = None,
    held_out: TaskSet | None = None,
    held_out_reward: Reward | RewardModel | str | Path | None = None,
    watched_reward: Reward | RewardModel | str | Path | None = None,
    steps: int = 100,
    prompts_per_step: int = 8,
    samples_per_prompt: int | None = None,
    sampling: Sampling | None = None,
    evaluation_sampling: Sampling | None = None,
    limits: Limits | None = None,
    optimiser: OptimiserSettings | None = None,
    critic: CriticSettings | None = None,
    recovery: RecoverySettings | None = None,
    teacher: Policy | str | Path | None = None,
    expert: Expert | ExpertFunction | Policy | AnotherPolicy | None = None,
    grading: GradingSettings | None = None,
    alarm: Alarm | None = None,
    curriculum: Curriculum | None = None,
    evaluate_every: int | None = None,
    evaluation_samples: int = 1,
    checkpoint_every: int = 20,
    max_live_rows: int = 256,
    tokens_per_microbatch: int | None = None,
    seed: int = 0,
    run: str | Path = "runs/latest",
    resume: bool = False,
    trackers: Sequence[str] = (),
    progress: ProgressView | None = None,
) -> Run:
    """Train `policy` on `tasks` by `algorithm`, and return the finished run.

    On the CPU the process keeps freed memory from then on (`laurel.allocation`).

    Args:
        policy: a policy, or the hub name or directory of one.
        tasks: what to train on.
        algorithm: a method, such as `laurel.grpo(clip=0.2)`.
        reward: a built-in reward or any function of (task, text) or (task, rollout), or a reward model (the directory
            of a saved one, see `laurel.fit_reward_model`); not needed where the environment pays rewards or where
            demonstrations or judged answers are learned from.
        environment: what answers the policy; default: nothing does (one turn).
        held_out: tasks that are only evaluated; they must share no prompt with `tasks`. Where judged answers are
            learned from and there is no reward, judged answers too: the run's evaluations are then the method's own
            `accuracy`, `margin` and `loss` on them (`laurel.judged_evaluation`).
        held_out_reward: judges the held-out answers in place of `reward`: needed where that reads no label
            (majority_vote, self_certainty), since such a reward says how sure a policy is and not how right.
        watched_reward: judges the held-out answers too, and is never trained on: where it parts from the reward, the
            reward is being gamed.
        steps: batches of experience to learn from.
        prompts_per_step, samples_per_prompt: the batch (default 8 samples; a demonstration is one).
        sampling, limits: the distribution that answers are drawn from, and their budgets.
        evaluation_sampling: the distribution for held-out tasks; None: the same as in training.
        optimiser: learning rate, clipping, schedule.
        critic: where values come from and how they are learned, for methods that ask for them (ppo, turn_ppo).
        recovery: where a recovered reward is read from and how it is fitted, for methods that recover one (gail, airl,
            max_ent_irl). At the end it is saved as `model` below `run`, which another run takes as its `reward`.
        teacher: a policy with the same tokenizer, or the hub name or directory of one, for methods that imitate it
            (distill).
        expert: whom dagger asks: a function of (task, dialogue), a policy with the same tokenizer, or a program. See
            `laurel.experts`.
        grading: deadlines, retries and the failure budget of the reward.
        alarm: "warn", "stop" or "off", or a `laurel.collapse.CollapseAlarm`: what is done about a policy that agrees
            with itself more and more, and learns nothing. None: "warn" where the reward reads no label, else "off".
        curriculum: which tasks come next, by how often the policy solves those like them (`laurel.tasks.Curriculum`);
            None: each comes once in every round through all of them.
        evaluate_every: evaluate after this many steps, beside the first and the last; None: only those two.
        evaluation_samples: answers per held-out task.
        checkpoint_every: write a checkpoint after this many steps, beside the last.
        max_live_rows: how many rollouts are decoded at the same time.
        tokens_per_microbatch: how many distinct tokens one forward pass of the learner holds; None: chosen.
        seed: fixes every draw and every order.
        run: the directory that the run is kept in.
        resume: go on from the newest checkpoint in `run` (start anew where there is none).
        trackers: also send metrics to "tensorboard", "trackio" or "wandb".
        progress: what shows progress; None: nothing does.

    Raises:
        ConfigurationError: before anything starts, if the parts do not fit together.
        RewardError, ExpertFault: if too many rollouts could not be graded, or questions not answered; the run can be
            resumed.
    """
    reward, held_out_reward, watched_reward = map(as_reward, (reward, held_out_reward, watched_reward))
    arguments = dict(locals())
    check_parts(arguments, {name: parameter.default for name, parameter in inspect.signature(train).parameters.items()})
    try_score_parts(algorithm, arguments["reward"], tasks, environment, grading or GradingSettings())
    if isinstance(policy, str | Path):
        policy = arguments["policy"] = load(str(policy))
    shown = progress or Silent()
    tasks, held_out = _use_what_fits(policy, arguments, shown)
    teacher = arguments["teacher"] = None if teacher is None else loaded_teacher(policy, teacher)
    arguments["expert"] = None if expert is None else found_expert(arguments)
    check_trackers(trackers)
    configuration = describe(arguments, leave_out=("run", "resume", "trackers", "progress"))
    taught = learning(arguments["reward"])
    with ExitStack() as stack:
        # The run directory comes last: what is refused before leaves no half a run behind.
        drawn, budgets = sampling or Sampling(), limits or Limits()
        sampler = LocalSampler(policy, drawn, budgets, max_live_rows=max_live_rows, seed=seed)
        judged = LocalSampler(policy, evaluation_sampling or drawn, budgets, max_live_rows=max_live_rows, seed=seed)
        judging, nobody = grading or GradingSettings(), reward is None and environment is None
        paid = paid_by(arguments["reward"], environment)
        reference, compared = _references(policy, algorithm, teacher, asks_start(reward) or asks_start(watched_reward))
        grader = None if nobody else stack.enter_context(_grader(policy, paid, judging, reference))
        judge, watched = _judges(stack, policy, (held_out_reward, watched_reward), judging, reference)
        learner = _learner(policy, algorithm, optimiser, critic, compared, steps, seed, tokens_per_microbatch)
        store = stack.enter_context(_store(run, configuration, resume, _rates(arguments)))
        tracked = stack.enter_context(open_trackers(trackers, store))
        _begin(taught, policy, store, seed)
        cursor = walk(tasks, curriculum, seed=seed)
        gather = _gather(arguments, sampler, grader, cursor, learner, store.directory)
        session = Session(
            policy, reference, learner, gather, cursor, judged, grader, judge, watched, environment, held_out,
            evaluation_samples, store, tracked, shown, watch_for(arguments),
        )  # fmt: skip
        stack.enter_context(shown.of(algorithm.name, steps))
        _loop(session, steps, evaluate_every or steps, checkpoint_every)
        if isinstance(gather, RecoveredExperience):
            gather.reward.save()
    return store


def _use_what_fits(policy: Policy, arguments: dict[str, Any], shown: ProgressView) -> tuple[TaskSet, TaskSet | None]:
    """Leave rows out that the policy cannot read, see `check_fit`, and say so; the sets, as they are in `arguments`."""
    usable = check_fit(policy, arguments)
    for line in newly_left_out(arguments, usable):
        shown.told(line)
    arguments |= usable
    return arguments["tasks"], arguments["held_out"]


def _grader(policy: Policy, reward: Any, settings: GradingSettings, start: Reference | None) -> Grader:
    return Grader(reward_for(policy, reward, start), settings)


def _judges(
    stack: ExitStack, policy: Policy, rewards: tuple[Any, Any], settings: GradingSettings, start: Reference | None
) -> tuple[Grader | None, Grader | None]:
    """What grades by each of two rewards that nobody learns from, where there is one."""
    first, second = (
        None if reward is None else stack.enter_context(_grader(policy, reward, settings, start)) for reward in rewards
    )
    return first, second


def _store(run: str | Path, configuration: Mapping[str, Any], resume: bool, rates: Sequence[OptimiserSettings]) -> Run:
    """The run, new or gone on with: on the same frozen weights, and with no more steps where a rate depends on them."""
    if resume and is_run(run):
        with Run.open(run) as before:
            check_frozen(before.configuration.get("policy"), configuration["policy"], f"The run {run}")
    # Other schedules end at the last step: with another number of steps the past would have had other rates.
    constant = all(settings.schedule == "constant" for settings in rates)
    may_differ = [name for name in MAY_DIFFER if constant or name != "steps"]
    return open_run(run, configuration, resume=resume, may_differ=may_differ)


def _rates(arguments: Mapping[str, Any]) -> list[OptimiserSettings]:
    """How everything that is fitted in this run is stepped."""
    algorithm: Algorithm = arguments["algorithm"]
    rates = [arguments["optimiser"] or OptimiserSettings()]
    if algorithm.needs_critic:
        rates.append((arguments["critic"] or CriticSettings()).optimiser)
    if algorithm.recovers is not None:
        rates.append((arguments["recovery"] or RecoverySettings()).optimiser)
    return rates


def _begin(reward: LearningReward | None, policy: Policy, store: Run, seed: int) -> None:
    if reward is not None:
        reward.begin(policy, store.directory, seed)


def _learner(
    policy: Policy,
    algorithm: Algorithm,
    optimiser: OptimiserSettings | None,
    critic: CriticSettings | None,
    reference: Reference | None,
    steps: int,
    seed: int,
    tokens_per_microbatch: int | None,
) -> Learner:
    """The learner, and its critic where the algorithm asks for values."""
    if policy.device.type == "cpu":
        keep_freed_memory()
    fitted = critic or CriticSettings()
    return Learner(
        policy,
        algorithm,
        optimiser,
        total_steps=steps,
        reference=reference,
        critic=critic_for(policy, kind=fitted.kind, model=fitted.model) if algorithm.needs_critic else None,
        critic_settings=fitted,
        seed=seed,
        tokens_per_microbatch=tokens_per_microbatch,
    )


def loaded_teacher(policy: Policy, teacher: Policy | str | Path) -> Policy:
    """The teacher of a policy, with the fingerprint of its files where it comes from such.

    Raises:
        PolicyError: it cannot be loaded, or does not read the policy's tokens.
    """
    if not isinstance(teacher, Policy):
        name = str(teacher)
        teacher = load(name, device=policy.device)
        teacher.frozen = fingerprint(name)
    check_teacher(policy, teacher)
    return teacher


def _references(
    policy: Policy, algorithm: Algorithm, teacher: Policy | None, asked: bool
) -> tuple[Reference | None, Reference | None]:
    """The snapshot that checkpoints keep, and whom the learner compares with: that, or a teacher, kept elsewhere.

    Args:
        asked: whether a reward asks the policy as it was at the start.
    """
    if teacher is not None:
        return None, teacher.snapshot("teacher")
    start = policy.snapshot("start") if algorithm.needs_reference or asked else None
    return start, start


def _gather(
    arguments: Mapping[str, Any],
    sampler: LocalSampler,
    grader: Grader | None,
    cursor: Cursor,
    learner: Learner,
    directory: Path,
) -> Gather:
    """What draws, asks or lays out the experience of a step; `arguments` are those of `train`."""
    algorithm, environment, credit = arguments["algorithm"], arguments["environment"], learner.credit
    prompts, samples = arguments["prompts_per_step"], arguments["samples_per_prompt"] or SAMPLES_PER_PROMPT
    source = algorithm.source
    if isinstance(source, Sampled) and source.needs_reward and grader is not None:
        gather = SampledExperience if source.hint is None else RationalisedExperience
        return gather(
            algorithm, credit, sampler, grader, environment, cursor, prompts, samples, _greedy(sampler, algorithm)
        )
    if isinstance(source, Asked):
        expert = arguments["expert"]
        return AskedExperience(source, expert, sampler, environment, cursor, prompts, samples, credit)
    if algorithm.recovers is not None:
        return recovering(arguments, sampler, cursor, credit, samples, directory)
    # Experience that no reward judges: samples for a teacher, or against demonstrations, or what others wrote.
    if isinstance(source, Sampled) and source.taught:
        return TaughtExperience(source, sampler, environment, cursor, prompts, samples, credit)
    if isinstance(source, Sampled):
        return SelfPlayExperience(sampler, cursor, prompts, samples, credit)
    if isinstance(source, Compared):
        return JudgedExperience(source, sampler.policy, cursor, prompts, credit)
    return DemonstratedExperience(sampler.policy, cursor, prompts, credit)


def _greedy(sampler: LocalSampler, algorithm: Algorithm) -> LocalSampler | None:
    """What draws the greedy rollouts that a method compares with."""
    if not (isinstance(algorithm.source, Sampled) and algorithm.source.greedy_baseline):
        return None
    one = Sampling(top_k=1)
    return LocalSampler(sampler.policy, one, sampler.limits, max_live_rows=sampler.max_live_rows, seed=sampler.seed)


def _loop(session: Session, steps: int, evaluate_every: int, checkpoint_every: int) -> None:
    run, learner = session.run, session.learner
    done = session.restore()
    if done == 0:
        session.evaluate(0)
    for step in range(done + 1, steps + 1):
        started = time.perf_counter()
        with enough_memory(f"sampling in step {step}", SAMPLE_LESS):
            experience = session.gather(step, learner.version)
        gathered = time.perf_counter()
        phase("before_update", step)
        with enough_memory(f"learning in step {step}", LEARN_LESS):
            report = learner.update(experience.trees, experience.credits, step)
        phase("after_update", step)
        metrics = merge([experience.metrics, report.metrics])
        timings = {"gather_seconds": gathered - started, "learn_seconds": time.perf_counter() - gathered}
        events = [(kind, why) for kind, why in (("skipped", report.skipped), ("refused", report.refused)) if why]
        metrics, noticed = session.look([*experience.trees, *experience.discarded], metrics)
        events += [("alarm", text) for text in noticed]
        run.record_step(
            step,
            experience.trees,
            experience.credits,
            metrics,
            timings,
            discarded=experience.discarded,
            events=events,
        )
        session.trackers.log(step, metrics, timings)
        session.progress.step(step, metrics, timings)
        session.warn(step, noticed)
        if step % evaluate_every == 0 or step == steps:
            session.evaluate(step)
        if step % checkpoint_every == 0 or step == steps or session.ends:
            session.checkpoint(step)
        session.heed(step)
