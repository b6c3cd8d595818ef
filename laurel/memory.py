"""Memory that runs out, in words: what was being done, and which setting makes it smaller."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from laurel.errors import LearnerError

_SAID_ON_THE_CPU = "can't allocate memory"
"""PyTorch has a type of its own for a full accelerator, and only this text for a full CPU."""


@contextmanager
def enough_memory(doing: str, hint: str) -> Iterator[None]:
    """Whatever runs out of memory inside is an error that names what was being done.

    Args:
        doing: such as "sampling in step 3".
        hint: which settings need less.

    Raises:
        LearnerError: memory ran out.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _full(doing, hint, error) from error
    except RuntimeError as error:
        if _SAID_ON_THE_CPU not in str(error):
            raise
        raise _full(doing, hint, error) from error


def _full(doing: str, hint: str, error: BaseException) -> LearnerError:
    reason = str(error).strip().partition("\n")[0]
    return LearnerError(f"Memory ran out while {doing}: {reason or type(error).__name__}.", hint=hint)
