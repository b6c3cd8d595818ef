"""Gold answers out of whole solutions, by hand and against every row of GSM8K."""

import json
import os
import re
from fractions import Fraction
from pathlib import Path

import pytest

import laurel.tasks
from laurel.rewards import answer_in
from laurel.tasks import after_marker, extractor, last_boxed

DATA = Path(os.environ.get("LAUREL_DATA", Path(__file__).parents[3] / "shared" / "data"))


def test_after_a_marker():
    assert after_marker("####")("so #### 3\n#### 18 ") == "18"
    assert after_marker("####")("18") is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{3}", "3"),
        (r"\boxed{1}, so \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{{}", None),
        ("3", None),
        (r"\boxed{ {a} {b} }", "{a} {b}"),
    ],
)
def test_boxed(text, answer):
    assert last_boxed(text) == answer


def test_names_markers_and_functions():
    assert extractor("boxed")(r"\boxed{3}") == "3"
    assert extractor("####")("#### 3") == "3"
    assert extractor(str.upper)("a") == "A"


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA} (set LAUREL_DATA)")
def test_every_gold_answer_of_gsm8k():
    """Against the pattern that the data set's authors publish for its final answers, commas removed."""
    path = DATA / "gsm8k" / "test.jsonl"
    tasks = laurel.tasks.jsonl(path, extract="####")
    published = [
        re.search(r"#### (\-?[0-9\.\,]+)", json.loads(line)["answer"]).group(1).replace(",", "")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert len(published) == len(tasks) == 1319
    assert [task.reference.replace(",", "") for task in tasks] == published
    assert [answer_in(task.reference).value for task in tasks] == [Fraction(answer) for answer in published]
