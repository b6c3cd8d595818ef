"""Judges as rewards: the very numbers of a rubric and of comparisons, what is recorded, what fails or is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import laurel
from laurel.configuration import describe
from laurel.errors import ConfigurationError, PolicyError
from laurel.policy import Comparison, JudgedReward, PairJudge, Policy, Rubric, RubricJudge, judges_in, tiny
from laurel.policy.verdicts import Verdicts
from laurel.preferences import BothOrders, in_both_orders
from laurel.recipe import component, rewards
from laurel.rewards import Grader, needs_siblings, reads_labels, weighted
from laurel.tasks import Task
from laurel.tree import UNDECIDED, Ending, Failed, Outcome, Score, Segment, Source, Tree

ALPHABET = "abcdyesno0123456789>|? \n"
TASK = Task("t", "ab", reference="cab")
PAIRS = Comparison(question="{prompt}>{first}|{second}?")


@pytest.fixture(scope="module")
def judge() -> Policy:
    return tiny(alphabet=ALPHABET, hidden_size=32, context_length=40, initial_scale=0.3, seed=4)


def answers(judge: Policy, *texts: str, task: Task = TASK) -> Tree:
    outcome = Outcome(Ending.TERMINATED, "end token")
    written = [Segment(Source.POLICY, judge.encode_answer(text), 0, text=text, outcome=outcome) for text in texts]
    named = [replace(segment, rollout_id=f"{task.id}.{number}") for number, segment in enumerate(written)]
    return Tree(task.id, task.id, (Segment(Source.PROMPT, judge.encode_prompt("ab"), -1, text="ab"), *named))


def scored(reward: Any, *trees: Tree, task: Task = TASK) -> list[Score | Failed]:
    results: list[Score | Failed] = reward.score_rollouts(
        [(task, rollout) for tree in trees for rollout in tree.rollouts]
    )
    return results


def values(results: list[Score | Failed]) -> list[float]:
    assert all(isinstance(result, Score) for result in results), results
    return [result.value for result in results if isinstance(result, Score)]


def test_yes_or_no_is_a_probability_and_a_scale_is_its_mean(judge: Policy) -> None:
    texts = ("a", "bb", "cd")
    questions = [f"ab>{text}|cab?" for text in texts]
    rubric = Rubric(question="{prompt}>{answer}|{reference}?")
    said = Verdicts(judge, ("yes", "no"), conversation=False).ask(questions)
    found = values(scored(JudgedReward(judge, rubric=rubric), answers(judge, *texts)))
    np.testing.assert_allclose(found, [math.exp(row[0]) for row in said if not isinstance(row, Failed)], rtol=1e-6)
    scale = Rubric(question="{prompt}>{answer}|{reference}?", scale=(8, 11))
    said = Verdicts(judge, ("8", "9", "10", "11"), conversation=False).ask(questions)
    expected = [np.exp(row) @ [8, 9, 10, 11] for row in said if not isinstance(row, Failed)]
    found = values(scored(JudgedReward(judge, rubric=scale), answers(judge, *texts)))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert len({round(value, 4) for value in found}) == 3 and all(8 < value < 11 for value in found)


def test_siblings_are_compared_in_both_orders_and_a_group_has_the_mean_one_half(judge: Policy) -> None:
    texts = ("a", "bb", "cd", "a")
    results = scored(JudgedReward(judge, comparison=PAIRS), answers(judge, *texts))
    pairs = {}
    for one in set(texts):
        for other in set(texts) - {one}:
            (pairs[one, other],) = in_both_orders(PairJudge(judge, PAIRS), [(TASK, one, other)])
    for place, result in enumerate(results):
        others = texts[:place] + texts[place + 1 :]
        against = [pairs[texts[place], other] for other in others if other != texts[place]]
        chances = [said.probability() for said in against if isinstance(said, BothOrders)]
        assert isinstance(result, Score)
        assert result.value == pytest.approx(np.mean([*chances, *[0.5] * (3 - len(chances))]), abs=1e-6)
        assert result.parts["said_first"] == pytest.approx(np.mean([said.said_first for said in against]), abs=1e-6)  # type: ignore[union-attr]
        assert result.parts["flips"] == np.mean([said.flips for said in against])  # type: ignore[union-attr]
    assert np.mean(values(results)) == pytest.approx(0.5)
    assert results[0] == results[3]


def test_ties_by_setting_the_reference_and_answers_that_stand_alone(judge: Policy) -> None:
    tree, alone, same = answers(judge, "a", "bb", "cd", "cab"), answers(judge, "a"), answers(judge, "bb", "bb")
    for ties in (False, True):
        results = scored(JudgedReward(judge, comparison=PAIRS, against="reference", ties=ties), tree)
        said = in_both_orders(PairJudge(judge, PAIRS), [(TASK, text, "cab") for text in ("a", "bb", "cd")])
        expected = [each.probability(ties=ties) for each in said if isinstance(each, BothOrders)]
        np.testing.assert_allclose(values(results), [*expected, 0.5], atol=1e-6)
    turned = [each.flips for each in said if isinstance(each, BothOrders)]
    assert [value == 0.5 for value in values(results)[:3]] == turned and any(turned)
    assert scored(JudgedReward(judge, comparison=PAIRS), alone, same) == [UNDECIDED, Score(0.5), Score(0.5)]


def test_what_cannot_be_judged_fails_and_is_no_zero(judge: Policy) -> None:
    unknown = Task("t", "ab")
    tree = answers(judge, "a", "b" * 30, "c")
    by_rubric = JudgedReward(judge, rubric=Rubric(question="{prompt}>{answer}|{reference}?"))
    assert all(isinstance(result, Failed) for result in scored(by_rubric, tree, task=unknown))
    alone = scored(by_rubric, tree)
    assert [isinstance(result, Failed) for result in alone] == [False, True, False]
    against = scored(JudgedReward(judge, comparison=PAIRS, against="reference"), tree, task=unknown)
    assert [result.reason for result in against if isinstance(result, Failed)] == [
        "there is no reference answer to hold it against"
    ] * 3
    siblings = scored(JudgedReward(judge, comparison=Comparison(question="{prompt}>{first}|{second}?????")), tree)
    assert [isinstance(result, Failed) for result in siblings] == [False, True, False]
    assert sum(values([siblings[0], siblings[2]])) == pytest.approx(1)


def test_a_grader_asks_it_about_a_step_and_records_its_bias(judge: Policy) -> None:
    trees = [answers(judge, "a", "bb", "cd"), answers(judge, "d", "c", task=replace(TASK, id="u"))]
    tasks = {"t": TASK, "u": replace(TASK, id="u")}
    mixed = weighted({"judge": (JudgedReward(judge, comparison=PAIRS), 2.0), "rubric": (JudgedReward(judge), 0.0)})
    assert needs_siblings(mixed) and judges_in(mixed) == [judge, judge]
    with Grader(JudgedReward(judge, comparison=PAIRS)) as grader:
        graded, metrics = grader.grade(trees, tasks)
    assert metrics["reward/said_first"].count == 5 and 0 <= metrics["reward/flips"].mean <= 1
    assert sum(rollout.reward for rollout in graded[1].rollouts) == pytest.approx(1)


def test_dialogues_are_judged_with_their_speakers() -> None:
    reader = tiny(alphabet="abcdefghijklmnopqrstuvwxyz:? >\n", hidden_size=32, context_length=64, initial_scale=0.3)
    tokens = reader.encode_answer("a")
    outcome = Outcome(Ending.TERMINATED, "done")
    tree = Tree(
        "t",
        "t",
        (
            Segment(Source.PROMPT, tokens, -1, text="ab"),
            Segment(Source.POLICY, tokens, 0, text="hello"),
            Segment(Source.ENVIRONMENT, tokens, 1, text="who"),
            Segment(Source.POLICY, tokens, 2, text="me", outcome=outcome),
        ),
    )
    rubric = Rubric(question="{answer}?")
    said = Verdicts(reader, ("yes", "no"), conversation=False).ask(["policy: hello\nenvironment: who\npolicy: me?"])[0]
    assert values(scored(JudgedReward(reader, rubric=rubric), tree)) == [pytest.approx(math.exp(said[0]))]  # type: ignore[index]


def test_a_recipe_names_it_and_a_record_makes_the_same_again(judge: Policy, tmp_path: Path) -> None:
    judge.export(tmp_path / "judge")
    (tmp_path / "c.txt").write_text("be a\n")
    for settings in (
        {"rubric": {"scale": [1, 10], "question": "{answer}?"}},
        {
            "comparison": {"question": "{first}|{second}|{principle}?", "principles": str(tmp_path / "c.txt")},
            "ties": True,
        },
    ):
        made = component("reward", rewards(), {"name": "judge", "model": str(tmp_path / "judge"), **settings})
        assert isinstance(made, JudgedReward)
        record = describe(made)
        kept = {key: value for key, value in record.items() if key != "type"}
        again = component("reward", rewards(), {"name": "judge", **kept})
        tree = answers(judge, "a", "bb")
        assert values(scored(again, tree)) == values(scored(made, tree)) and describe(again) == record
    tiny(alphabet=ALPHABET, hidden_size=32, context_length=40, seed=5).export(tmp_path / "judge")
    with pytest.raises(PolicyError, match="another one than it was"):
        scored(component("reward", rewards(), {"name": "judge", **kept}), tree)


def test_settings_that_nobody_reads_are_refused(judge: Policy) -> None:
    assert reads_labels(JudgedReward(judge)) and not reads_labels(JudgedReward(judge, comparison=PAIRS))
    for settings in ({"against": "reference"}, {"ties": True}):
        with pytest.raises(ConfigurationError, match="would not be read"):
            JudgedReward(judge, **settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="a rubric or by a comparison"):
        JudgedReward(judge, rubric=Rubric(), comparison=PAIRS)
    with pytest.raises(ConfigurationError, match="is nobody"):
        JudgedReward(judge, comparison=PAIRS, against="gold")  # type: ignore[arg-type]
    for rubric in ({"scale": (3, 3)}, {"scale": (0, 100)}):
        with pytest.raises(ConfigurationError, match="is none, or too long"):
            Rubric(**rubric)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="the numerals are the verdicts"):
        Rubric(scale=(1, 5), verdicts=("y", "n"))
    with pytest.raises(ConfigurationError, match="the fields prompt, answer, lowest"):
        Rubric(question="{prompt}{answer}{lowest}")
    assert RubricJudge(judge).rubric == Rubric() and laurel.policy.Rubric is Rubric
