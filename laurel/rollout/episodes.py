"""What the sampler asks environments: to start an episode, to answer a turn, to play some turns again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from laurel.credit import continued
from laurel.environments import Environment, Episode, Turn, runs_in_process
from laurel.errors import EnvironmentFault
from laurel.rollout.answering import Answering, Call, Unanswered
from laurel.rollout.limits import Job
from laurel.rollout.records import Record
from laurel.tasks.task import Prompt, Task
from laurel.tree import Source, Tree


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


def replay_episodes(
    branched: Sequence[tuple[Job, Tree, Sequence[tuple[int, Sequence[Record]]]]], answering: Answering
) -> None:
    """Bring an episode of its own to the state that each record goes on from; one that does not get there fails.

    Args:
        branched: for each job, its tree, and the records that continue the ends of some of its segments.
    """
    calls: list[Call[Episode]] = []
    asking: list[Record] = []
    for job, tree, continued_ends in branched:
        if job.environment is None:
            continue
        for end, records in continued_ends:
            turns, rollout = _turns_before(tree, end), tree.segments[end].rollout_id
            for record in records:
                record.direct = runs_in_process(job.environment)
                name = record.id if rollout is None else continued(rollout)
                replay = partial(_replay, job.environment, job.task, name, turns)
                calls.append(Call(record.id, "playing the episode again", replay, record.direct, 1 + len(turns)))
                asking.append(record)
    answers = answering.ask(calls)
    for record, episode in zip(asking, answers, strict=True):
        if isinstance(episode, Unanswered):
            record.fail(episode.reason, "time" if episode.late else "environment")
        else:
            record.episode = episode


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


def _turns_before(tree: Tree, end: int) -> list[tuple[str, str]]:
    """What was said and what was answered, up to the end of a segment."""
    turns: list[tuple[str, str]] = []
    said = ""
    for segment in (tree.segments[index] for index in tree.path(end)):
        if segment.source in (Source.POLICY, Source.EXPERT):
            said += segment.text
        elif segment.source is Source.ENVIRONMENT:
            turns.append((said, segment.text))
            said = ""
    return turns


def _replay(environment: Environment, task: Task, rollout_id: str, turns: Sequence[tuple[str, str]]) -> Episode:
    episode = environment.start(task, rollout_id)
    for number, (said, answered) in enumerate(turns, start=1):
        observation = _respond(episode, said).observation
        if observation != answered:
            raise EnvironmentFault(
                f"turn {number} was answered with {observation!r} when it was played again, "
                f"and with {answered!r} before.",
                hint="let everything follow from the task, the rollout's id and the policy's texts, or do not branch.",
            )
    return episode
