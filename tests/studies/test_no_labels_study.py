"""The study of rewards without labels: its summary by hand, and a short run of one arm."""

from __future__ import annotations

import json

import pytest

from laurel.rewards import reads_labels
from studies.no_labels import REWARDS, USUALLY_RIGHT, panels_of, reward_of, run, summary
from studies.publishing import RESULTS


def test_the_summary_by_hand() -> None:
    runs = [
        {"accuracy": [0.5, 0.75], "agreement": [0.6, 1.0], "alarm": None},
        {"accuracy": [0.5, 0.25], "agreement": [0.6, 0.9], "alarm": 8},
        {"accuracy": [0.2, 0.2], "agreement": [0.6, 0.8], "alarm": 4},
    ]
    said = summary(runs)
    assert said["accuracy_before"][0] == pytest.approx(0.4) and said["accuracy_after"][0] == pytest.approx(0.4)
    assert said["agreement_after"][0] == pytest.approx(0.9)
    assert (said["alarms"], said["alarm_step"]) == (2, 6)
    accuracy, agreement = panels_of("mostly right", {"vote": said})
    assert list(accuracy.lines[0].x) == [0, 5] and list(agreement.lines[0].x) == [1, 2]


def test_only_labels_read_labels() -> None:
    assert [name for name in REWARDS if reads_labels(reward_of(name, 0))] == ["labels"]


def test_a_run_of_one_arm() -> None:
    found = run("mostly wrong", "vote", 0, steps=1)
    assert len(found["accuracy"]) == 2 and len(found["agreement"]) == 1 and found["alarm"] is None
    assert 0.2 < found["accuracy"][0] < 0.5


def test_the_published_figures_show_what_is_said_of_them() -> None:
    numbers = json.loads((RESULTS / "no_labels.json").read_text())
    after = {(start, name): numbers[start][name]["accuracy_after"] for start in USUALLY_RIGHT for name in REWARDS}
    before = {start: numbers[start]["vote"]["accuracy_before"] for start in USUALLY_RIGHT}
    for name in ("vote", "semantic entropy"):
        assert after["mostly right", name][1] > before["mostly right"][2]
        assert after["mostly wrong", name][2] < before["mostly wrong"][1]
        assert numbers["mostly wrong"][name]["alarms"] == numbers["seeds"]
        assert numbers["mostly right"][name]["alarms"] == 0
    assert after["mostly right", "coin"][0] < before["mostly right"][0]
    assert after["mostly wrong", "labels"][1] > before["mostly wrong"][2]
    assert after["mostly right", "labels"][0] > after["mostly right", "vote"][0]
