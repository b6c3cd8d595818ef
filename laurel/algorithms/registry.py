"""Methods by name, for recipes and the command line: the signature of a method is the list of its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from laurel.algorithms.algorithm import Algorithm
from laurel.algorithms.critic_methods import ppo, turn_ppo
from laurel.algorithms.gigpo import gigpo
from laurel.algorithms.imitation_methods import dagger, distill
from laurel.algorithms.inverse_methods import airl, gail, iq_learn, max_ent_irl
from laurel.algorithms.methods import clone, dapo, dr_grpo, grpo, reinforce, remax, rloo
from laurel.algorithms.preference_methods import dpo, ipo, kto, online_dpo, orpo, simpo, spin
from laurel.algorithms.ratio_methods import cispo, gspo, reinforce_plus_plus
from laurel.algorithms.star import star
from laurel.algorithms.step_ppo import step_ppo
from laurel.algorithms.trust_region import trpo
from laurel.algorithms.vine_ppo import vine_ppo

METHODS: Mapping[str, Callable[..., Algorithm]] = MappingProxyType(
    {
        method.__name__: method
        for method in (
            airl,
            cispo,
            clone,
            dagger,
            dapo,
            distill,
            dpo,
            dr_grpo,
            gail,
            gigpo,
            grpo,
            gspo,
            ipo,
            iq_learn,
            kto,
            max_ent_irl,
            online_dpo,
            orpo,
            ppo,
            reinforce,
            reinforce_plus_plus,
            remax,
            rloo,
            simpo,
            spin,
            star,
            step_ppo,
            trpo,
            turn_ppo,
            vine_ppo,
        )
    }
)
