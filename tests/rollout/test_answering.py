"""Environments that hang fail their own rollout, slow ones answer side by side, and their order changes nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from sampling_checks import collect, same_draws

from laurel.environments import Conversation, Dialogue, Turn
from laurel.errors import ConfigurationError, EnvironmentFault
from laurel.policy import Policy
from laurel.rollout import Job, Limits
from laurel.rollout.answering import CALLS_AT_ONCE, HANGING_CALLS, Answering, Call, Unanswered, hanging_calls
from laurel.tasks import Task
from laurel.tree import Ending, Failed, Rollout, Source, Tree

PROMPT = "a" * 20


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """What hanging calls wait for; they end with the test."""
    event = threading.Event()
    yield event
    event.set()
    deadline = time.monotonic() + 10
    while hanging_calls() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert hanging_calls() == 0


def call(function: Callable[[], object], name: str = "t.0", *, direct: bool = False) -> Call[object]:
    return Call(name, "turn 1 of the episode", function, direct)


def limits(seconds: float = 10.0, **others: object) -> Limits:
    return Limits(environment_timeout_seconds=seconds, **others)  # type: ignore[arg-type]


# --- the calls themselves ---


def test_answers_come_in_the_order_of_the_questions_whatever_order_they_arrive_in() -> None:
    turns = [threading.Event() for _ in range(6)]
    turns[-1].set()

    def after_the_next(index: int) -> Callable[[], object]:
        def ask() -> int:
            assert turns[index].wait(10)
            turns[index - 1].set()
            return index

        return ask

    assert Answering(limits()).ask([call(after_the_next(index)) for index in range(6)]) == list(range(6))


def test_slow_calls_run_side_by_side_and_no_more_than_so_many() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def slow() -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.1)
        with lock:
            running -= 1
        return "done"

    started = time.monotonic()
    assert Answering(limits()).ask([call(slow)] * (CALLS_AT_ONCE + 8)) == ["done"] * (CALLS_AT_ONCE + 8)
    assert 0.2 <= time.monotonic() - started < 2.0  # two batches; one after the other would take 4 seconds
    assert most == CALLS_AT_ONCE


def test_time_in_the_queue_does_not_count() -> None:
    count = 3 * CALLS_AT_ONCE
    assert Answering(limits(0.5)).ask([call(lambda: time.sleep(0.2) or 1)] * count) == [1] * count


def test_a_call_of_several_parts_has_the_time_of_all_of_them(hang: threading.Event) -> None:
    long = Call("t.0", "playing the episode again", lambda: time.sleep(0.4) or 1, False, 4)
    stuck = Call("t.1", "playing the episode again", lambda: hang.wait(20), False, 2)
    done, lost = Answering(limits(0.2)).ask([long, stuck])
    assert done == 1
    assert isinstance(lost, Unanswered) and "not answered within 0.4 seconds" in lost.reason


def test_a_call_that_hangs_is_abandoned_and_its_late_answer_discarded(hang: threading.Event) -> None:
    calls = [call(lambda: 1), call(lambda: hang.wait(20), "t.1"), call(lambda: 3)]
    started = time.monotonic()
    first, lost, third = Answering(limits(0.2)).ask(calls)
    assert time.monotonic() - started < 5
    assert (first, third) == (1, 3)
    assert isinstance(lost, Unanswered) and not lost.late
    assert lost.reason.startswith("turn 1 of the episode was not answered within 0.2 seconds")
    assert "limits.environment_timeout_seconds" in lost.reason
    assert hanging_calls() == 1


def test_what_arrives_late_while_others_are_awaited_is_discarded(hang: threading.Event) -> None:
    def wait_for_hanging(count: int) -> None:
        while hanging_calls() != count:
            time.sleep(0.005)

    def last() -> str:
        wait_for_hanging(1)
        hang.set()
        wait_for_hanging(0)
        return "sound"

    # The last call enters once the sleepers leave; the first is abandoned, returns, and then the last returns.
    sleepers = [call(lambda: time.sleep(0.5) or "slept")] * (CALLS_AT_ONCE - 1)
    lost, *slept, sound = Answering(limits(0.8)).ask([call(lambda: hang.wait(20)), *sleepers, call(last)])
    assert isinstance(lost, Unanswered)
    assert slept == ["slept"] * len(sleepers) and sound == "sound"


def test_the_time_of_the_whole_sampling_bounds_calls_too(hang: threading.Event) -> None:
    answering = Answering(limits(10.0, timeout_seconds=0.2))
    started = time.monotonic()
    lost = answering.ask([call(lambda: hang.wait(20))] * (CALLS_AT_ONCE + 3))
    assert time.monotonic() - started < 5
    assert all(isinstance(each, Unanswered) and each.late and "limits.timeout_seconds" in each.reason for each in lost)
    assert hanging_calls() == CALLS_AT_ONCE  # the last three never started


def test_exceptions_and_exits_are_answers_and_interrupts_are_not() -> None:
    def fail(error: BaseException) -> Callable[[], object]:
        def ask() -> object:
            raise error

        return ask

    for direct in (False, True):
        broken, left = Answering(limits()).ask(
            [call(fail(OSError("gone")), direct=direct), call(fail(SystemExit(3)), direct=direct)]
        )
        assert broken == Unanswered("turn 1 of the episode raised OSError: gone")
        assert left == Unanswered("turn 1 of the episode raised SystemExit: 3")
        with pytest.raises(KeyboardInterrupt):
            Answering(limits()).ask([call(fail(KeyboardInterrupt()), direct=direct)])


def test_direct_calls_stay_in_this_thread_and_have_no_deadline() -> None:
    def slow() -> threading.Thread:
        time.sleep(0.1)
        return threading.current_thread()

    assert Answering(limits(0.01)).ask([call(slow, direct=True)]) == [threading.current_thread()]
    assert Answering(limits()).ask([call(threading.current_thread)]) != [threading.current_thread()]


def test_too_many_hanging_calls_stop_the_run(hang: threading.Event) -> None:
    answering = Answering(limits(0.05))
    assert len(answering.ask([call(lambda: hang.wait(20))] * HANGING_CALLS)) == HANGING_CALLS
    with pytest.raises(EnvironmentFault, match=rf"{HANGING_CALLS + 1} calls of environments hang.*rollout t\.9"):
        answering.ask([call(lambda: hang.wait(20), "t.9")])


def test_calls_that_return_late_are_forgiven(hang: threading.Event) -> None:
    for _ in range(3):
        release = threading.Event()
        Answering(limits(0.05)).ask([call(lambda release=release: release.wait(20))] * HANGING_CALLS)
        release.set()
        deadline = time.monotonic() + 10
        while hanging_calls() and time.monotonic() < deadline:
            time.sleep(0.005)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_deadline_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="environment_timeout_seconds"):
        limits(seconds)


# --- in the sampler ---


@dataclass(frozen=True)
class Slow(Conversation):
    """Answers twice; some rollouts hang, at the start or at a turn, and some take their time."""

    hang: threading.Event = field(default_factory=threading.Event)
    at_start: frozenset[str] = frozenset()
    at_turn: frozenset[tuple[str, int]] = frozenset()
    takes: Callable[[str], float] = lambda rollout_id: 0.0

    def converse(self, task: Task, rollout_id: str) -> Dialogue:
        if rollout_id in self.at_start:
            self.hang.wait(20)
        text = yield PROMPT
        for turn in (1, 2):
            if (rollout_id, turn) in self.at_turn:
                self.hang.wait(20)
            time.sleep(self.takes(rollout_id))
            text = yield Turn(f"{'12' * (1 + len(text) % 4)}:", reward=0.5)
        return 1.0


class Marked(Slow):
    """The same, called in the thread of the run."""

    runs_in_process = True


def play(policy: Policy, environment: Slow, seconds: float = 10.0, **others: object) -> list[Tree]:
    asked = [Job(f"t{i}-", Task(f"task{i}", "a"), 6, environment) for i in range(2)]
    return collect(
        policy,
        asked,
        max_new_tokens=12,
        max_turns=3,
        stop_strings=("c", "g", "1", "e"),
        environment_timeout_seconds=seconds,
        **others,
    )


def by_id(trees: list[Tree]) -> dict[str, Rollout]:
    return {rollout.id: rollout for tree in trees for rollout in tree.rollouts}


def test_threads_and_the_order_of_answers_do_not_change_what_is_drawn(policy: Policy) -> None:
    direct = play(policy, Marked())
    assert any(len(rollout.turns) == 6 for tree in direct for rollout in tree.rollouts)
    same_draws(play(policy, Slow()), direct)
    # Later rows answer first.
    same_draws(play(policy, Slow(takes=lambda rollout_id: 0.02 * (6 - int(rollout_id[-1])))), direct)


def test_a_hanging_episode_fails_its_own_rollout_only(policy: Policy, hang: threading.Event) -> None:
    sound = by_id(play(policy, Marked()))
    at_turn = next(name for name, rollout in sound.items() if len(rollout.turns) == 6)
    at_start = next(name for name in sound if name != at_turn)
    environment = Slow(hang, frozenset({at_start}), frozenset({(at_turn, 2)}))
    broken = by_id(play(policy, environment, 0.3))
    assert broken.keys() == sound.keys()
    for name, rollout in broken.items():
        outcome = rollout.outcome
        assert outcome is not None
        if name not in (at_start, at_turn):
            assert outcome == sound[name].outcome
            assert [s.tokens.tolist() for s in rollout.segments] == [s.tokens.tolist() for s in sound[name].segments]
            continue
        what = "starting the episode" if name == at_start else "turn 2 of the episode"
        assert outcome.ending is Ending.FAILED and isinstance(outcome.score, Failed)
        assert outcome.score.reason.startswith(f"{what} was not answered within 0.3 seconds")
        drawn = [s.tokens.tolist() for s in rollout.segments if s.source is Source.POLICY]
        kept = [s.tokens.tolist() for s in sound[name].segments if s.source is Source.POLICY]
        assert drawn == ([] if name == at_start else kept[:2])


def test_the_sampling_time_ends_although_an_environment_hangs(policy: Policy, hang: threading.Event) -> None:
    started = time.monotonic()
    trees = play(policy, Slow(hang, frozenset({"t0-.0", "t1-.3"})), 60.0, timeout_seconds=0.4)
    assert time.monotonic() - started < 10
    stops = {name: rollout.outcome.stop_reason for name, rollout in by_id(trees).items() if rollout.outcome}
    assert set(stops.values()) == {"time"}
    assert all(rollout.outcome and rollout.outcome.failed for rollout in by_id(trees).values())


def test_a_hanging_service_stops_the_run_with_the_reason(policy: Policy, hang: threading.Event) -> None:
    everyone = Slow(hang, frozenset(f"t0-.{sample}" for sample in range(HANGING_CALLS + 1)))
    job = Job("t0-", Task("task", "a"), HANGING_CALLS + 1, everyone)
    with pytest.raises(EnvironmentFault, match="calls of environments hang, the last of them starting the episode"):
        collect(policy, [job], environment_timeout_seconds=0.1)
