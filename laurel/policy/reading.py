"""Whether a reward model reads what a policy writes as what it was fitted to, found out before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from laurel.errors import ConfigurationError, PolicyError
from laurel.policy.policy import Policy
from laurel.policy.read_rollouts import same_tokens
from laurel.policy.reward_model import RewardModel
from laurel.tasks.task import Prompt

PROMPTS_COMPARED = 64


def check_reading(model: RewardModel, writer: Policy, prompts: Sequence[Prompt], *, longest: int, turns: bool) -> None:
    """Refuse a reward model that would read a policy's rollouts wrongly, or fail on them.

    - With the same tokens, whole rollouts are read as they were drawn: then both must lay prompts and ends of answers
      out alike (one chat template), and the longest rollout must fit in the model's context.
    - With other tokens, prompts and texts are encoded anew: then every prompt must be one that the model can encode,
      and there can be one turn only.

    Args:
        prompts: of the tasks; none where an environment writes them.
        longest: most tokens of a rollout.
        turns: whether an environment answers.

    Raises:
        PolicyError: naming what differs.
        ConfigurationError: several turns in other tokens.
    """
    trunk = model.trunk
    if not same_tokens(writer, trunk):
        if turns:
            raise ConfigurationError(
                f"The reward model {trunk.name} reads other tokens than {writer.name} writes, and no dialogue.",
                hint="fit a reward model from the policy itself, or train in one turn.",
            )
        _check_readable(trunk, prompts)
        return
    if longest > trunk.context_length:
        raise PolicyError(
            f"The reward model {trunk.name} reads {trunk.context_length} tokens; a rollout has up to {longest}.",
            hint=f"lower limits.max_new_tokens, or set limits.max_path_tokens to {trunk.context_length}.",
        )
    for prompt in prompts[:PROMPTS_COMPARED]:
        ours, theirs = writer.encode_prompt(prompt), trunk.encode_prompt(prompt)
        text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        ends = [reader.encode_answer(text)[-1] for reader in (writer, trunk)] if text else [0, 0]
        if not np.array_equal(ours, theirs) or ends[0] != ends[1]:
            what = "prompts" if ends[0] == ends[1] else "ends of answers"
            raise PolicyError(
                f"The reward model {trunk.name} has the tokens of {writer.name}, but lays {what} out otherwise: "
                f"{trunk.decode(theirs)!r} against {writer.decode(ours)!r}.",
                hint="give both the chat template that the reward model was fitted with, or fit it again.",
            )


def _check_readable(trunk: Policy, prompts: Sequence[Prompt]) -> None:
    try:
        lengths = trunk.prompt_lengths(prompts)
    except PolicyError as error:
        raise PolicyError(
            f"The reward model {trunk.name} cannot read the prompts: {error.message}",
            hint="take a reward model that was fitted to such prompts.",
        ) from error
    if lengths and max(lengths) >= trunk.context_length:
        raise PolicyError(
            f"A prompt has {max(lengths)} tokens; the reward model {trunk.name} reads {trunk.context_length}.",
            hint="shorten or leave out such prompts, or take a reward model with a longer context.",
        )
