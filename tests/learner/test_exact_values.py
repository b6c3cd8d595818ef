"""A critic fitted to a game of two turns against its exact values: read, placed and carried over what is heard."""

from __future__ import annotations

import numpy as np
import pytest

from laurel.algorithms import Algorithm, ppo, turn_ppo
from laurel.learner import CriticSettings, Learner, OptimiserSettings
from laurel.policy import Policy, critic_for, tiny
from laurel.tree import Ending, Outcome, Score, Segment, Source, Tree

NUMBERS = "123"
GUESSED = "1123"
"""What is guessed in either turn, each entry equally often: 1 half of the time."""

# V before the first guess, and before the second by what was guessed and heard, by hand. A first guess hits one of
# three equally likely numbers, 1/3; after "1+" the number is 2 or 3, each then guessed once in four: 1/4; after "2-" it
# is 1: 1/2; after "2+" it is 3: 1/4; after "3-" it is 1 or 2: (1/2 + 1/4) / 2 = 3/8. Before all of it 1/3 + 1/3 of
# [1/2 (1/4 + 1/4) + 1/4 (1/2 + 1/4) + 1/4 (1/2 + 1/4)] = 1/3 + 5/24 = 13/24.
EXACT = {"": 13 / 24, "1+": 1 / 4, "2-": 1 / 2, "2+": 1 / 4, "3-": 3 / 8}


def reader() -> Policy:
    return tiny(alphabet="g123+-", hidden_size=16, layers=2, heads=2, context_length=16)


def every_game(policy: Policy) -> list[Tree]:
    """All games of that guesser, each as often as it is played: 3 hidden numbers, 4 first guesses, 4 second."""

    def said(source: Source, text: str, parent: int, outcome: Outcome | None = None) -> Segment:
        tokens = policy.encode_prompt(text)
        if source is not Source.POLICY:
            return Segment(source, tokens, parent, text=text)
        chances = np.full(len(tokens), -1.0, np.float32)
        return Segment(source, tokens, parent, text=text, sampler_log_probs=chances, policy_version=0, outcome=outcome)

    trees = []
    for hidden in NUMBERS:
        segments = [said(Source.PROMPT, "g", -1)]
        for first in GUESSED:
            if first == hidden:
                segments += [said(Source.POLICY, first, 0, ended(1.0))] * len(GUESSED)
                continue
            heard = "+" if hidden > first else "-"
            for second in GUESSED:
                here = len(segments)
                segments += [said(Source.POLICY, first, 0), said(Source.ENVIRONMENT, heard, here)]
                segments.append(said(Source.POLICY, second, here + 1, ended(float(second == hidden))))
        trees.append(Tree(f"hidden {hidden}", "game", tuple(segments)))
    return trees


def ended(score: float) -> Outcome:
    return Outcome(Ending.TERMINATED, "environment", Score(score))


@pytest.mark.parametrize("algorithm", [ppo(), turn_ppo(), turn_ppo(decay=0.0)], ids=["ppo", "turn_ppo", "one turn on"])
def test_a_fitted_critic_says_the_exact_values(algorithm: Algorithm) -> None:
    policy = reader()
    fitted = CriticSettings(optimiser=OptimiserSettings(learning_rate=1e-2), prefit_updates=45)
    made = Learner(policy, algorithm, OptimiserSettings(), critic=critic_for(policy), critic_settings=fitted)
    trees = every_game(policy)
    for step in range(1, 46):
        made.update(trees, made.credit(trees), step)
    found: dict[str, set[float]] = {history: set() for history in EXACT}
    for tree, credit in zip(trees, made.credit(trees), strict=True):
        assert credit.values is not None
        for index, segment in enumerate(tree.segments):
            if segment.source is Source.POLICY:
                history = "".join(tree.segments[above].text for above in tree.path(index)[1:-1])
                found[history].add(round(float(credit.values[tree.flat.starts[index]]), 3))
    for history, exact in EXACT.items():
        assert len(found[history]) == 1, f"{history!r}: one state, one value"
        assert found[history].pop() == pytest.approx(exact, abs=0.03), history
