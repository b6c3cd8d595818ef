"""Two learners on one small task, for `replayed_values`: `laurel.ppo`, and soft Q-learning from a replay buffer.

The task, in four turns of two tokens out of three: a walker stands at place p of a line and is told p before each turn.
If the two tokens sum to p modulo 3 it takes a step forward, otherwise a step back (never below place 0). All that is
paid is 1 at the end, at place 3 or beyond. A state is (turn, place, first token of the turn, if it was said): 6561
rollouts merge in 40 states. Everything is exact but the samples: the return of a policy is computed, not estimated.

N seeds learn side by side, each with a network, an optimiser state and random numbers of its own; the first axis of
all tensors is the seed. float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import torch

import laurel
from laurel.learner.values import value_loss
from laurel.objectives import ClippedRatio, clipped
from laurel.theory import Reply, World, group_tree
from laurel.theory.world import History
from laurel.tree import Ending

TURNS, TOKENS, GOAL, FIRST_PLACE_TOKEN = 4, 3, 3, 3
HORIZON = 2 * TURNS
ROLLOUTS = 32
HIDDEN = 32
MAXIMUM_GRADIENT_NORM = 1.0
TEMPERATURE = 0.1
DECAY = 0.95
UPDATES = 4
FOLLOWED = 0.05


def walked(place: int, first: int, second: int) -> int:
    """The place after a turn."""
    return place + 1 if (first + second) % TOKENS == place % TOKENS else max(place - 1, 0)


def seen(history: History) -> tuple[int, int, int | None]:
    """(turn, place, first token or None): a turn is two tokens and the place that the world names after them."""
    turn, within = divmod(len(history), 3)
    place = history[3 * turn - 1] - FIRST_PLACE_TOKEN if turn else 0
    return turn, place, history[-1] if within else None


def line_world() -> World:
    def respond(history: History) -> Reply:
        if len(history) % 3 == 1:
            return Reply()
        after = walked(seen(history[:-1])[1], history[-2], history[-1])
        if len(history) == 3 * TURNS - 1:
            return Reply(ending=Ending.TERMINATED, score=float(after >= GOAL))
        return Reply(observation=(FIRST_PLACE_TOKEN + after,))

    return World(TOKENS, respond, state=seen)


@dataclass(frozen=True)
class Chart:
    """The task as tables over its S states.

    Attributes:
        world: what the tables were read from.
        following: [S, V] the next state; S where the rollout ends.
        rewards: [S, V].
        features: [S, F] what the networks see: one-hot turn, place and first token, side by side.
    """

    world: World
    following: torch.Tensor
    rewards: torch.Tensor
    features: torch.Tensor

    def returned(self, chances: torch.Tensor) -> torch.Tensor:
        """Expected return of policies [N, S, V] from the start, [N]."""
        values = torch.zeros(len(chances), len(self.following) + 1, dtype=torch.float64)
        for _ in range(HORIZON):
            values[:, :-1] = (chances * (self.rewards + values[:, self.following])).sum(-1)
        return values[:, 0]


@cache
def chart() -> Chart:
    world = line_world()
    following = torch.full((len(world.states), TOKENS), len(world.states))
    rewards = torch.zeros(len(world.states), TOKENS, dtype=torch.float64)
    features = torch.zeros(len(world.states), TURNS + (TURNS + 1) + (TOKENS + 1), dtype=torch.float64)
    for path in world.paths:
        for step, (state, token) in enumerate(zip(path.states, path.tokens, strict=True)):
            if step + 1 < len(path.states):
                following[state, token] = path.states[step + 1]
            rewards[state, token] = path.rewards[step]
            turn, place, first = seen(path.histories[step])
            said = TOKENS if first is None else first
            features[state, [turn, TURNS + place, 2 * TURNS + 1 + said]] = 1
    return Chart(world, following, rewards, features)


class Networks:
    """One hidden layer of tanh units for each seed; the output layer starts at 0, so all policies start uniform."""

    def __init__(self, seeds: list[int], outputs: int) -> None:
        inputs = chart().features.shape[1]
        first = [torch.randn(inputs, HIDDEN, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        shapes = ((len(seeds), 1, HIDDEN), (len(seeds), HIDDEN, outputs), (len(seeds), 1, outputs))
        self.weights = [torch.stack(first).double() / 3**0.5, *(torch.zeros(s, dtype=torch.float64) for s in shapes)]
        for weight in self.weights:
            weight.requires_grad_()

    def __call__(self) -> torch.Tensor:
        """What the networks say in all states, [N, S, outputs]."""
        first, bias, second, shift = self.weights
        return torch.tanh(chart().features @ first + bias) @ second + shift

    def follow(self, other: Networks, share: float) -> None:
        """Move this share of the way to the other networks."""
        with torch.no_grad():
            for mine, its in zip(self.weights, other.weights, strict=True):
                mine += share * (its - mine)


class Descent:
    """Adam, after each seed's own gradient was shortened to `MAXIMUM_GRADIENT_NORM`."""

    def __init__(self, networks: Networks, rate: float) -> None:
        self._weights = networks.weights
        self._adam = torch.optim.Adam(networks.weights, lr=rate)

    def step(self, loss: torch.Tensor) -> None:
        """Args: loss: [N], one per seed."""
        gradients = torch.autograd.grad(loss.sum(), self._weights)
        squares = torch.stack([gradient.square().sum((1, 2)) for gradient in gradients]).sum(0)
        factor = (MAXIMUM_GRADIENT_NORM / squares.sqrt().clamp(min=1e-12)).clamp(max=1)[:, None, None]
        for weight, gradient in zip(self._weights, gradients, strict=True):
            weight.grad = factor * gradient
        self._adam.step()


@dataclass(frozen=True)
class Drawn:
    """Rollouts of one round: states and tokens, [N, R, T]."""

    states: torch.Tensor
    tokens: torch.Tensor


def drawn(chances: torch.Tensor, seeds: list[int], number: int) -> Drawn:
    """R rollouts of each policy in `chances` [N, S, V], from the random numbers of (seed, number of the round)."""
    uniform = np.stack([np.random.default_rng([seed, number]).random((ROLLOUTS, HORIZON)) for seed in seeds])
    numbers, below = torch.from_numpy(uniform), chances.cumsum(-1)
    which = torch.arange(len(seeds))[:, None]
    state = torch.zeros(len(seeds), ROLLOUTS, dtype=torch.long)
    states, tokens = [], []
    for step in range(HORIZON):
        token = (numbers[:, :, step, None] > below[which, state]).sum(-1).clamp(max=TOKENS - 1)
        states.append(state)
        tokens.append(token)
        state = chart().following[state, token]
    return Drawn(torch.stack(states, -1), torch.stack(tokens, -1))


class Learner(Protocol):
    """What learns in rounds: a policy to draw from, and what it makes of what was drawn."""

    def chances(self) -> torch.Tensor: ...

    def learn(self, round_: Drawn, number: int) -> None: ...


class ProximalPolicy:
    """`laurel.ppo` with its advantages, clipped ratio, critic loss and epochs; the critic has a network of its own.

    Args:
        rate: learning rate of policy and critic.
        updates: optimiser steps of each per round, all on the whole round.
    """

    def __init__(self, seeds: list[int], rate: float, *, updates: int = UPDATES) -> None:
        self.algorithm = laurel.ppo(decay=DECAY, epochs=updates)
        self.policy, self.critic = Networks(seeds, TOKENS), Networks(seeds, 1)
        self._policy_descent, self._critic_descent = Descent(self.policy, rate), Descent(self.critic, rate)

    @torch.no_grad()
    def chances(self) -> torch.Tensor:
        return torch.softmax(self.policy(), -1)

    def learn(self, round_: Drawn, number: int) -> None:
        objective = self.algorithm.objective
        assert isinstance(objective, ClippedRatio)
        which = torch.arange(len(round_.states))[:, None, None]

        def log_probs() -> torch.Tensor:
            return torch.log_softmax(self.policy(), -1)[which, round_.states, round_.tokens]

        with torch.no_grad():
            old, before = log_probs(), self.critic()[which, round_.states, 0]
        advantages, targets = self.credit(round_, before)
        for _ in range(self.algorithm.step.epochs):
            loss = clipped(log_probs(), old, advantages, low=objective.low, high=objective.high)
            self._policy_descent.step(loss.mean((1, 2)))
            values = self.critic()[which, round_.states, 0]
            self._critic_descent.step(value_loss(values, targets, before).mean((1, 2)))

    def credit(self, round_: Drawn, before: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Advantages and the critic's targets [N, R, T] from its values `before` each token [N, R, T]."""
        world = chart().world
        digits = torch.tensor([TOKENS ** (HORIZON - 1 - step) for step in range(HORIZON)])
        trees = []
        for rollouts in (round_.tokens @ digits).tolist():  # paths are in lexicographic order
            trees.append(group_tree(world, tuple(world.paths[index] for index in rollouts)))
        after = []
        for tree, known in zip(trees, before, strict=True):
            values = np.zeros(len(tree.flat))
            values[tree.flat.parent[tree.flat.policy]] = known.flatten().numpy()
            after.append(values)
        credits = self.algorithm.credit(trees, after)  # type: ignore[call-arg]
        advantages = np.stack([credit.advantages[credit.mask] for credit in credits])
        targets = np.stack([credit.value_targets[credit.mask] for credit in credits])  # type: ignore[index]
        return (torch.from_numpy(part).view(before.shape) for part in (advantages, targets))  # type: ignore[return-value]


def soft_backup(rewards: torch.Tensor, logits: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    """Soft Bellman targets in units of the temperature: r / beta + log mean_b exp(logits[next, b]), 0 after the end.

    With Q = beta * logits this is Q(s, a) = r + V(s'), V(s) = beta log sum_b ref(b) exp(Q(s, b) / beta), for a uniform
    reference: arXiv 2404.12358, section 4.2.

    Args:
        rewards, following: [N, M] what was paid, and the state that came next (S: none).
        logits: [N, S, V].
    """
    values = torch.logsumexp(logits, -1) - np.log(logits.shape[-1])
    values = torch.cat([values, torch.zeros(len(values), 1, dtype=values.dtype)], dim=1)
    return rewards / TEMPERATURE + values.gather(1, following)


class ReplayedValues:
    """Soft Q-learning, lambda 0, from all that was ever drawn: logits are Q / beta, and the policy is their softmax.

    Args:
        rate: learning rate.
        updates: optimiser steps per round, each on as many tokens as a round has.
        target: whether the next state is judged by a copy that follows slowly, or by the network itself.
    """

    def __init__(self, seeds: list[int], rate: float, *, updates: int = UPDATES, target: bool = True) -> None:
        self._seeds, self._updates = seeds, updates
        self.values = Networks(seeds, TOKENS)
        self.judge = Networks(seeds, TOKENS) if target else self.values
        self._descent = Descent(self.values, rate)
        self._replay: list[Drawn] = []

    @torch.no_grad()
    def chances(self) -> torch.Tensor:
        return torch.softmax(self.values(), -1)

    def learn(self, round_: Drawn, number: int) -> None:
        self._replay.append(Drawn(round_.states.flatten(1), round_.tokens.flatten(1)))
        states = torch.cat([past.states for past in self._replay], 1)
        tokens = torch.cat([past.tokens for past in self._replay], 1)
        shape = (self._updates, ROLLOUTS * HORIZON)
        draws = [np.random.default_rng([seed, number, 1]).integers(0, states.shape[1], shape) for seed in self._seeds]
        which = torch.arange(len(self._seeds))[:, None]
        for place in torch.from_numpy(np.stack(draws, 1)):
            state, token = states.gather(1, place), tokens.gather(1, place)
            with torch.no_grad():
                table = chart()
                wanted = soft_backup(table.rewards[state, token], self.judge(), table.following[state, token])
            wrong = self.values()[which, state, token] - wanted
            self._descent.step(wrong.square().mean(1) / 2)
            if self.judge is not self.values:
                self.judge.follow(self.values, FOLLOWED)


def course(learner: Learner, seeds: list[int], rounds: int) -> torch.Tensor:
    """The exact expected return before the first round and after each, [N, rounds + 1]."""
    returns = [chart().returned(learner.chances())]
    for number in range(rounds):
        learner.learn(drawn(learner.chances(), seeds, number), number)
        returns.append(chart().returned(learner.chances()))
    return torch.stack(returns, 1)
