"""What a recovered reward says of answers: as wholes, and token by token where its form has that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Group
from rich.text import Text

from laurel.errors import ConfigurationError
from laurel.page import Page
from laurel.policy import (
    Policy,
    RewardModel,
    ShapedRewardModel,
    SoftQ,
    answer_ends,
    load,
    load_recovered,
    load_reward_model,
    pack,
)
from laurel.policy.saved_reward import MODEL
from laurel.policy.shaped_reward import RECOVERED
from laurel.restoring import policy_of_run
from laurel.runs import Run, is_run
from laurel.tasks.task import Prompt
from laurel.tree import Segment, Source, Tree

SOFT_Q = "iq_learn"


@dataclass(frozen=True)
class AnswerReward:
    """What a reward says of one answer.

    Attributes:
        text: the answer.
        reward: of the whole answer.
        tokens: every token with its share, the end token last: f of a shaped reward, r = Q - gamma V of a soft
            Q-function. Empty where the reward has no shares.
    """

    text: str
    reward: float
    tokens: tuple[tuple[str, float], ...] = ()


def answer_rewards(
    source: RewardModel | Policy | str | Path, prompt: Prompt, answers: Sequence[str], *, discount: float | None = None
) -> list[AnswerReward]:
    """What a reward says of some answers to a prompt, in their order.

    Args:
        source: a run of gail, airl, max_ent_irl or iq_learn, or of `laurel.fit_reward_model`; the directory of a saved
            reward model, or one in memory; or a policy, whose logits are read as a soft Q-function.
        discount: gamma of a shaped reward or a soft Q-function; None: as it was recovered, else 1.

    Raises:
        ConfigurationError: no answers.
        LaurelError: nothing that can be read as a reward is there, or an answer cannot be encoded.
    """
    if not answers:
        raise ConfigurationError("There is no answer to be judged.", hint="give one or more.")
    model, recorded = _model(source)
    gamma = recorded if discount is None else discount
    trunk = model.trunk
    segments = [Segment(Source.PROMPT, trunk.encode_prompt(prompt), -1)]
    segments += [Segment(Source.POLICY, trunk.encode_answer(text), 0, text=text) for text in answers]
    tree = Tree("inspected", "inspected", tuple(segments))
    if isinstance(model, SoftQ):
        (shares,) = SoftQ(trunk, gamma).token_rewards([tree])
        rewards = [float(own.sum()) for own in shares]
    else:
        rewards, shares = _of_model(model, tree, gamma)
    names = [tuple(trunk.tokenizer.convert_ids_to_tokens(segment.tokens.tolist())) for segment in segments[1:]]
    return [
        AnswerReward(text, reward, tuple(zip(tokens, map(float, own), strict=True)) if len(own) else ())
        for text, reward, tokens, own in zip(answers, rewards, names, shares, strict=True)
    ]


def inspect_reward(
    source: RewardModel | Policy | str | Path, prompt: Prompt, answers: Sequence[str], *, discount: float | None = None
) -> Page:
    """`answer_rewards` as a page, the best answer first."""
    lines: list[Text] = []
    for answer in sorted(answer_rewards(source, prompt, answers, discount=discount), key=lambda a: -a.reward):
        lines.append(Text.assemble((f"{answer.reward:+9.3f}  ", "bold"), answer.text))
        lines += [Text(f"{share:+14.3f}  {token}") for token, share in answer.tokens]
    return Page(Group(*lines))


@torch.no_grad()
def _of_model(model: RewardModel, tree: Tree, discount: float) -> tuple[list[float], list[np.ndarray]]:
    """The reward of every answer of a tree, and its shares where there is a potential."""
    packed = pack([tree], [np.zeros(len(tree.flat), np.bool_)], model.device)
    ends = answer_ends([tree], [tree.leaves])
    if not isinstance(model, ShapedRewardModel):
        return model.rewards(packed, ends).double().tolist(), [np.empty(0)] * len(ends)
    written = np.flatnonzero(tree.flat.policy)
    rewards, potentials = model.rewards_and_potentials(packed, ends, tree.flat.parent[written])
    said, before = rewards.double().cpu().numpy(), potentials.double().cpu().numpy()
    shares, place = [], 0
    for number, leaf in enumerate(tree.leaves):
        own = before[place : place + len(tree.segments[leaf])]
        place += len(own)
        shares.append(np.append(discount * own[1:], said[number]) - own)
    return said.tolist(), shares


def _model(source: RewardModel | Policy | str | Path) -> tuple[RewardModel | SoftQ, float]:
    """What is to be read, and the discount that it was recovered with."""
    if isinstance(source, Policy):
        return SoftQ(source), 1.0
    if isinstance(source, RewardModel):
        return source, 1.0
    place = Path(source)
    if is_run(place):
        with Run.open(place) as run:
            method = run.configuration.get("algorithm") or {}
        if method.get("name") == SOFT_Q:
            return SoftQ(policy_of_run(place)), float(method["objective"]["discount"])
        place = place / MODEL
        if not place.is_dir():
            raise ConfigurationError(
                f"The run {source} has no reward of its own.",
                hint="give a finished run of gail, airl, max_ent_irl, iq_learn or of laurel fit-reward-model.",
            )
    if (place / RECOVERED).is_file():
        model, about = load_recovered(place)
        return model, float(about["form"].get("discount", 1.0))
    if _is_classifier(place):
        return load_reward_model(place), 1.0
    return SoftQ(load(str(source))), 1.0


def _is_classifier(place: Path) -> bool:
    config = place / "config.json"
    return config.is_file() and "ForSequenceClassification" in config.read_text(encoding="utf-8")
