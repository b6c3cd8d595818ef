"""Preferences: answers that somebody compared, ranked, rated or gave a thumb, from files or from teachers."""

from collections.abc import Callable

from laurel.preferences.both_orders import BothOrders, PairFunction, PairJudging, in_both_orders
from laurel.preferences.calibration import Calibration, calibration
from laurel.preferences.constitution import principles_of
from laurel.preferences.judge_teacher import JudgeTeacher
from laurel.preferences.judged_steps import JudgedSteps, judged_steps
from laurel.preferences.known_reward import RewardTeacher
from laurel.preferences.labelling import Labelled, label
from laurel.preferences.labels import Labels
from laurel.preferences.left_out import BadRow, Fault, LeftOut
from laurel.preferences.preference import Kind, Preference
from laurel.preferences.sources import PreferenceSet, pairs, rankings, ratings, step_labels, thumbs
from laurel.preferences.teachers import Query, ScriptedTeacher, Teacher, taught
from laurel.preferences.terminal import TerminalTeacher

SOURCES: dict[str, Callable[..., PreferenceSet]] = {
    "pairs": pairs,
    "rankings": rankings,
    "ratings": ratings,
    "step_labels": step_labels,
    "thumbs": thumbs,
}
"""The sources that a recipe names."""

__all__ = [
    "SOURCES",
    "BadRow",
    "BothOrders",
    "Calibration",
    "Fault",
    "JudgeTeacher",
    "JudgedSteps",
    "Kind",
    "Labelled",
    "Labels",
    "LeftOut",
    "PairFunction",
    "PairJudging",
    "Preference",
    "PreferenceSet",
    "Query",
    "RewardTeacher",
    "ScriptedTeacher",
    "Teacher",
    "TerminalTeacher",
    "calibration",
    "in_both_orders",
    "judged_steps",
    "label",
    "pairs",
    "principles_of",
    "rankings",
    "ratings",
    "step_labels",
    "taught",
    "thumbs",
]
