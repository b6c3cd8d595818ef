"""What goes into a checkpoint and comes out of one."""

from __future__ import annotations

import pytest
import torch

from laurel.checkpoint_checks import check_finite
from laurel.errors import LearnerError


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_refused_by_name(value: float) -> None:
    sound = {"first": torch.ones(2), "second": torch.zeros(3)}
    check_finite(7, sound, "the policy")
    sound["second"][1] = value
    with pytest.raises(LearnerError, match="After step 7 'second' of the policy is not finite; no checkpoint"):
        check_finite(7, sound, "the policy")
