"""Reading numbers out of text, exactly (as fractions), in time that grows linearly with the text, without eval."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from laurel.tasks.extraction import last_boxed

_LONGEST = 64
_PLAIN = r"(?:[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]++)(?:\.[0-9]++)?+|(?<![0-9])\.[0-9]++"
_NUMBER = re.compile(
    r"(?<![A-Za-z_])(?P<sign>(?:(?<![\w)\]}.])[-+])?(?:[$€£¥][-+]?)?)"
    r"(?:\\[dt]?frac\{(?P<top>[-+]?[0-9][0-9,.]*+)\}\{(?P<bottom>[0-9][0-9,.]*+)\}"
    rf"|(?<!/)(?P<over>{_PLAIN})[ ]?/[ ]?(?P<under>{_PLAIN})(?!/)"
    rf"|(?P<whole>{_PLAIN})"
    r"(?:(?P<exponent>[eE][-+]?[0-9]++)(?!\w|\.[0-9])"
    r"|[ ]?\\[dt]?frac\{(?P<latex_top>[0-9]++)\}\{(?P<latex_bottom>[0-9]++)\}"
    r"|[ ](?P<plain_top>[0-9]++)/(?P<plain_bottom>[0-9]++)(?!/))?)"
    r"(?P<percent>[ ]?%)?"
)
_MARKS = str.maketrans({"−": "-", "–": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " "})
_LATEX = (("{,}", ","), ("\\,", ""), ("\\!", ""), ("\\$", "$"), ("\\%", "%"), ("\\ ", " "))


@dataclass(frozen=True)
class Number:
    """A number as written.

    Attributes:
        value: its face value, exactly; 50 for "50%". None: it has no value (a zero divisor, absurdly many digits).
        percent: whether a percent sign followed.
    """

    value: Fraction | None
    percent: bool = False


def numbers_in(text: str) -> list[Number]:
    """All numbers of a text, from left to right.

    Understood: signs ("-3", "−3"; in "5-3" and "5 - 3" the minus is an operation), thousands separators ("1,234,567",
    LaTeX "1{,}234"), decimals ("0.5", ".5"), exponents ("1e-3"), fractions ("3/4", "\\frac{3}{4}"), mixed numbers
    ("1 1/2", "1\\frac{1}{2}"), currency signs ("$5", "-$5", "$-5") and percent ("50%"). A full stop at the end of a
    sentence is none of it. Digits inside of a word ("x2") are no number.
    """
    text = text.translate(_MARKS)
    for written, plain in _LATEX:
        text = text.replace(written, plain)
    return [_number(match) for match in _NUMBER.finditer(text)]


def answer_in(text: str, marker: str | None = None) -> Number | None:
    """The number that a text gives as its answer, or None.

    With a marker: the first number after its last occurrence. Without: the last number in the last `\\boxed{...}` if
    there is one, else the first after the last "####" if there is one, else the last number of the text.
    """
    if marker is not None:
        _, found, rest = text.rpartition(marker)
        return next(iter(numbers_in(rest)), None) if found else None
    boxed = last_boxed(text)
    if boxed is not None:
        return next(reversed(numbers_in(boxed)), None)
    if "####" in text:
        return answer_in(text, "####")
    return next(reversed(numbers_in(text)), None)


def agree(answer: Number, gold: Number, tolerance: Fraction) -> bool:
    """Whether two numbers differ by at most `tolerance`.

    A percent on one side only is compared as written, since a question may ask "what percent?" (gold 50, answer
    "50%"); and, where the number on the other side lies in [-1, 1], divided by 100, since it may ask for a share (gold
    0.5, answer "50%"). So "5000%" is not 50.
    """
    if answer.value is None or gold.value is None:
        return False
    differences = [answer.value - gold.value]
    if answer.percent and not gold.percent and abs(gold.value) <= 1:
        differences.append(answer.value / 100 - gold.value)
    if gold.percent and not answer.percent and abs(answer.value) <= 1:
        differences.append(answer.value - gold.value / 100)
    return any(abs(difference) <= tolerance for difference in differences)


def _number(match: re.Match[str]) -> Number:
    part = match.groupdict()
    percent = part["percent"] is not None
    if len(match.group()) > _LONGEST:
        return Number(None, percent)
    value: Fraction | None
    if part["whole"] is None:
        value = _quotient(part["top"] or part["over"], part["bottom"] or part["under"])
    else:
        value = _plain(part["whole"] + (part["exponent"] or ""))
        top, bottom = part["latex_top"] or part["plain_top"], part["latex_bottom"] or part["plain_bottom"]
        if top is not None:
            share = _quotient(top, bottom)
            value = None if value is None or share is None else value + share
    if value is not None and "-" in part["sign"]:
        value = -value
    return Number(value, percent)


def _quotient(top: str, bottom: str) -> Fraction | None:
    above, below = _plain(top), _plain(bottom)
    return above / below if above is not None and below else None


def _plain(written: str) -> Fraction | None:
    digits, _, exponent = written.replace(",", "").rstrip(".").lower().partition("e")
    if len(exponent) > 4 or digits.count(".") > 1:
        return None
    return Fraction(f"{digits}e{exponent or 0}")
