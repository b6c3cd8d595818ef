"""Values as JSON: what goes in comes out, and nothing but data does."""

import datetime
import json
from collections import Counter, deque
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.sandbox.values import decode, encode, update

PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(),
    st.decimals(allow_nan=False), st.fractions(), st.complex_numbers(allow_nan=False),
    st.datetimes(), st.timedeltas(), st.dates(),
)  # fmt: skip
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner), st.tuples(inner, inner), st.dictionaries(st.text() | st.integers(), inner),
        st.sets(st.integers()), st.frozensets(st.text()), st.lists(inner).map(deque),
    ),
    max_leaves=8,
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
    | st.sampled_from(["o", "n", "dic", "lis", "set", "i", "x", "Q", "D", "date", "bytes", "eval", "open", "int"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=10,
)  # fmt: skip


def refuse(value):
    raise AssertionError(f"{value!r} is no plain data")


def through(value):
    return decode(json.loads(json.dumps(encode(value, refuse))), refuse)


@given(VALUES)
def test_what_goes_in_comes_out(value):
    back = through(value)
    assert back == value and type(back) is type(value)


def test_exactly():
    assert [type(item) for item in through([1, 1.0, True, "1"])] == [int, float, bool, str]
    assert str(through([float("nan"), -0.0, float("inf")])) == "[nan, -0.0, inf]"
    assert through(Counter("aab")) == {"a": 2, "b": 1}
    assert through([int, len, ValueError, Ellipsis is None]) == [int, len, ValueError, False]
    assert through("\ud800") == "\ud800" and through(-(2**2000)) == -(2**2000)
    assert through([Decimal("1.10"), Fraction(-1, 3), range(1, 9, 2)]) == [
        Decimal("1.10"),
        Fraction(-1, 3),
        range(1, 9, 2),
    ]
    assert through(datetime.time(1, 2)) == datetime.time(1, 2)


@given(JSON)
def test_a_hostile_side_can_send_data_and_nothing_else(data):
    try:
        value = decode(data, lambda number: None)
    except ValueError:
        return
    assert value not in (open, eval, exec, __import__) if callable(value) else True


@pytest.mark.parametrize("name", ["open", "eval", "exec", "__import__", "compile", "no_such"])
def test_functions_that_act_are_not_to_be_had_by_name(name):
    with pytest.raises(ValueError, match="no"):
        decode(["n", name], refuse)


def test_what_stays_where_it_is():
    kept = []
    keep = lambda value: kept.append(value) or len(kept) - 1  # noqa: E731
    f = lambda: 1  # noqa: E731
    data = encode([1, f, {"a": f}, eval], keep)
    assert kept == [f, f, eval]
    assert decode(data, lambda number: f"remote {number}") == [1, "remote 0", {"a": "remote 1"}, "remote 2"]


def test_a_copy_that_was_worked_on():
    for old, new in (
        ([1, 2], [3]),
        ({1: 2}, {3: 4}),
        ({1}, {2}),
        (bytearray(b"a"), bytearray(b"bc")),
        (deque([1]), deque([2])),
    ):
        update(old, new)
        assert old == new
