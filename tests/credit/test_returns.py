"""What a rollout earned, and what does not count."""

import numpy as np
import pytest

from laurel.credit import OverlongPenalty, TotalReward, policy_lengths
from laurel.errors import ConfigurationError, TreeError
from laurel.tree import Ending, Failed, Outcome, Score, Segment, Source, Tree


def dialogue() -> Tree:
    """prompt -> 3 policy tokens -> 2 observed (pays 0.5) -> 2 policy tokens (score 1); siblings: truncated, failed."""
    return Tree(
        "t",
        "t",
        (
            Segment(Source.PROMPT, [1], -1),
            Segment(Source.POLICY, [2, 3, 4], 0),
            Segment(Source.ENVIRONMENT, [5, 6], 1, reward=0.5),
            Segment(Source.POLICY, [7, 8], 2, outcome=Outcome(Ending.TERMINATED, "stop", Score(1.0))),
            Segment(Source.POLICY, [2] * 9, 0, outcome=Outcome(Ending.TRUNCATED, "length", Score(0.25))),
            Segment(Source.POLICY, [2], 0, outcome=Outcome(Ending.TERMINATED, "stop", Failed("crash"))),
            Segment(Source.POLICY, [2], 0, outcome=Outcome(Ending.FAILED, "sandbox died")),
        ),
    )


def test_total_reward_adds_segment_rewards_and_leaves_failures_out():
    np.testing.assert_array_equal(TotalReward()(dialogue()), [1.5, 0.25, np.nan, np.nan])


def test_truncated_rollouts_can_be_discarded():
    np.testing.assert_array_equal(TotalReward(discard_truncated=True)(dialogue()), [1.5, np.nan, np.nan, np.nan])


def test_an_ungraded_rollout_is_an_error_not_a_zero():
    tree = dialogue().with_outcomes({3: Outcome(Ending.TERMINATED, "stop")})
    with pytest.raises(TreeError, match=r"t\.3"):
        TotalReward()(tree)


def test_policy_lengths_count_policy_tokens_only():
    assert policy_lengths(dialogue()).tolist() == [5, 9, 1, 1]


@pytest.mark.parametrize(("length", "penalty"), [(1, 0), (6, 0), (7, -0.25), (9, -0.75), (10, -1), (11, -1), (50, -1)])
def test_overlong_penalty_hand_computed(length, penalty):
    # limit 10, cushion 4: free up to 6, then a quarter per token, -1 from 10 on.
    leaf = Segment(Source.POLICY, [2] * length, 0, outcome=Outcome(Ending.TERMINATED, "stop", Score(2.0)))
    tree = Tree("t", "t", (Segment(Source.PROMPT, [1] * 30, -1), leaf))
    assert OverlongPenalty(limit=10, cushion=4)(tree).tolist() == [2.0 + penalty]


@pytest.mark.parametrize(("limit", "cushion"), [(10, 0), (10, 11), (10, -1)])
def test_overlong_cushion_must_fit(limit, cushion):
    with pytest.raises(ConfigurationError, match="cushion"):
        OverlongPenalty(limit=limit, cushion=cushion)
