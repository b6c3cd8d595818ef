"""The reward for calls of tools, by hand: gold calls score 1, near misses 0."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.errors import ConfigurationError
from laurel.rewards import Failed, check_reward, tool_call
from laurel.rewards.tool_calls import same
from laurel.tasks import Task

GOLD = {"name": "weather", "arguments": {"city": "Oslo", "days": 2, "units": {"wind": "m/s", "rain": True}}}
TASK = Task("t", "How is the weather in Oslo?", json.dumps(GOLD))
TWO = Task("two", "q", json.dumps([GOLD, {"name": "clock", "arguments": {}}]))


def call(text, task=TASK):
    score = tool_call()(task, text)
    return score.value, tuple(score.parts.values())


def changed(**arguments):
    kept = {name: value for name, value in {**GOLD["arguments"], **arguments}.items() if value is not None}
    return json.dumps({"name": "weather", "arguments": kept})


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOLD),
        f"I look.\n<tool_call>\n{json.dumps(GOLD)}\n</tool_call>",
        f"```json\n{json.dumps(GOLD, indent=2)}\n```",
        f" [{json.dumps(GOLD)}] ",
        json.dumps({"arguments": dict(reversed(GOLD["arguments"].items())), "name": "weather"}),
        json.dumps({"name": "weather", "arguments": json.dumps(GOLD["arguments"])}),
        json.dumps({"type": "function", "id": "1", "function": GOLD}),
        json.dumps({"name": "weather", "parameters": GOLD["arguments"]}),
        changed(days=2.0),
    ],
)
def test_a_right_call_in_each_form(text):
    assert call(text) == (1.0, (1.0, 1.0, 1.0))


NEAR = {
    "another city": changed(city="Bergen"),
    "letter case": changed(city="oslo"),
    "a missing argument": changed(days=None),
    "an extra one": changed(hours=1),
    "text for a number": changed(days="2"),
    "a number for truth": changed(units={"wind": "m/s", "rain": 1}),
    "deep inside": changed(units={"wind": "km/h", "rain": True}),
    "a list for a value": changed(city=["Oslo"]),
}


@pytest.mark.parametrize("name", NEAR)
def test_the_right_name_with_other_arguments(name):
    assert call(NEAR[name]) == (0.0, (1.0, 1.0, 0.0))


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({**GOLD, "name": "Weather"}),
        json.dumps([GOLD, GOLD]),
        f"<tool_call>{json.dumps(GOLD)}</tool_call><tool_call>{json.dumps(GOLD)}</tool_call>",
    ],
)
def test_another_name_or_more_calls(text):
    assert call(text) == (0.0, (1.0, 0.0, 0.0))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "weather(Oslo)",
        f"Here: {json.dumps(GOLD)}",
        f"<tool_call>{json.dumps(GOLD)}",
        f"<tool_call>{json.dumps(GOLD)}</tool_call><tool_call>",
        f"<tool_call>{json.dumps(GOLD)}</tool_call><tool_call>{{}}</tool_call>",
        "[]",
        '{"name": "weather", "name": "weather", "arguments": {}}',
        '{"name": "weather", "arguments": {"days": NaN}}',
        '{"name": "weather", "arguments": [1]}',
        "[" * 100_000,
        str(GOLD),
    ],
)
def test_what_is_no_call(text):
    assert call(text) == (0.0, (0.0, 0.0, 0.0))


@pytest.mark.parametrize("signs", ["<tool_call>", "</tool_call><tool_call>", "<tool_call></tool_call>"])
def test_blocks_that_nothing_closes_cost_no_more_than_their_length(signs):
    started = time.process_time()
    assert call(signs * 20_000) == (0.0, (0.0, 0.0, 0.0))
    assert time.process_time() - started < 2  # a search that begins anew at every block takes a minute


def test_a_line_separator_inside_of_an_argument_stays_there():
    gold = json.dumps({"name": "note", "arguments": {"text": "a\u2028b\x85c"}}, ensure_ascii=False)
    task = Task("t", "q", gold)
    assert call(f"```json\n{gold}\n```", task)[0] == 1.0
    assert call(f"```json\r\n{gold}\r\n```", task)[0] == 1.0


def test_several_calls_in_whatever_order():
    clock = json.dumps({"name": "clock"})
    assert call(f"[{clock}, {json.dumps(GOLD)}]", TWO)[0] == 1.0
    assert call(f"<tool_call>{clock}</tool_call>\n<tool_call>{json.dumps(GOLD)}</tool_call>", TWO)[0] == 1.0
    assert call(json.dumps(GOLD), TWO) == (0.0, (1.0, 0.0, 0.0))
    assert call(f"[{clock}, {clock}]", TWO) == (0.0, (1.0, 0.0, 0.0))
    assert call(f"[{clock}, {changed(days=3)}]", TWO) == (0.0, (1.0, 1.0, 0.0))


def test_what_is_wanted_may_stand_in_a_column():
    task = Task("t", "q", None, {"calls": [GOLD]})
    assert tool_call(column="calls")(task, json.dumps(GOLD)).value == 1.0
    missing = tool_call(column="call")(task, "{}")
    assert isinstance(missing, Failed) and "task t has no column 'call'" in missing.reason
    assert isinstance(tool_call()(task, "{}"), Failed)
    assert "is no call" in tool_call()(Task("t", "q", "weather"), "{}").reason
    with pytest.raises(ConfigurationError, match="names no column"):
        tool_call(column="")


def test_it_tells_right_from_wrong_before_a_run():
    tasks = [Task(str(day), "q", json.dumps({"name": "weather", "arguments": {"days": day}})) for day in range(3)]
    report = check_reward(tasks, tool_call())
    assert report.passed and set(report.probes) == {"gold", "empty", "another task's gold", "a changed digit"}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)


@given(VALUES, VALUES)
def test_values_are_the_same_as_their_json_is(one, other):
    def canonical(value):
        if isinstance(value, dict):
            return {key: canonical(item) for key, item in value.items()}
        if isinstance(value, list):
            return [canonical(item) for item in value]
        return ("number", value) if isinstance(value, int | float) and not isinstance(value, bool) else (value, "other")

    assert same(one, one)
    assert same(one, other) == (repr_of(canonical(one)) == repr_of(canonical(other)))


def repr_of(value):
    """Text in which 1 and 1.0 are the same, and the order of keys does not count."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key!r}:{repr_of(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(repr_of, value)) + "]"
    kind, rest = value
    if kind == "number":
        return f"number {rest.as_integer_ratio() if abs(rest) != float('inf') else rest}"
    return f"{kind!r} other"
