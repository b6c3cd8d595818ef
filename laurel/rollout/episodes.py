"""What the sampler asks environments: to start an episode, and to answer a turn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from laurel.environments import Environment, Episode, Turn, runs_in_process
from laurel.errors import EnvironmentFault
from laurel.rollout.answering import Answering, Call, Unanswered
from laurel.rollout.limits import Job
from laurel.rollout.records import Record
from laurel.tasks.task import Prompt, Task


def start_episodes(jobs: Sequence[Job], records: Sequence[Sequence[Record]], answering: Answering) -> list[Prompt]:
    """Start an episode for each record of each job that has an environment; the prompts that the jobs' records share.

    A record whose episode does not start, or starts with another prompt than its siblings', fails.
    """
    starting = [(job, job.environment, record) for job, own in zip(jobs, records, strict=True) for record in own]
    asked = [(job, environment, record) for job, environment, record in starting if environment is not None]
    calls = [_start_call(environment, job.task, record) for job, environment, record in asked]
    answers = answering.ask(calls)
    shared: dict[str, Prompt] = {}
    for (job, _, record), started in zip(asked, answers, strict=True):
        if isinstance(started, Unanswered):
            record.fail(started.reason, "time" if started.late else "environment")
            continue
        episode, prompt = started
        if prompt != shared.setdefault(job.tree_id, prompt):
            record.fail("the episode's prompt differs from that of the other samples; it must depend on the task alone")
            continue
        record.episode = episode
    return [shared.get(job.tree_id, job.task.prompt) for job in jobs]


def respond_call(record: Record, text: str) -> Call[Turn]:
    """The question that a turn of the policy puts to its episode."""
    assert record.episode is not None
    return Call(record.id, turn_name(record), partial(_respond, record.episode, text), record.direct)


def turn_name(record: Record) -> str:
    """What messages call the turn that was just drawn."""
    return f"turn {record.turns} of the episode"


def _start_call(environment: Environment, task: Task, record: Record) -> Call[tuple[Episode, Prompt]]:
    record.direct = runs_in_process(environment)
    return Call(record.id, "starting the episode", partial(_start, environment, task, record.id), record.direct)


def _start(environment: Environment, task: Task, rollout_id: str) -> tuple[Episode, Prompt]:
    episode = environment.start(task, rollout_id)
    return episode, episode.prompt


def _respond(episode: Episode, text: str) -> Turn:
    turn = episode.respond(text)
    if not isinstance(turn, Turn):
        raise EnvironmentFault(f"it answered {turn!r}.", hint="answer with a laurel.environments.Turn.")
    return turn
