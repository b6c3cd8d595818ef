"""Process scores from end to end: turns are cut into steps, every step is scored, its tokens get its credit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import laurel
from laurel import recipe
from laurel.algorithms import Sampled
from laurel.credit import ProcessScores
from laurel.errors import ConfigurationError
from laurel.rewards import StepScorer, in_process, step_scores, weighted
from laurel.runs import Run
from laurel.tasks import Task, TaskSet
from laurel.tree import Source

TASKS = TaskSet("letters", tuple(Task(letter, letter) for letter in "abcd"))


@in_process
def vowels(task: Task, steps: Sequence[str]) -> list[float]:
    return [float(step.count("a")) for step in steps]


def test_every_step_has_its_own_credit(tmp_path: Path) -> None:
    reward = weighted(
        {"length": (in_process(lambda task, text: len(text) / 9), 1.0), "steps": (step_scores(vowels), 0.0)}
    )
    run = laurel.train(
        policy=laurel.policy.tiny(alphabet="abcd", hidden_size=16, layers=1, heads=2, context_length=12),
        tasks=TASKS,
        algorithm=replace(
            laurel.rloo(), source=Sampled(step_separator="b"), credit=ProcessScores("steps", reading="rewards")
        ),
        reward=reward,
        steps=1,
        prompts_per_step=3,
        samples_per_prompt=4,
        limits=laurel.Limits(max_new_tokens=9),
        run=tmp_path / "run",
    )
    with Run.open(run.directory) as opened:
        trees, credits = opened.trees(1), opened.credits(1)
    several = 0
    for tree, credit in zip(trees, credits, strict=True):
        totals = [len(r.text) / 9 + r.text.count("a") for r in tree.rollouts]
        for number, rollout in enumerate(tree.rollouts):
            steps = [s for s in tree.path(rollout.leaf) if tree.segments[s].source is Source.POLICY]
            several += len(steps) > 1
            assert all(tree.segments[s].text.endswith("b") for s in steps[:-1])
            others = (sum(totals) - totals[number]) / (len(totals) - 1)
            for place, step in enumerate(steps):
                ahead = "".join(tree.segments[s].text for s in steps[place:])
                own = slice(int(tree.flat.starts[step]), int(tree.flat.ends[step]))
                expected = len(rollout.text) / 9 + ahead.count("a") - others
                np.testing.assert_allclose(credit.advantages[own], expected, atol=1e-6)
    assert several > 3


RECIPE = """
policy: {name: tiny, alphabet: abcd, hidden_size: 16, layers: 1, heads: 2, context_length: 12}
tasks: {name: jsonl, path: tasks.jsonl, prompt: letter, reference: letter}
reward:
  name: weighted
  parts:
    right: [exact_match, 1.0]
    steps: [{name: step_scores, scorer: "scorers_of_letters:share"}, 0.0]
algorithm: {name: step_ppo, separator: b, epochs: 2}
steps: 1
prompts_per_step: 3
samples_per_prompt: 4
limits: {max_new_tokens: 9}
run: run
"""
SCORER = """
from laurel.rewards import in_process

@in_process
def share(task, steps):
    return [step.count("a") / 9 for step in steps]
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipe in a folder of its own, with its tasks and its scorer."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "tasks.jsonl").write_text("".join(f'{{"letter": "{letter}"}}\n' for letter in "abcd"))
    (tmp_path / "scorers_of_letters.py").write_text(SCORER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "recipe.yaml"


@pytest.mark.parametrize("reading", ["values", "rewards"])
def test_a_recipe_names_the_scorer_and_how_it_is_read(written: Path, reading: str) -> None:
    run = laurel.train(**recipe.load(written, [f"algorithm.reading={reading}"]))
    with Run.open(run.directory) as opened:
        trees, credits = opened.trees(1), opened.credits(1)
    several = 0
    for tree, credit in zip(trees, credits, strict=True):
        scores = {r.id: r.outcome.score.parts for r in tree.rollouts}  # type: ignore[union-attr]
        totals = [r.reward + r.text.count("a") / 9 * (reading == "rewards") for r in tree.rollouts]
        for number, rollout in enumerate(tree.rollouts):
            said = [value for name, value in scores[rollout.id].items() if name.startswith("steps/")]
            steps = [s for s in tree.path(rollout.leaf) if tree.segments[s].source is Source.POLICY]
            assert said == [tree.segments[s].text.count("a") / 9 for s in steps]
            others = (sum(totals) - totals[number]) / (len(totals) - 1)
            cut_off = rollout.outcome.ending is laurel.tree.Ending.TRUNCATED  # type: ignore[union-attr]
            ends = [*said[:-1], rollout.reward + (said[-1] if cut_off else 0.0)]
            for place, step in enumerate(steps):
                expected = ends[place] - (said[place - 1] if place else others)
                if reading == "rewards":
                    expected = rollout.reward + sum(said[place:]) - others
                own = slice(int(tree.flat.starts[step]), int(tree.flat.ends[step]))
                np.testing.assert_allclose(credit.advantages[own], expected, atol=1e-6)
            several += len(steps) > 1
    assert several > 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("algorithm.part=process", r"from the part 'process', and the reward \(right, steps\)"),
        ("reward=exact_match", r"from the part 'steps', and the reward \(without parts\)(.|\n)*'part'"),
        ("reward.parts.steps=[{name: step_scores, scorer: share}, 0.0]", r"(.|\n)*package\.module:function"),
        ("reward.parts.steps=[{name: step_scores, scorer: 'scorers_of_letters:all'}, 0.0]", "cannot import"),
        ("algorithm.reading=both", r"reading: 'both' does not fit(.|\n)*values, rewards"),
    ],
)
def test_a_recipe_that_does_not_fit_its_scorer_is_refused(written: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        laurel.train(**recipe.load(written, [override]))
    assert not Path("run").exists()


CIRCLE = "abcd"


def wanted(task: Task) -> list[str]:
    """The two letters that follow in the circle, each with its full stop."""
    place = CIRCLE.index(task.id)
    return [CIRCLE[(place + step) % 4] + "." for step in (1, 2)]


@in_process
def all_right(task: Task, text: str) -> float:
    return float(text == "".join(wanted(task)))


@in_process
def right_so_far(task: Task, steps: Sequence[str]) -> list[float]:
    return [float(list(steps[:number]) == wanted(task)[:number]) for number in range(1, len(steps) + 1)]


@in_process
def paid_by_the_step(task: Task, steps: Sequence[str]) -> list[float]:
    return [0.3 * (number < 2 and step == wanted(task)[number]) for number, step in enumerate(steps)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "scorer", "learns"),
    [
        (laurel.step_ppo(separator=".", entropy=0.02, epochs=2), right_so_far, True),
        (laurel.step_ppo(separator=".", entropy=0.02, epochs=2, reading="rewards"), paid_by_the_step, True),
        (laurel.rloo(entropy=0.02), right_so_far, False),
    ],
    ids=["values", "rewards", "control"],
)
def test_steps_lead_where_whole_answers_are_next_to_never_right(
    algorithm: laurel.Algorithm, scorer: StepScorer, learns: bool, tmp_path: Path
) -> None:
    """Five tokens, each one of six at first: one answer in some thousands is right."""
    run = laurel.train(
        policy=laurel.policy.tiny(alphabet="abcd.", hidden_size=32, layers=1, heads=2, context_length=8),
        tasks=TaskSet("circle", tuple(Task(letter, letter) for letter in CIRCLE)),
        algorithm=algorithm,
        reward=weighted({"right": (all_right, 1.0), "steps": (step_scores(scorer), 0.0)}),
        steps=70,
        prompts_per_step=8,
        samples_per_prompt=16,
        limits=laurel.Limits(max_new_tokens=5),
        optimiser=laurel.OptimiserSettings(learning_rate=5e-3, betas=(0.9, 0.99)),
        run=tmp_path / "run",
    )
    rewards = [metric.mean for _, metric in run.metric("reward")]
    assert np.mean(rewards[:3]) < 0.02
    assert (np.mean(rewards[-5:]) > 0.3) == learns
