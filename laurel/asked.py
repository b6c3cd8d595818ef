"""Where the policy leads, an expert is asked what it would have done; its answers are learned from again and again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from laurel.aggregate import Aggregate, with_answers
from laurel.algorithms import Asked
from laurel.asking import Asking, State, agreement, states_of, turns_taken
from laurel.environments import Environment
from laurel.errors import ConfigurationError, EnvironmentFault, ExpertFault, LaurelError
from laurel.experience import Assign, Experience, rollout_metrics
from laurel.experts import AnotherPolicy, Expert, Question
from laurel.judged import scored_nothing
from laurel.metrics import Metric
from laurel.policy import Policy, load
from laurel.policy.fingerprint import fingerprint
from laurel.rollout import FunctionExpert, Job, Limits, LocalSampler, PolicyExpert
from laurel.runs import phase
from laurel.tasks import Cursor, Task
from laurel.taught import check_teacher
from laurel.tree import Sampling, Source, Tree

FAILURES_IN_A_ROW = 16


@dataclass
class AskedExperience:
    """Rounds of asking, and learning from everything that was ever answered.

    The first step of a round draws `samples` rollouts for each of `prompts` tasks, in which the expert takes some of
    the turns, and asks it about all the others too. Every step then learns from `source.prompts_per_update` prompts
    with their answers, drawn from all of them by (seed, step). When the budget is used up nothing is drawn any more.
    """

    source: Asked
    expert: Expert
    sampler: LocalSampler
    environment: Environment
    cursor: Cursor
    prompts: int
    samples: int
    credit: Assign
    queries: int = 0
    failed_in_a_row: int = 0
    aggregate: Aggregate = field(init=False)

    def __post_init__(self) -> None:
        self.aggregate = Aggregate(self.sampler.policy, self.sampler.sampling)

    @property
    def queries_left(self) -> int | None:
        """What is left of the budget; None: there is none."""
        return None if self.source.queries is None else self.source.queries - self.queries

    def __call__(self, step: int, policy_version: int) -> Experience:
        number, rest = divmod(step - 1, self.source.round_steps)
        drawn: dict[str, Tree] = {}
        metrics = {"queries": Metric(0.0, 1.0)}
        if rest == 0 and self.queries_left != 0:
            drawn, metrics = self._round(number, step, policy_version)
        phase("after_sampling", step)
        order = np.random.default_rng([self.sampler.seed, step])
        count = min(self.source.prompts_per_update, len(self.aggregate))
        chosen = [self.aggregate[index] for index in sorted(order.permutation(len(self.aggregate))[:count].tolist())]
        trees = [drawn.pop(tree.id, tree) for tree in chosen]
        metrics["answers"] = Metric(float(self.aggregate.size), 1.0)
        if self.queries_left is not None:
            metrics["queries_left"] = Metric(float(self.queries_left), 1.0)
        return Experience(trees, self.credit(trees), list(drawn.values()), metrics)

    def _round(self, number: int, step: int, policy_version: int) -> tuple[dict[str, Tree], dict[str, Metric]]:
        """Draw, ask and keep; the trees with their answers, by name."""
        tasks = self.cursor.next(self.prompts)
        jobs = [Job(f"{step}.{index}", task, self.samples, self.environment) for index, task in enumerate(tasks)]
        names = {f"{job.tree_id}.{sample}": job.task for job in jobs for sample in range(job.samples)}
        asking = Asking(
            self.expert,
            self.sampler.policy,
            self.sampler.limits,
            self.sampler.path_limit,
            names,
            dict(self.aggregate.answers),
            self.queries_left,
            turns_taken(self.sampler, list(names), self.source.chance(number), self.queries_left),
        )
        seen = self.sampler.collect(jobs, policy_version=policy_version, substitute=asking if asking.taken else None)
        drawn = [tree.with_outcomes(scored_nothing(tree)) for tree in seen]
        states = {tree.id: states_of(tree, names) for tree in drawn}
        order = np.random.default_rng([self.sampler.seed, step, 1])
        asking.ask([state for own in states.values() for state in own], order=order)
        self._count(asking)
        metrics = self._metrics(drawn, asking)
        trees = {}
        for tree in drawn:
            found = [(state.parent, asking.answers.get(state.key)) for state in states[tree.id]]
            answered = [(parent, tokens) for parent, tokens in found if tokens is not None]
            trees[tree.id] = with_answers(tree, answered, self.sampler.policy)
            self.aggregate.add(trees[tree.id])
        if not len(self.aggregate):
            raise ExpertFault(
                f"None of the {asking.asked} questions of step {step} was answered; the last: {asking.failures[-1]}."
                if asking.failures
                else f"In step {step} there was nothing to ask about: every rollout failed before its first turn.",
                hint="mend the expert or the environment; `laurel check` tries both on a few tasks.",
            )
        return trees, metrics

    def _count(self, asking: Asking) -> None:
        self.queries += asking.asked
        for why in asking.failures:
            self.failed_in_a_row = self.failed_in_a_row + 1 if why else 0
            if self.failed_in_a_row == FAILURES_IN_A_ROW:
                raise ExpertFault(
                    f"The expert has left {FAILURES_IN_A_ROW} questions in a row without an answer, the last for "
                    f"{why}.",
                    hint="mend the expert and resume the run.",
                )

    def _metrics(self, drawn: list[Tree], asking: Asking) -> dict[str, Metric]:
        turns = [segment for tree in drawn for segment in tree.segments if segment.source is not Source.PROMPT]
        experts = sum(segment.source is Source.EXPERT for segment in turns)
        own = sum(segment.source is Source.POLICY for segment in turns)
        metrics = {name: value for name, value in rollout_metrics(drawn).items() if name != "reward"}
        return metrics | {
            "queries": Metric(float(asking.asked), 1.0),
            "unanswered": Metric(float(sum(map(bool, asking.failures))), float(asking.asked)),
            "expert_turns": Metric(float(experts), float(experts + own)),
            "agreement": agreement(drawn, asking.answers),
        }

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """(tensors, JSON-able): what later steps depend on."""
        tensors, names = self.aggregate.state()
        return tensors, {"names": names, "queries": self.queries, "failed_in_a_row": self.failed_in_a_row}

    def load_state(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Go on as the experience that `state` came from."""
        self.aggregate.load_state(tensors, state["names"])
        self.queries, self.failed_in_a_row = state["queries"], state["failed_in_a_row"]


def check_asked(arguments: Mapping[str, Any]) -> None:
    """Refuse what an expert cannot be asked about, and who cannot be asked.

    Raises:
        ConfigurationError: naming the argument.
    """
    algorithm, expert, limits = arguments["algorithm"], arguments["expert"], arguments["limits"] or Limits()
    if not isinstance(algorithm.source, Asked):
        return
    if expert is None:
        raise ConfigurationError(
            f"'{algorithm.name}' needs an expert.",
            hint="add expert: package.module:function, {name: program, command: [...]} or {name: policy, policy: ...}.",
        )
    if isinstance(expert, type) or not (isinstance(expert, Expert | Policy | AnotherPolicy) or callable(expert)):
        raise ConfigurationError(
            f"expert={expert!r} cannot be asked.",
            hint="give a function of (task, dialogue), a policy, or a laurel.experts.Program.",
        )
    if expert is arguments["policy"]:
        raise ConfigurationError(
            "The policy that learns is its own expert.", hint="give another policy, or load this one a second time."
        )
    if arguments["environment"] is None or limits.max_turns < 2:
        raise ConfigurationError(
            f"'{algorithm.name}' asks its expert where the policy has led, turn by turn, and with one turn that is "
            "nowhere but the prompt.",
            hint="add an environment and limits.max_turns from 2; for answers to prompts alone, let the expert write "
            "references, and take clone.",
        )
    if limits.stop_strings:
        raise ConfigurationError(
            f"limits: with 'stop_strings' the turns of the policy would end elsewhere than those of the expert of "
            f"'{algorithm.name}', which end with the end token.",
            hint="remove 'stop_strings'.",
        )


def first_answers(arguments: Mapping[str, Any], tasks: Sequence[Task]) -> Asking:
    """What the expert says where the episodes of these tasks begin; `arguments` are those of `laurel.train`.

    Raises:
        LaurelError: an episode that does not start, a prompt that cannot be read, or an expert that cannot be asked.
    """
    policy, limits = arguments["policy"], arguments["limits"] or Limits()
    sampler = LocalSampler(policy, Sampling(), limits, seed=arguments["seed"])
    names = {f"check.{number}": task for number, task in enumerate(tasks)}
    asking = Asking(found_expert(arguments), policy, limits, sampler.path_limit, names, {}, None, frozenset())
    states = []
    for name, task in names.items():
        try:
            prompt = arguments["environment"].start(task, name).prompt
        except LaurelError:
            raise
        except Exception as error:  # whatever somebody's environment does
            raise EnvironmentFault(
                f"The episode of task {task.id} does not start: {type(error).__name__}: {error}.",
                hint="mend the environment.",
            ) from error
        tokens = policy.encode_prompt(prompt)
        text = prompt if isinstance(prompt, str) else policy.decode(tokens)
        states.append(State(Question(name, task, (text,), tokens)))
    asking.ask(states)
    return asking


def found_expert(arguments: Mapping[str, Any]) -> Expert:
    """Whatever can be asked, as an expert; `arguments` are those of `laurel.train`, its policy loaded.

    Raises:
        PolicyError: a policy that cannot be loaded, or does not read the asking policy's tokens.
    """
    expert, policy, limits = arguments["expert"], arguments["policy"], arguments["limits"] or Limits()
    greedy = True
    if isinstance(expert, AnotherPolicy):
        greedy, name = expert.greedy, str(expert.policy)
        expert = load(name, device=policy.device)
        expert.frozen = fingerprint(name)
    if isinstance(expert, Policy):
        check_teacher(policy, expert, called="expert")
        rows, seed = arguments["max_live_rows"], arguments["seed"]
        return PolicyExpert(expert, limits, greedy=greedy, seed=seed, max_live_rows=rows)
    return expert if isinstance(expert, Expert) else FunctionExpert(expert, limits)
