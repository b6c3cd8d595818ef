"""Laurel trains language models by reinforcement.

    run = laurel.train(
        policy="Qwen/Qwen3-0.6B",
        tasks=laurel.tasks.jsonl("train.jsonl", prompt="question", reference="answer"),
        reward=laurel.rewards.numeric_answer(),
        algorithm=laurel.grpo(clip=0.2),
    )
    print(run.summary())

Names are loaded when they are first used, so that `import laurel` is quick and the parts that need no torch stay free
of it.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# torch reads this at its first large allocation: tensors of 2 MB and more lie in huge pages then (Linux). A training
# step on the CPU frees and allocates hundreds of megabytes, and clearing them page by page costs time.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# oneDNN, and what torch puts in front of it for linear maps, keep the code of the last 1024 kinds of matrix product,
# half a megabyte for each new number of rows: a gigabyte in the end where lengths vary. Those of one pass are enough.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "24")
os.environ.setdefault("LRU_CACHE_CAPACITY", "4")

_MODULES = (
    "algorithms",
    "credit",
    "environments",
    "errors",
    "experts",
    "formal",
    "learner",
    "objectives",
    "policy",
    "preferences",
    "rewards",
    "rollout",
    "runs",
    "sandbox",
    "tasks",
    "theory",
    "tree",
)
# Where public names live. What stands in `__all__` and neither here nor among the modules is in `laurel.algorithms`.
_NAMES = {
    "Budget": "laurel.objectives",
    "CollapseAlarm": "laurel.collapse",
    "CriticSettings": "laurel.learner",
    "Evaluation": "laurel.evaluation",
    "Failed": "laurel.tree",
    "LabelledReward": "laurel.learner",
    "LaurelError": "laurel.errors",
    "Limits": "laurel.rollout",
    "OptimiserSettings": "laurel.learner",
    "RecoverySettings": "laurel.learner",
    "Run": "laurel.runs",
    "Sampling": "laurel.tree",
    "Score": "laurel.tree",
    "Tree": "laurel.tree",
    "audit": "laurel.theory",
    "check": "laurel.checking",
    "check_reward": "laurel.rewards",
    "demo": "laurel.demonstration",
    "eval": "laurel.judging",
    "evaluate": "laurel.evaluation",
    "explain": "laurel.explaining",
    "export": "laurel.restoring",
    "fit_reward_model": "laurel.fitting",
    "inspect_reward": "laurel.inspecting",
    "judge": "laurel.judge_labels",
    "label": "laurel.preferences",
    "measure_judge": "laurel.judge_bias",
    "methods": "laurel.plan",
    "parts": "laurel.listing",
    "policy_of_run": "laurel.restoring",
    "revise": "laurel.revising",
    "rlhf": "laurel.human_feedback",
    "show": "laurel.showing",
    "train": "laurel.training",
}

# `laurel.eval` is there too, but `from laurel import *` must not put it before Python's own eval.
__all__ = [
    "KL",
    "Algorithm",
    "Budget",
    "CollapseAlarm",
    "CriticSettings",
    "Evaluation",
    "Failed",
    "LabelledReward",
    "LaurelError",
    "Limits",
    "OptimiserSettings",
    "RecoverySettings",
    "Run",
    "Sampling",
    "Score",
    "Tree",
    "__version__",
    "airl",
    "algorithms",
    "audit",
    "check",
    "check_reward",
    "cispo",
    "clone",
    "credit",
    "dagger",
    "dapo",
    "demo",
    "distill",
    "dpo",
    "dr_grpo",
    "environments",
    "errors",
    "evaluate",
    "experts",
    "explain",
    "export",
    "fit_reward_model",
    "formal",
    "gail",
    "gigpo",
    "grpo",
    "gspo",
    "inspect_reward",
    "ipo",
    "iq_learn",
    "judge",
    "kto",
    "label",
    "learner",
    "max_ent_irl",
    "measure_judge",
    "methods",
    "objectives",
    "online_dpo",
    "orpo",
    "parts",
    "policy",
    "policy_of_run",
    "ppo",
    "preferences",
    "reinforce",
    "reinforce_plus_plus",
    "remax",
    "revise",
    "rewards",
    "rlhf",
    "rloo",
    "rollout",
    "runs",
    "sandbox",
    "show",
    "simpo",
    "spin",
    "star",
    "step_ppo",
    "tasks",
    "theory",
    "train",
    "tree",
    "trpo",
    "turn_ppo",
    "vine_ppo",
]

if TYPE_CHECKING:
    from laurel import (
        algorithms,
        credit,
        environments,
        errors,
        experts,
        formal,
        learner,
        objectives,
        policy,
        preferences,
        rewards,
        rollout,
        runs,
        sandbox,
        tasks,
        theory,
        tree,
    )
    from laurel.algorithms import (
        KL,
        Algorithm,
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
    from laurel.checking import check
    from laurel.collapse import CollapseAlarm
    from laurel.demonstration import demo
    from laurel.errors import LaurelError
    from laurel.evaluation import Evaluation, evaluate
    from laurel.explaining import explain
    from laurel.fitting import fit_reward_model
    from laurel.human_feedback import rlhf
    from laurel.inspecting import inspect_reward
    from laurel.judge_bias import measure_judge
    from laurel.judge_labels import judge
    from laurel.judging import eval as eval
    from laurel.learner import CriticSettings, LabelledReward, OptimiserSettings, RecoverySettings
    from laurel.listing import parts
    from laurel.objectives import Budget
    from laurel.plan import methods
    from laurel.preferences import label
    from laurel.restoring import export, policy_of_run
    from laurel.revising import revise
    from laurel.rewards import check_reward
    from laurel.rollout import Limits
    from laurel.runs import Run
    from laurel.showing import show
    from laurel.theory import audit
    from laurel.training import train
    from laurel.tree import Failed, Sampling, Score, Tree


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = importlib.import_module(f"laurel.{name}")
    elif name in _NAMES or name in __all__:
        value = getattr(importlib.import_module(_NAMES.get(name, "laurel.algorithms")), name)
    else:
        raise AttributeError(f"module 'laurel' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
