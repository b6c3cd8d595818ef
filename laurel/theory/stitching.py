"""What logs are worth once somebody says which histories are one state, and the test of that.

    A ab M c L   earned 0.2     An observation is what the policy reads, an action what it says. Two logs go through M.
    X yz M d G   earned 1.0     If M is one state, whichever way one came there, then A ab M d G earns 1.0, and nobody
    A sst Q      earned 0.4     ever played it. If it is not, that is a guess.

Dynamic programming over the states of a batch backs the best logged continuation of a state up to every history in it:
it stitches. Monte-Carlo values do not, nor does anything else where each history is a state of its own; and cloning
follows the logs as they are. Nothing is ever read of an action that nobody logged in a state.

From A, with states that are the last observation (the whole history): dynamic programming 1.0 (0.4), Monte-Carlo
values 0.4 (0.4), cloning 0.5 (0.3). Cloning over the starts as they were logged, A twice and X once, earns 0.53 either
way: the mean of what was logged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from laurel.errors import ConfigurationError

Dialogue = tuple[str, ...]
"""Observation, action, observation, ...: all that was said, up to the observation that the policy answers now."""

State = Callable[[Dialogue], Hashable]
ActionValues = dict[tuple[Hashable, str], float]
ActionShares = dict[Hashable, dict[str, float]]

MAXIMUM_TRIED = 20_000
SWEEPS = 10_000
SETTLED = 1e-12


@dataclass(frozen=True)
class Answer:
    """What a world answers to an action.

    Attributes:
        observation: what is read next, or what is seen at the end.
        reward: of this action.
        ended: whether nothing follows.
    """

    observation: str
    reward: float = 0.0
    ended: bool = False


Respond = Callable[[Dialogue, str], Answer]
"""A world that can be asked: what follows an action after a dialogue. It has to answer alike each time."""


@dataclass(frozen=True)
class Log:
    """One play that was logged.

    Attributes:
        start: the first observation.
        turns: each action with its answer; the last answer ends it.
    """

    start: str
    turns: tuple[tuple[str, Answer], ...]

    @property
    def decisions(self) -> Iterator[tuple[Dialogue, str, Answer]]:
        """Every action with the dialogue before it and the answer to it."""
        dialogue: Dialogue = (self.start,)
        for action, answer in self.turns:
            yield dialogue, action, answer
            dialogue = (*dialogue, action, answer.observation)

    @property
    def earned(self) -> float:
        """The return."""
        return sum(answer.reward for _, answer in self.turns)


def lettered(text: str, earned: float) -> Log:
    """A log in letters: capital ones were observed, the others said; what it earned came with the end.

    Example: ("AabMcL", 0.2) reads A, says "ab", reads M, says "c", ends in L with 0.2.
    """
    start, *rest = re.findall(r"[A-Z]|[^A-Z]+", text)
    turns = list(zip(rest[::2], rest[1::2], strict=True))
    answers = [Answer(observation) for _, observation in turns[:-1]] + [Answer(turns[-1][1], earned, ended=True)]
    return Log(start, tuple((action, answer) for (action, _), answer in zip(turns, answers, strict=True)))


def last_observation(dialogue: Dialogue) -> Hashable:
    """A state that remembers nothing but what is read now."""
    return dialogue[-1]


def whole_history(dialogue: Dialogue) -> Hashable:
    """A state that remembers everything: no two histories ever meet in one."""
    return dialogue


def optimal_action_values(logs: Sequence[Log], state: State, *, discount: float = 1.0) -> ActionValues:
    """Q(s, a) = mean over the logged (s, a) of r + discount max over the actions logged in s' of Q(s', .), 0 at an end.

    The fixed point of fitted Q-iteration on the batch with a table: the best return that the most likely model of the
    logs allows, by actions that were logged.

    Raises:
        ConfigurationError: there is none, because a loop of states pays for ever.
    """
    seen: dict[tuple[Hashable, str], list[tuple[float, Hashable | None]]] = {}
    for log in logs:
        for dialogue, action, answer in log.decisions:
            after = None if answer.ended else state((*dialogue, action, answer.observation))
            seen.setdefault((state(dialogue), action), []).append((answer.reward, after))
    values = dict.fromkeys(seen, 0.0)
    for _ in range(SWEEPS):
        best = _best(values)
        swept = {
            place: float(np.mean([r + discount * (0.0 if after is None else best[after]) for r, after in outcomes]))
            for place, outcomes in seen.items()
        }
        change = max(abs(swept[place] - values[place]) for place in swept)
        values = swept
        if change < SETTLED:
            return values
    raise ConfigurationError(
        "The values of these states do not settle: a loop of them pays for ever.",
        hint="take states that do not run in circles, or a discount below 1.",
    )


def monte_carlo_action_values(logs: Sequence[Log], state: State, *, discount: float = 1.0) -> ActionValues:
    """Q(s, a) = mean over the logged (s, a) of what followed in that very log: what the logs did goes on."""
    seen: dict[tuple[Hashable, str], list[float]] = {}
    for log in logs:
        to_go = 0.0
        for dialogue, action, answer in reversed(list(log.decisions)):
            to_go = answer.reward + discount * to_go
            seen.setdefault((state(dialogue), action), []).append(to_go)
    return {place: float(np.mean(followed)) for place, followed in seen.items()}


def greedy(values: Mapping[tuple[Hashable, str], float]) -> ActionShares:
    """In each state the action with the greatest value; of equal ones the first."""
    best = _best(values)
    chosen: ActionShares = {}
    for (state, action), value in values.items():
        if value == best[state]:
            chosen.setdefault(state, {action: 1.0})
    return chosen


def cloned(logs: Sequence[Log], state: State) -> ActionShares:
    """In each state every logged action, as often as it was logged there: the most likely policy.

    In the most likely model of the logs it earns their mean return from their starts, whatever the states: it flows
    through every state and action as often as the logs did.
    """
    counts: ActionShares = {}
    for log in logs:
        for dialogue, action, _ in log.decisions:
            there = counts.setdefault(state(dialogue), {})
            there[action] = there.get(action, 0.0) + 1.0
    return {place: {a: n / sum(there.values()) for a, n in there.items()} for place, there in counts.items()}


def return_from(
    policy: Mapping[Hashable, Mapping[str, float]], start: str, respond: Respond, state: State, *, turns: int = 64
) -> float:
    """What a policy over states earns in a world from a first observation, in expectation over its actions.

    In a state that the policy does not know it stops, and earns nothing more.

    Args:
        turns: the most of a play.

    Raises:
        ConfigurationError: a play has more.
    """

    def worth(dialogue: Dialogue, left: int) -> float:
        if left == 0:
            raise ConfigurationError(f"A play has more than {turns} turns.", hint="raise turns, if it ever ends.")
        total = 0.0
        for action, share in policy.get(state(dialogue), {}).items():
            answer = respond(dialogue, action)
            after = 0.0 if answer.ended else worth((*dialogue, action, answer.observation), left - 1)
            total += share * (answer.reward + after)
        return total

    return worth((start,), turns)


@dataclass(frozen=True)
class Refutation:
    """Two histories that are said to be one state, and are not.

    Attributes:
        state: which.
        first, second: the histories.
        action: what tells them apart.
        answers: what follows it after each, as (reward, "ended" or the state that follows).
    """

    state: Hashable
    first: Dialogue
    second: Dialogue
    action: str
    answers: tuple[tuple[float, Hashable], tuple[float, Hashable]]

    def __str__(self) -> str:
        ways = (
            f"after {' '.join(dialogue)!r} it pays {paid:g} and {'ends' if after is None else f'leads to {after!r}'}"
            for dialogue, (paid, after) in zip((self.first, self.second), self.answers, strict=True)
        )
        return f"In the state {self.state!r}, to {self.action!r}: {', '.join(ways)}."


def untried(logs: Sequence[Log], state: State) -> list[tuple[Dialogue, str]]:
    """The logged histories with actions that were logged in their state, and never after them.

    Whatever is stitched rests on these: no log says what would have followed. Where there are none, states bring
    nothing; where they are many, ask the world (`refutation`), or somebody who knows it.
    """
    tried = {(dialogue, action) for log in logs for dialogue, action, _ in log.decisions}
    known = cloned(logs, state)
    histories = dict.fromkeys(dialogue for dialogue, _ in tried)
    found = [(h, action) for h in histories for action in known[state(h)] if (h, action) not in tried]
    return sorted(found)


def refutation(logs: Sequence[Log], state: State, respond: Respond | None = None) -> Refutation | None:
    """Two histories of one state with another future, or None.

    A state is right if every action logged in it is followed by the same reward, and by an end or the same next state,
    after each history in it. Then every stitched play earns what dynamic programming on the logs says. With `respond`
    that is tried, for every play that can be stitched from the starts of the logs; without, only the logs are held
    against each other, and what they do not say stays open (`untried`). A world that answers by chance seems to refute
    every state.

    Raises:
        ConfigurationError: more than MAXIMUM_TRIED histories would have to be tried.
    """
    logged: dict[tuple[Hashable, str], tuple[Dialogue, tuple[float, Hashable]]] = {}

    def differs(dialogue: Dialogue, action: str, answer: Answer) -> Refutation | None:
        after = None if answer.ended else state((*dialogue, action, answer.observation))
        place = state(dialogue)
        first, found = logged.setdefault((place, action), (dialogue, (answer.reward, after)))
        if found == (answer.reward, after):
            return None
        return Refutation(place, first, dialogue, action, (found, (answer.reward, after)))

    for log in logs:
        for dialogue, action, answer in log.decisions:
            if (found := differs(dialogue, action, answer)) is not None:
                return found
    if respond is None:
        return None
    known, tried = cloned(logs, state), 0
    waiting: list[Dialogue] = [(start,) for start in dict.fromkeys(log.start for log in logs)]
    while waiting:
        dialogue = waiting.pop()
        tried += 1
        if tried > MAXIMUM_TRIED:
            raise ConfigurationError(
                f"More than {MAXIMUM_TRIED} histories can be stitched from these logs.", hint="try fewer logs."
            )
        for action in known.get(state(dialogue), {}):
            answer = respond(dialogue, action)
            if (found := differs(dialogue, action, answer)) is not None:
                return found
            if not answer.ended:
                waiting.append((*dialogue, action, answer.observation))
    return None


def stitched(logs: Sequence[Log], state: State, respond: Respond, *, discount: float = 1.0) -> ActionShares:
    """The greedy policy of dynamic programming on the logs, for a state that was tested in the world.

    Raises:
        ConfigurationError: the state is refuted, with the two histories; see `refutation`.
    """
    found = refutation(logs, state, respond)
    if found is not None:
        raise ConfigurationError(
            f"These histories are no one state. {found}",
            hint="let it remember what tells them apart; the whole history is always right, and stitches nothing.",
        )
    return greedy(optimal_action_values(logs, state, discount=discount))


def _best(values: Mapping[tuple[Hashable, str], float]) -> dict[Hashable, float]:
    best: dict[Hashable, float] = {}
    for (state, _), value in values.items():
        best[state] = max(best.get(state, value), value)
    return best
