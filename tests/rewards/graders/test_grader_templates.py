"""Templates of graders: two name spaces, one pass, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.errors import ConfigurationError
from laurel.rewards.graders.templates import GraderText, NoSuchField, NotInTheAnswer

SPACES = {
    "item": {"x": "one", "n": 2.5, "a": {"b": [{"c": True}, None]}, "list": ["p", "q"], "secret": "42"},
    "sample": {"output_text": "said", "output_json": {"answer": 7}, "output_tools": None, "choices": []},
}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("no field", "no field"),
        ("{{item.x}} and {{ sample.output_text }}!", "one and said!"),
        ("{{item.n}} {{item.a.b[0].c}} {{item.a.b.1}} {{item.a}}", '2.5 true null {"b": [{"c": true}, null]}'),
        ("{{item.list[1]}}{{item.list}}", 'q["p", "q"]'),
        ("{{sample.output_json.answer}}", "7"),
        ('{"a": {"b": {{item.n}}}}', '{"a": {"b": 2.5}}'),
        ("{item.x} ${x} %s {0}", "{item.x} ${x} %s {0}"),
        ("", ""),
    ],
)
def test_fields_are_filled(text, filled):
    assert GraderText(text, "input").fill(SPACES) == filled


@pytest.mark.parametrize(
    "text",
    [
        "{{x}}", "{{item}}", "{{items.x}}", "{{env.HOME}}", "{{item.x | upper}}", "{{item.x.upper()}}", "{{item['x']}}",
        "{{item.__class__}} {{7 * 7}}", "{{}}", "{{item.x", "{{ item . x }}", "{{sample.output}}", "{{sample.reward}}",
        "{{item[0]x}}", "{{item.a[-1]}}", "{{{item.x}}}",
    ],
)  # fmt: skip
def test_whatever_else_stands_in_braces_is_refused(text):
    with pytest.raises(ConfigurationError, match="input: "):
        GraderText(text, "input")


def test_a_row_or_an_answer_may_lack_something():
    with pytest.raises(NoSuchField, match=r"the row has no item.y: .*Present: a, list, n, secret, x"):
        GraderText("{{item.y}}", "input").fill(SPACES)
    with pytest.raises(NoSuchField, match=r"item.a.colour: did you mean 'color'"):
        GraderText("{{item.a.colour}}", "input").fill({"item": {"a": {"color": 1}}, "sample": {}})
    for text in ("{{item.x.y}}", "{{item.list[2]}}", "{{item.list.p}}", "{{item.x[0]}}", "{{item.n.real}}"):
        with pytest.raises(NoSuchField):
            GraderText(text, "input").fill(SPACES)
    for text in ("{{sample.output_tools}}", "{{sample.output_json.other}}", "{{sample.choices[0].message}}"):
        with pytest.raises(NotInTheAnswer):
            GraderText(text, "input").fill(SPACES)


@given(
    st.text() | st.sampled_from(["{{item.secret}}", "{{sample.output_text}}", "{{", "}}", "{{item.x}}{{item.secret}}"])
)
def test_what_is_filled_in_is_never_looked_at_again(answer):
    spaces = {"item": {"secret": "42", "x": "{{item.secret}}"}, "sample": {"output_text": answer}}
    filled = GraderText("<{{sample.output_text}}|{{item.x}}>", "input").fill(spaces)
    assert filled == f"<{answer}|{{{{item.secret}}}}>"
