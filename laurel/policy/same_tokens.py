"""Whether two models mean the same by the same token numbers, as whoever reads along with a policy must."""

from __future__ import annotations

from laurel.errors import PolicyError
from laurel.policy.policy import Policy


def check_same_tokens(policy: Policy, other: Policy, *, called: str, otherwise: str) -> None:
    """Refuse a model that does not read every token as the policy writes it, and as many of them.

    Args:
        called: what messages call the other model.
        otherwise: what to do without a model of the policy's family.

    Raises:
        PolicyError: another vocabulary, another number of logits, or a shorter context.
    """
    ours, theirs = policy.tokenizer.get_vocab(), other.tokenizer.get_vocab()
    if ours != theirs:
        different = ours.items() ^ theirs.items()
        raise PolicyError(
            f"The {called} {other.name} reads other tokens than the policy {policy.name} writes: they differ in the "
            f"token {min(different)[0]!r}, among {len(different)} entries.",
            hint=f"take a {called} of the policy's own family, or {otherwise}.",
        )
    if policy.vocabulary_size != other.vocabulary_size:
        raise PolicyError(
            f"The {called} {other.name} has {other.vocabulary_size} logits and the policy {policy.name} has "
            f"{policy.vocabulary_size}, for one tokenizer.",
            hint="bring both to one size: model.resize_token_embeddings.",
        )
    if other.context_length < policy.context_length:
        raise PolicyError(
            f"The {called} {other.name} reads {other.context_length} tokens, and the policy {policy.name} may write "
            f"{policy.context_length}.",
            hint=f"take a {called} with as long a context, or a policy with a shorter one.",
        )
