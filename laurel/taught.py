"""What the policy writes for a teacher to correct: drawn, and judged by nobody."""

from __future__ import annotations

from dataclasses import dataclass

from laurel.environments import Environment
from laurel.errors import PolicyError
from laurel.experience import Assign, Experience, rollout_metrics
from laurel.judged import scored_nothing
from laurel.policy import Policy
from laurel.rollout import Job, LocalSampler
from laurel.runs import phase
from laurel.tasks import Cursor


@dataclass
class TaughtExperience:
    """Draw `samples` rollouts for each of the next `prompts` tasks; each scores 0, whatever it says."""

    sampler: LocalSampler
    environment: Environment | None
    cursor: Cursor
    prompts: int
    samples: int
    credit: Assign

    def __call__(self, step: int, policy_version: int) -> Experience:
        tasks = self.cursor.next(self.prompts)
        jobs = [Job(f"{step}.{index}", task, self.samples, self.environment) for index, task in enumerate(tasks)]
        drawn = self.sampler.collect(jobs, policy_version=policy_version)
        phase("after_sampling", step)
        trees = [tree.with_outcomes(scored_nothing(tree)) for tree in drawn]
        metrics = {name: value for name, value in rollout_metrics(trees).items() if name != "reward"}
        return Experience(trees, self.credit(trees), [], metrics)


def check_teacher(policy: Policy, teacher: Policy, *, called: str = "teacher") -> None:
    """Refuse a teacher that does not read the policy's tokens as the policy means them.

    Args:
        called: what messages call it.

    Raises:
        PolicyError: another vocabulary, another number of logits, or a shorter context.
    """
    ours, theirs = policy.tokenizer.get_vocab(), teacher.tokenizer.get_vocab()
    if ours != theirs:
        different = min(ours.items() ^ theirs.items())
        raise PolicyError(
            f"The {called} {teacher.name} has another tokenizer than {policy.name}: they differ in the token "
            f"{different[0]!r}, among {len(ours.items() ^ theirs.items())} entries.",
            hint=f"take a model of the same family, or learn from answers that the {called} wrote (clone).",
        )
    if policy.vocabulary_size != teacher.vocabulary_size:
        raise PolicyError(
            f"The {called} {teacher.name} has {teacher.vocabulary_size} logits and {policy.name} has "
            f"{policy.vocabulary_size}, for one tokenizer.",
            hint="bring both to one size: model.resize_token_embeddings.",
        )
    if teacher.context_length < policy.context_length:
        raise PolicyError(
            f"The {called} {teacher.name} reads {teacher.context_length} tokens, {policy.name} may write "
            f"{policy.context_length}.",
            hint=f"take a {called} with as long a context, or a policy with a shorter one.",
        )
