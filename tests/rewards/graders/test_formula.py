"""Formulas over scores: read by a parser of its own."""

import math
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.errors import ConfigurationError
from laurel.rewards.graders.formula import LONGEST, Formula


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x", 3.0),
        ("1 + 2 * x", 7.0),
        ("(1 + 2) * x", 9.0),
        ("x - 4 - 2", -3.0),
        ("8 / 4 / x", 2 / 3),
        ("2 * x ^ 2", 18.0),
        ("2 ** x ** 2", 512.0),
        ("-x ^ 2", -9.0),
        ("x ^ -1", 1 / 3),
        ("--x + +1", 4.0),
        ("min(x, 1, 2) + max(x)", 4.0),
        ("abs(-x) + floor(1.9) + ceil(1.1)", 6.0),
        ("exp(0) + sqrt(x + 1) + log(exp(x))", 6.0),
        (".5*x+1.5e1-2.E0", 14.5),
    ],
)
def test_by_hand(text, value):
    assert Formula(text, ["x"], "f")({"x": 3.0}) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs a number or a name where its end"),
        ("x +", "where its end stands"),
        ("x x", "needs an operator where 'x' stands"),
        ("(x", r"needs '\)'"),
        ("x)", r"needs an operator where '\)'"),
        ("* x", "where '\\*' stands"),
        ("y + x", "unknown key 'y'"),
        ("eval(x)", "a function in .* unknown key 'eval'"),
        ("x.real", "breaks off at '.real'"),
        ("__import__('os')", "breaks off at"),
        ("x if x else x", "needs an operator where 'if'"),
        ("x; x", "breaks off at ';"),
        ("1", "does not read 'x'"),
        ("sqrt(x, x)", "takes one argument, not 2"),
        ("max()", r"needs a number or a name where '\)'"),
        ("x // 2", "where '/' stands"),
        ("(" * 60 + "x" + ")" * 60, "nested too deeply"),
        ("-" * 60 + "x", "nested too deeply"),
        ("x" + "+x" * LONGEST, "is too long"),
    ],
)
def test_what_is_no_formula_is_refused(text, message):
    with pytest.raises(ConfigurationError, match=message):
        Formula(text, ["x"], "f")


@pytest.mark.parametrize(
    "text", ["1 / x", "log(x)", "sqrt(x - 1)", "(x - 1) ^ 0.5", "exp(x + 10000)", "x + 1e308 * 10"]
)
def test_what_has_no_value_says_so(text):
    with pytest.raises((ArithmeticError, ValueError)):
        Formula(text, ["x"], "f")({"x": 0.0})


def test_the_longest_one_is_still_computed():
    text = "x" + "+x" * ((LONGEST - 1) // 2)
    assert Formula(text, ["x"], "f")({"x": 1.0}) == 1 + (LONGEST - 1) // 2


TREES = st.recursive(
    st.sampled_from(["a", "b"]) | st.integers(0, 9),
    lambda inner: st.tuples(st.sampled_from("+-*"), inner, inner) | st.tuples(st.sampled_from(["abs", "-"]), inner),
    max_leaves=8,
)


@given(TREES, st.integers(-9, 9), st.integers(-9, 9))
def test_a_formula_means_what_its_parentheses_say(tree, a, b):
    def text(node):
        if not isinstance(node, tuple):
            return str(node)
        if len(node) == 2:
            return f"abs({text(node[1])})" if node[0] == "abs" else f"(-{text(node[1])})"
        return f"({text(node[1])} {node[0]} {text(node[2])})"

    def value(node):
        if not isinstance(node, tuple):
            return {"a": a, "b": b}.get(node, node)
        if len(node) == 2:
            return abs(value(node[1])) if node[0] == "abs" else -value(node[1])
        return {"+": operator.add, "-": operator.sub, "*": operator.mul}[node[0]](value(node[1]), value(node[2]))

    assert math.isclose(Formula(f"0 * (a + b) + {text(tree)}", ["a", "b"], "f")({"a": a, "b": b}), value(tree))
