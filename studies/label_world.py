"""Preference learning where all but the labels is exact: rewards linear in known features, the policy solved for.

216 answers of three letters; the true reward adds a value for every letter at every place, drawn at random. Members of
the ensemble are samples of what is to be believed after the labels: each is the most likely reward around a guess of
its own. The policy is the best one, by the ensemble's mean, within a KL of the uniform policy. Pairs to be asked about
are drawn from the policy as it is.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from laurel.preferences.queries import SELECTIONS, most_valuable, preference_probabilities
from laurel.tree import FloatArray, IntArray

LETTERS, LENGTH = 6, 3
MEMBERS, PER_ROUND, ROUNDS = 10, 4, 40
SAMPLES = 16
"""Answers drawn in a round; the pairs among them can be asked about."""
CANDIDATES = 10
"""Pairs per label that a rule chooses among."""
KL_LIMIT = 3.0
"""Nats from the uniform policy, whose entropy is 5.4 nats."""
NEWTON_STEPS = 6


@dataclass(frozen=True)
class Answers:
    """How a teacher answers.

    Attributes:
        rationality: None: always the better one; else the better one with probability sigmoid(rationality * gap).
        mistake: how often the answer is turned around.
    """

    rationality: float | None = None
    mistake: float = 0.0

    def __call__(self, gap: float, draw: np.random.Generator) -> float:
        chance, slip = draw.random(2)
        likely = float(gap > 0) if self.rationality is None else 1 / (1 + np.exp(-self.rationality * gap))
        first = float(chance < likely)
        return 1 - first if slip < self.mistake else first


def features() -> FloatArray:
    """[216, 18]: which letter stands at which place."""
    words = np.array(list(itertools.product(range(LETTERS), repeat=LENGTH)))
    return np.asarray(np.eye(LETTERS)[words].reshape(len(words), -1))


def best_within(rewards: FloatArray, limit: float) -> FloatArray:
    """The policy of greatest expected reward within a KL of the uniform one: exp(b r) / Z with the b that meets it."""
    count = len(rewards)
    low, high = 0.0, 1e6 / max(float(np.ptp(rewards)), 1e-12)
    policy = np.full(count, 1 / count)
    for _ in range(100):
        middle = np.sqrt(low * high) if low > 0 else high / 1024
        weights = np.exp(middle * (rewards - rewards.max()))
        tried = weights / weights.sum()
        kept = tried > 0
        if float(tried[kept] @ np.log(tried[kept] * count)) <= limit:
            low, policy = middle, tried
        else:
            high = middle
        if low > 0 and high / low < 1 + 1e-9:
            break
    return np.asarray(policy)


def refitted(weights: FloatArray, guesses: FloatArray, gaps: FloatArray, said: FloatArray) -> FloatArray:
    """Members, [M, D], that minimise -log likelihood of Bradley-Terry labels + |weights - guess|^2 / 2; Newton steps.

    Args:
        weights, guesses: [M, D] where to start, and around which guess each stays.
        gaps: [N, D] features of the first less those of the second.
        said: [N] 1 the first, 0 the second.
    """
    for _ in range(NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(weights @ gaps.T, -30, 30)))
        gradient = (chance - said) @ gaps + weights - guesses
        curvature = np.einsum("mn,nd,ne->mde", chance * (1 - chance), gaps, gaps) + np.eye(weights.shape[1])
        weights = weights - np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
    return weights


def drawn_pairs(policy: FloatArray, asked: set[frozenset[int]], draw: np.random.Generator) -> IntArray:
    """[Q, 2] pairs that nobody was asked about among `SAMPLES` answers, the sides by lot; at least `PER_ROUND` of them.

    Where the policy's answers are too much alike for that, answers drawn evenly join them.
    """
    seen = draw.choice(len(policy), size=SAMPLES, p=policy)
    while True:
        different = draw.permutation(np.unique(seen)).tolist()
        pairs = [pair for pair in itertools.combinations(different, 2) if frozenset(pair) not in asked]
        if len(pairs) >= PER_ROUND:
            return np.array(pairs, np.int64)
        seen = np.append(seen, draw.integers(len(policy), size=2))


def returns_by_round(selection: str, teacher: Answers, seed: int) -> list[float]:
    """The share of the best policy's gain, within the same KL, that is reached after each round of labels.

    0 is the uniform policy, 1 the best under the true reward.
    """
    world, draw = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    known = features()
    truth = known @ world.normal(size=known.shape[1])
    guesses = world.normal(size=(MEMBERS, known.shape[1]))
    best, start = float(best_within(truth, KL_LIMIT) @ truth), float(truth.mean())
    members, policy = guesses, np.full(len(truth), 1 / len(truth))
    gaps, said = np.empty((0, known.shape[1])), np.empty(0)
    asked: set[frozenset[int]] = set()
    course = []
    for _ in range(ROUNDS):
        pairs = drawn_pairs(policy, asked, draw)
        rewards = members @ known.T
        chance = preference_probabilities(rewards[:, pairs[:, 0]], rewards[:, pairs[:, 1]])
        candidates = draw.permutation(len(pairs))[: CANDIDATES * PER_ROUND]
        places = candidates[most_valuable(SELECTIONS[selection](chance[:, candidates]), PER_ROUND, draw)]
        for one, other in pairs[places].tolist():
            asked.add(frozenset((one, other)))
            gaps = np.vstack([gaps, known[one] - known[other]])
            said = np.append(said, teacher(float(truth[one] - truth[other]), draw))
        members = refitted(members, guesses, gaps, said)
        policy = best_within((members @ known.T).mean(axis=0), KL_LIMIT)
        course.append((float(policy @ truth) - start) / (best - start))
    return course
