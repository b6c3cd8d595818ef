"""Reading numbers: a table of what people and models write, and properties over all of it."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.rewards.numbers import Number, agree, answer_in, numbers_in


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("18", [18]),
        ("The answer is $1,450,000.", [1_450_000]),
        ("-3", [-3]),
        ("−3", [-3]),
        ("x = -3.", [-3]),
        ("(-3)", [-3]),
        ("16-3=13", [16, 3, 13]),
        ("5 - 3", [5, 3]),
        ("3–5", [3, 5]),
        ("$-5 or -$5", [-5, -5]),
        ("€ 5 and £7.50", [5, "7.5"]),
        (".5 and Rs.500", ["0.5", 500]),
        ("1/2", ["1/2"]),
        ("3.5/2 and 10 / 4", ["7/4", "5/2"]),
        (r"\frac{1}{2}, -\dfrac{3}{4}, \frac{-1}{2}", ["1/2", "-3/4", "-1/2"]),
        (r"1 1/2 and -1\frac{1}{2}", ["3/2", "-3/2"]),
        ("12/25/2020", [12, 25, 2020]),
        (r"1{,}234 and 70\,000 and 5\!5", [1234, 70000, 55]),
        ("1,2,3 and 1,2345", [1, 2, 3, 1, 2345]),
        ("1e-3, 2E5. 2e5x", ["1/1000", 200000, 2]),
        ("x2, H2O and n_3", []),
        ("1.2.3", ["1.2", 3]),
        ("**18** 18</answer>", [18, 18]),
        ("no number; ٣ and ² are none here", []),
    ],
)
def test_what_is_read(text, values):
    assert [number.value for number in numbers_in(text)] == [Fraction(value) for value in values]


@pytest.mark.parametrize(
    "text", ["3/0", r"\frac{1}{0}", "1 1/0", "1e99999", "1e-9999999", "9" * 5000, "1" + ",111" * 99]
)
def test_what_has_no_value_is_still_seen(text):
    assert numbers_in(text) == [Number(None)]


@pytest.mark.parametrize("text", ["50%", "50 %", r"50\%", "$50%$"])
def test_percent(text):
    assert numbers_in(text)[-1] == Number(Fraction(50), percent=True)


@given(st.integers(-(10**12), 10**12), st.sampled_from(["{}", "{:,}", "is {}.", "**{:,}**", "<<1+1=2>>{}", "${:,}"]))
def test_whole_numbers_survive_every_way_of_writing_them(value, form):
    assert numbers_in(form.format(value))[-1].value == value


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=6))
def test_decimals_survive(value):
    assert numbers_in(f"x = {value:,f} m")[-1].value == Fraction(value)


@given(st.integers(-999, 999), st.integers(1, 999))
def test_fractions_survive(top, bottom):
    for text in (f"{top}/{bottom}", f"\\frac{{{top}}}{{{bottom}}}"):
        assert numbers_in(text)[-1].value == Fraction(top, bottom)


@given(st.text(alphabet=st.sampled_from("0123456789,./-+$%eE \\frac{}x#−\n"), max_size=60))
def test_no_text_breaks_the_reader(text):
    for number in numbers_in(text):
        assert number.value is None or isinstance(number.value, Fraction)


@pytest.mark.parametrize(
    "pattern", ["1,", "1,234", "9", "1 1/", "-", r"\frac{1", "1e9", "1e1.", "1.", "1/", "$-", " ", "1 ", r"\frac{1,"]
)
@pytest.mark.timeout(20)
def test_the_reader_is_linear(pattern):
    numbers_in(pattern * 20_000)


@pytest.mark.parametrize(
    ("text", "marker", "answer"),
    [
        ("first 3, then 4", None, 4),
        (r"\boxed{7} apples, 3 pears", None, 7),
        (r"\boxed{1} no, \boxed{\frac{1}{2}}", None, "1/2"),
        (r"\boxed{nothing} 3", None, None),
        ("so\n#### 18\nThat took 5 steps", None, 18),
        ("answer: 3, answer: 4 of 5", "answer:", 4),
        ("3", "answer:", None),
        ("answer: none", "answer:", None),
        ("", None, None),
    ],
)
def test_which_number_is_the_answer(text, marker, answer):
    found = answer_in(text, marker)
    assert (None if found is None else found.value) == (None if answer is None else Fraction(answer))


@pytest.mark.parametrize(
    ("answer", "gold", "same"),
    [
        ("50%", "50", True),
        ("50%", "0.5", True),
        ("0.5", "50%", True),
        ("50", "50%", True),
        ("5000%", "50%", False),
        ("5000%", "50", False),
        ("50", "5000%", False),
        ("100%", "1", True),
        ("-50%", "-0.5", True),
        ("0.005", "50%", False),
        ("0.5000001", "0.5", True),
        ("0.50001", "0.5", False),
        ("70000000", "70000001", False),
        ("3/0", "3", False),
        ("3/0", "3/0", False),
    ],
)
def test_agreement(answer, gold, same):
    assert agree(numbers_in(answer)[0], numbers_in(gold)[0], Fraction("1e-6")) is same
