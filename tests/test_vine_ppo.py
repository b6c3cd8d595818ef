"""VinePPO from end to end: continuations are drawn, graded, compared with, counted apart, and never learned from."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import laurel as command
from command_line import write_project

import laurel
from laurel.credit import continued, is_continuation
from laurel.environments import NumberGuessing
from laurel.errors import ConfigurationError
from laurel.runs import Run
from laurel.tasks import Task, TaskSet
from laurel.tree import Source, Tree

TASKS = TaskSet("letters", tuple(Task(letter, letter, letter) for letter in "abcd"))
VINE = laurel.vine_ppo(every=2, continuations=3, budget=6)


def train(directory: Path, **changes: Any) -> Run:
    settings: dict[str, Any] = {
        "policy": laurel.policy.tiny(alphabet="abcd", hidden_size=16, layers=1, heads=2, context_length=12),
        "tasks": TASKS,
        "algorithm": VINE,
        "reward": laurel.rewards.in_process(lambda task, text: text.count("a") / 9),
        "steps": 1,
        "prompts_per_step": 3,
        "samples_per_prompt": 4,
        "limits": laurel.Limits(max_new_tokens=9),
        "run": directory,
    }
    return laurel.train(**{**settings, **changes})


def split_up(tree: Tree) -> tuple[list[laurel.tree.Rollout], list[laurel.tree.Rollout]]:
    """Samples, and their continuations."""
    kinds: tuple[list[laurel.tree.Rollout], list[laurel.tree.Rollout]] = ([], [])
    for rollout in tree.rollouts:
        kinds[is_continuation(rollout.id)].append(rollout)
    return kinds


def test_every_step_is_compared_with_fresh_continuations_of_where_it_began(tmp_path: Path) -> None:
    with Run.open(train(tmp_path / "run").directory) as run:
        trees, credits = run.trees(1), run.credits(1)
        metrics = {name: run.metric(name)[0][1] for name in ("reward", "continuations", "continuation_reward")}
    fresh_rewards, rewards = [], []
    checked = 0
    for tree, credit in zip(trees, credits, strict=True):
        samples, continuations = split_up(tree)
        assert len(samples) == 4 and {continued(c.id) for c in continuations} <= {s.id for s in samples}
        fresh_rewards += [c.reward for c in continuations]
        rewards += [s.reward for s in samples]
        for sample in samples:
            path = [i for i in tree.path(sample.leaf) if tree.segments[i].source is Source.POLICY]
            assert [len(tree.segments[i]) for i in path[:-1]] == [2] * (len(path) - 1)  # every=2
            assert len(path) == 1 + min(2, (sum(len(tree.segments[i]) for i in path) - 1) // 2)  # budget=6 of 3 each
            for above, index in pairwise(path):
                begun = [c.reward for c in continuations if c.leaf in tree.children[above]]
                assert len(begun) == 3
                own = slice(int(tree.flat.starts[index]), int(tree.flat.ends[index]))
                value = sample.reward
                if index != path[-1]:
                    below = [c.reward for c in continuations if c.leaf in tree.children[index]]
                    value = float(np.mean([*below, sample.reward]))
                np.testing.assert_allclose(credit.advantages[own], value - np.mean(begun), atol=1e-12)
                assert credit.mask[own].all()
                checked += 1
        for continuation in continuations:
            own = slice(int(tree.flat.starts[continuation.leaf]), int(tree.flat.ends[continuation.leaf]))
            assert not credit.mask[own].any() and not credit.advantages[own].any()
    assert checked > 6
    assert metrics["continuation_reward"].mean == pytest.approx(np.mean(fresh_rewards))
    assert metrics["reward"].mean == pytest.approx(np.mean(rewards)) and metrics["reward"].count == 12
    assert metrics["continuations"].mean == len(fresh_rewards) / 12


def test_continuations_begin_where_the_policy_was_undecided(tmp_path: Path) -> None:
    policy = laurel.policy.tiny(alphabet="abcd", hidden_size=16, layers=1, heads=2, context_length=12)
    with torch.no_grad():
        policy.model.get_input_embeddings().weight.mul_(10)
    before = copy.deepcopy(policy.model).double()
    before.set_attn_implementation("eager")
    run = train(
        tmp_path / "run",
        policy=policy,
        algorithm=laurel.vine_ppo(entropy_above=1.2, continuations=2, budget=100),
        sampling=laurel.Sampling(temperature=0.8),
    )
    with Run.open(run.directory) as opened:
        trees = opened.trees(1)
    looked_at = passed = 0
    for tree in trees:
        for sample in split_up(tree)[0]:
            steps = [index for index in tree.path(sample.leaf) if tree.segments[index].source is Source.POLICY]
            tokens = np.concatenate([tree.segments[index].tokens for index in tree.path(sample.leaf)])
            with torch.no_grad():
                logits = before(torch.from_numpy(tokens)[None]).logits[0]
            log_p = torch.log_softmax(logits / 0.8, -1)
            entropies = (-(log_p.exp() * log_p).sum(-1)).numpy()  # after each token
            begun = np.cumsum([len(segment) for segment in sample.segments])[:-1]
            first = len(tree.segments[0])
            wanted = [at for at in range(first + 1, len(tokens)) if entropies[at - 1] > 1.2]
            assert begun[1:].tolist() == wanted and begun[0] == first and len(steps) == len(begun)
            looked_at += len(wanted)
            passed += len(tokens) - first - 1 - len(wanted)
    assert looked_at > 5 and passed > 5


def test_the_samples_are_those_of_a_method_without_continuations(tmp_path: Path) -> None:
    drawn = []
    for algorithm in (VINE, laurel.grpo()):
        with Run.open(train(tmp_path / algorithm.name, algorithm=algorithm).directory) as run:
            drawn.append([[rollout.text for rollout in split_up(tree)[0]] for tree in run.trees(1)])
    assert drawn[0] == drawn[1]


def test_a_dialogue_is_looked_at_where_the_environment_has_spoken(tmp_path: Path) -> None:
    game = NumberGuessing(low=1, high=3, turns=3, higher="+", lower="-")
    run = train(
        tmp_path / "run",
        policy=laurel.policy.tiny(alphabet="gues 123:+-", hidden_size=16, layers=1, heads=2, context_length=32),
        tasks=game.tasks(6),
        environment=game,
        reward=None,
        algorithm=laurel.vine_ppo(every=100, continuations=2, budget=4),
        samples_per_prompt=64,
        limits=laurel.Limits(max_new_tokens=2, max_turns=3, stop_strings=("+", "-", ":", " ", "g", "u")),
    )
    with Run.open(run.directory) as opened:
        trees = opened.trees(1)
    places, hits = 0, 0.0
    for tree in trees:
        hidden = game.hidden(Task(tree.task_id, game.prompt))
        for index, segment in enumerate(tree.segments):
            if segment.source is Source.ENVIRONMENT and not is_continuation(segment.rollout_id):
                fresh = [c for c in tree.children[index] if is_continuation(tree.segments[c].rollout_id)]
                places += len(fresh) == 2
        for rollout in split_up(tree)[1]:
            assert rollout.outcome is not None and not rollout.outcome.failed
            last = rollout.segments[-1]
            if rollout.outcome.stop_reason == "environment":  # by the rules of the very same game
                assert last.reward == float(rollout.text == str(hidden))
                hits += last.reward
    assert places > 3 and hits > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4])
def test_turns_are_learned_from_any_start(seed: int, tmp_path: Path) -> None:
    """Two guesses at one of three numbers: two of three games are won by who does not listen."""
    game = NumberGuessing(low=1, high=3, turns=2, higher="+", lower="-")
    shape = {"hidden_size": 32, "layers": 2, "heads": 2, "context_length": 32}
    run = train(
        tmp_path / "run",
        policy=laurel.policy.tiny(alphabet="gues 123:+-", seed=seed, **shape),
        tasks=game.tasks(512),
        held_out=game.tasks(200, first=512),
        environment=game,
        reward=None,
        algorithm=laurel.vine_ppo(every=100, continuations=4, budget=4, entropy=0.06, epochs=2),
        steps=130,
        prompts_per_step=16,
        samples_per_prompt=8,
        limits=laurel.Limits(max_new_tokens=2, max_turns=2),
        optimiser=laurel.OptimiserSettings(learning_rate=2e-3, betas=(0.9, 0.99), epsilon=1e-5),
        evaluation_samples=4,
        checkpoint_every=130,
        seed=seed,
    )
    first, last = (evaluation.metric.mean for evaluation in run.evaluations())
    assert first < 0.05 and last > 0.9


BAD: list[tuple[dict[str, Any], str]] = [
    ({"algorithm": laurel.vine_ppo(every=2)}, r"no budget bounds them(.|\n)*budget=36"),
    ({"samples_per_prompt": 1}, "'vine_ppo' compares the samples of a prompt"),
    ({"sampling": laurel.Sampling(top_k=1)}, "every continuation is the sample"),
    (
        {"algorithm": laurel.vine_ppo(entropy_above=1.1, budget=9), "sampling": laurel.Sampling(top_k=3)},
        "no distribution over 3 tokens has more than 1.1",
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_what_cannot_work_is_refused_before_anything_is_drawn(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        train(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_explain_says_what_is_drawn_beside_the_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)
    said = command("explain", "recipe.yaml", "algorithm={name: vine_ppo, every: 1, continuations: 3, budget: 7}")
    assert said.status == 0, said
    shown = " ".join(said.out.split())  # however it was wrapped
    # 4 prompts x 4 samples, 2 places of 3 continuations in each, of at most 3 tokens
    assert "at most 6 of each sample = 96 a step" in shown and "at most 288 tokens" in shown
    more = command("explain", "recipe.yaml", "algorithm={name: vine_ppo, continuations: 3, budget: 900}")
    shown = " ".join(more.out.split())
    assert "at most 6 of each sample" in shown  # three tokens have two places between them
    assert r"separator='\n'" in shown
    refused = command("explain", "recipe.yaml", "algorithm=vine_ppo")
    assert refused.status == 1 and "set budget" in refused.err
