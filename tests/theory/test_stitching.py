"""What dynamic programming, Monte Carlo and cloning make of logs under a state, and when the state is wrong."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laurel.errors import ConfigurationError
from laurel.theory import (
    Answer,
    Log,
    World,
    batch_temporal_difference,
    cloned,
    example_world,
    greedy,
    history_values,
    last_observation,
    lettered,
    monte_carlo_action_values,
    optimal_action_values,
    refutation,
    return_from,
    single_turn,
    stitched,
    untried,
    whole_history,
    wrongly_merged,
)
from laurel.theory.stitching import Dialogue, Respond, State

LOGS = [lettered("AabMcL", 0.2), lettered("XyzMdG", 1.0), lettered("AsstQ", 0.4)]
STATES: dict[str, State] = {"observation": last_observation, "history": whole_history}


def retold(logs: Sequence[Log]) -> Respond:
    """The world in which an observation answers an action as it did in the logs, whatever came before."""
    table = {(dialogue[-1], action): answer for log in logs for dialogue, action, answer in log.decisions}
    return lambda dialogue, action: table[dialogue[-1], action]


def test_letters_are_read_as_observations_and_actions() -> None:
    first = LOGS[0]
    assert list(first.decisions) == [
        (("A",), "ab", Answer("M")),
        (("A", "ab", "M"), "c", Answer("L", 0.2, ended=True)),
    ]
    assert first.earned == 0.2 and LOGS[2].turns == (("sst", Answer("Q", 0.4, ended=True)),)


@pytest.mark.parametrize(
    ("state", "programmed", "followed", "copied"), [("observation", 1.0, 0.4, 0.5), ("history", 0.4, 0.4, 0.3)]
)
def test_what_three_logs_are_worth_from_the_start(
    state: str, programmed: float, followed: float, copied: float
) -> None:
    """By hand: M is worth max(0.2, 1) = 1 to dynamic programming; what followed "ab" in its own log was 0.2 < 0.4."""
    sees, world = STATES[state], retold(LOGS)
    optimal, monte_carlo = optimal_action_values(LOGS, sees), monte_carlo_action_values(LOGS, sees)
    start = sees(("A",))
    assert optimal[start, "ab"] == pytest.approx(1.0 if state == "observation" else 0.2)
    assert monte_carlo[start, "ab"] == pytest.approx(0.2) and monte_carlo[start, "sst"] == optimal[start, "sst"] == 0.4
    assert return_from(greedy(optimal), "A", world, sees) == pytest.approx(programmed, abs=1e-12)
    assert return_from(greedy(monte_carlo), "A", world, sees) == pytest.approx(followed, abs=1e-12)
    assert return_from(stitched(LOGS, sees, world), "A", world, sees) == pytest.approx(programmed, abs=1e-12)
    copy = cloned(LOGS, sees)
    assert return_from(copy, "A", world, sees) == pytest.approx(copied, abs=1e-12)
    over_starts = np.mean([return_from(copy, log.start, world, sees) for log in LOGS])
    assert over_starts == pytest.approx(np.mean([log.earned for log in LOGS])) and round(float(over_starts), 2) == 0.53


def test_no_log_says_whether_the_two_ways_to_m_are_one_state() -> None:
    assert refutation(LOGS, last_observation) is None  # nothing that was logged speaks against it
    assert untried(LOGS, last_observation) == [(("A", "ab", "M"), "d"), (("X", "yz", "M"), "c")]
    assert untried(LOGS, whole_history) == []
    assert refutation(LOGS, last_observation, retold(LOGS)) is None  # and the world agrees


def with_a_key(dialogue: Dialogue, action: str) -> Answer:
    """The same answers, but "d" opens the door to G only for who came by "yz", where the key lay."""
    if action == "d" and "yz" not in dialogue:
        return Answer("L", 0.0, ended=True)
    return retold(LOGS)(dialogue, action)


def test_a_wrong_state_is_told_by_two_histories_and_stitches_nothing() -> None:
    values = optimal_action_values(LOGS, last_observation)
    assert max(values["A", action] for action in ("ab", "sst")) == 1.0  # what it promises
    assert return_from(greedy(values), "A", with_a_key, last_observation) == 0.0  # and what it earns: less than cloning
    found = refutation(LOGS, last_observation, with_a_key)
    assert found is not None
    assert {found.first, found.second} == {("A", "ab", "M"), ("X", "yz", "M")} and found.action == "d"
    assert str(found) == (
        "In the state 'M', to 'd': after 'X yz M' it pays 1 and ends, after 'A ab M' it pays 0 and ends."
    )
    with pytest.raises(ConfigurationError, match=r"no one state(.|\n)*remember what tells them apart"):
        stitched(LOGS, last_observation, with_a_key)
    # A state that remembers the key is right, and finds what there is to find.
    remembers: State = lambda dialogue: (dialogue[-1], "yz" in dialogue)  # noqa: E731
    assert refutation(LOGS, remembers, with_a_key) is None
    assert return_from(stitched(LOGS, remembers, with_a_key), "A", with_a_key, remembers) == 0.4
    assert return_from(stitched(LOGS, remembers, with_a_key), "X", with_a_key, remembers) == 1.0


def test_logs_that_contradict_each_other_refute_a_state_by_themselves() -> None:
    pays = [LOGS[0], lettered("XyzMcG", 1.0)], "pays 0.2 and ends.*pays 1 and ends"
    ends = [lettered("AabMcL", 0.0), lettered("XyzMcNdG", 1.0)], "pays 0 and ends.*pays 0 and leads to 'N'"
    leads = [lettered("AabMcNdG", 1.0), lettered("XyzMcPdG", 1.0)], "leads to 'N'.*leads to 'P'"
    for logs, told in (pays, ends, leads):
        found = refutation(logs, last_observation)
        assert found is not None and found.action == "c"
        with pytest.raises(ConfigurationError, match=told):
            stitched(logs, last_observation, retold(LOGS))


def test_a_fault_far_from_where_histories_meet_is_found_too() -> None:
    """M is one state for its own actions; only after M, d, N does the way to M matter."""
    logs = [lettered("AabMcL", 0.2), lettered("XyzMdNeG", 1.0)]

    def respond(dialogue: Dialogue, action: str) -> Answer:
        if action == "e" and dialogue[0] == "A":
            return Answer("L", 0.0, ended=True)
        return retold(logs)(dialogue, action)

    found = refutation(logs, last_observation, respond)
    assert found is not None and found.second == ("A", "ab", "M", "d", "N") and found.action == "e"


@st.composite
def layered(draw: st.DrawFn) -> tuple[list[Log], Respond]:
    """Logs of a world in layers of two places, in which the place alone counts: three actions, a reward for each."""
    depth = draw(st.integers(1, 3))
    table: dict[tuple[str, str], Answer] = {}
    for layer, place, action in itertools.product(range(depth), "PQ", "abc"):
        after, paid = draw(st.sampled_from("PQ")), draw(st.integers(-3, 3))
        table[f"{place}{layer}", action] = Answer(f"{after}{layer + 1}", float(paid), ended=layer == depth - 1)
    respond: Respond = lambda dialogue, action: table[dialogue[-1], action]  # noqa: E731
    logs = []
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.sampled_from(["P0", "Q0"]))
        dialogue, turns = (start,), []
        for action in draw(st.lists(st.sampled_from("abc"), min_size=depth, max_size=depth)):
            turns.append((action, respond(dialogue, action)))
            dialogue = (*dialogue, action, turns[-1][1].observation)
        logs.append(Log(start, tuple(turns)))
    return logs, respond


@given(layered())
def test_a_right_state_earns_what_dynamic_programming_says_and_no_logged_play_is_better(
    made: tuple[list[Log], Respond],
) -> None:
    logs, respond = made
    assert refutation(logs, last_observation, respond) is None
    values = optimal_action_values(logs, last_observation)
    policy = stitched(logs, last_observation, respond)
    for log in logs:
        promised = max(value for (state, _), value in values.items() if state == log.start)
        assert return_from(policy, log.start, respond, last_observation) == pytest.approx(promised, abs=1e-9)
        assert promised >= log.earned - 1e-9
        # On whole histories it is the best of the logs that begin alike.
        alone = greedy(optimal_action_values(logs, whole_history))
        best = max(other.earned for other in logs if other.start == log.start)
        assert return_from(alone, log.start, respond, whole_history) == pytest.approx(best, abs=1e-9)


@given(layered())
def test_cloning_earns_the_mean_of_the_logs_from_their_starts(made: tuple[list[Log], Respond]) -> None:
    logs, respond = made
    mean = float(np.mean([log.earned for log in logs]))
    for state in (last_observation, whole_history):
        copy = cloned(logs, state)
        earned = float(np.mean([return_from(copy, log.start, respond, state) for log in logs]))
        assert earned == pytest.approx(mean, abs=1e-9)
    # In the model of the logs it does so even where the state is wrong: one state for everything.
    anything: State = lambda dialogue: "?"  # noqa: E731
    episodes = [[(anything(dialogue), answer.reward) for dialogue, _, answer in log.decisions] for log in logs]
    assert batch_temporal_difference(episodes)["?"] == pytest.approx(mean, abs=1e-9)


def test_a_discount_and_a_loop() -> None:
    loop = Log("A", (("a", Answer("A", 1.0)), ("b", Answer("Z", 0.0, ended=True))))
    with pytest.raises(ConfigurationError, match="pays for ever"):
        optimal_action_values([loop], last_observation)
    assert optimal_action_values([loop], last_observation, discount=0.5)["A", "a"] == pytest.approx(2.0)
    assert optimal_action_values([loop], whole_history)[("A",), "a"] == 1.0
    assert monte_carlo_action_values([lettered("AabMcL", 0.2)], last_observation, discount=0.5)["A", "ab"] == 0.1
    with pytest.raises(ConfigurationError, match="more than 64 turns"):
        return_from({"A": {"a": 1.0}}, "A", lambda dialogue, action: Answer("A"), last_observation)
    assert return_from({}, "A", retold(LOGS), last_observation) == 0.0


def test_states_of_worlds_that_are_listed_whole() -> None:
    majority = single_turn(vocabulary=2, horizon=5, score=lambda answer: float(2 * sum(answer) > 5))
    counted = World(2, majority.respond, state=lambda history: (len(history), sum(history)))
    assert wrongly_merged(counted) is None and wrongly_merged(majority) is None
    assert wrongly_merged(example_world()) is None
    forgets = World(2, majority.respond, state=len)
    found = wrongly_merged(forgets)
    assert found is not None and len(found.first) == len(found.second) == 4
    assert sorted(sum(history) + found.token > 2 for history in (found.first, found.second)) == [False, True]
    assert sorted(reply.score for reply in found.replies) == [0.0, 1.0]


def test_a_right_state_has_one_value_and_a_wrong_one_has_not() -> None:
    majority = single_turn(vocabulary=2, horizon=5, score=lambda answer: float(2 * sum(answer) > 5))
    for state, right in ((lambda history: (len(history), sum(history)), True), (len, False)):
        world = World(2, majority.respond, state=state)
        seen: dict[object, set[float]] = {}
        for history, value in history_values(world, torch.zeros(len(world.states), 2, dtype=torch.float64)).items():
            seen.setdefault(state(history), set()).add(round(value, 9))
        assert all(len(values) == 1 for values in seen.values()) is right is (wrongly_merged(world) is None)
