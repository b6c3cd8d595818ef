"""Votes and entropies of siblings by hand; no order matters, nobody alone is judged, and who fails has no vote."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laurel.errors import ConfigurationError
from laurel.rewards import (
    Failed,
    Grader,
    GradingSettings,
    Meaning,
    Score,
    exact_match,
    in_process,
    majority_vote,
    needs_siblings,
    random_reward,
    reads_labels,
    semantic_entropy,
    weighted,
)
from laurel.rewards.agreement import cluster_entropy
from laurel.tasks import Task
from laurel.tree import UNDECIDED, Ending, Outcome, Segment, Source, Tree

TASK = Task("t", "q", "4")


def fan(texts, name="s", broken=()):
    """A prompt and an answer per text; those at the places `broken` failed in sampling."""
    segments = [Segment(Source.PROMPT, np.array([1]), -1)]
    for place, text in enumerate(texts):
        ended = Outcome(Ending.FAILED, "sandbox died") if place in broken else Outcome(Ending.TERMINATED, "eos")
        segments.append(Segment(Source.POLICY, np.array([2]), 0, text, outcome=ended, rollout_id=f"{name}.{place}"))
    return Tree(name, "t", tuple(segments))


def graded(reward, *trees):
    with Grader(reward, GradingSettings(failure_fraction=1.0)) as grader:
        done, metrics = grader.grade(trees, {"t": TASK})
    return [[rollout.outcome.score for rollout in tree.rollouts] for tree in done], metrics


def values(reward, *texts):
    ((*scores,),), _ = graded(reward, fan(texts))
    return [score.value if isinstance(score, Score) else score for score in scores]


def test_the_majority_by_hand():
    """Numbers are compared, not texts; "no idea" has no answer and no vote; 7 loses against three 4."""
    assert values(majority_vote(), "it is 4", "#### 4", "4.0", "7", "no idea") == [1, 1, 1, 0, 0]
    assert values(majority_vote(answer="text"), "a ", "a", "A", "") == [1, 1, 0, 0]
    assert values(majority_vote(answer=str.casefold), "a", "B", "A") == [1, 0, 1]
    assert values(majority_vote(marker="is"), "4 is 5", "5 is 4", "5 is 4", "4") == [0, 1, 1, 0]
    assert values(majority_vote(), "no", "idea") == [0, 0]


def test_a_tie_is_shared():
    assert values(majority_vote(), "1", "2", "1", "2", "3") == [0.5, 0.5, 0.5, 0.5, 0]
    assert values(majority_vote(), "1", "2", "3", "4") == [0.25] * 4


def test_leaving_oneself_out_by_hand():
    """Of 1 1 2 2 3: without itself, each 1 faces {1, 2 2, 3}; 3 faces a tie of 1 and 2 and is in neither."""
    assert values(majority_vote(leave_one_out=True), "1", "1", "2", "2", "3") == [0, 0, 0, 0, 0]
    assert values(majority_vote(leave_one_out=True), "1", "1", "1", "2") == [1, 1, 1, 0]
    assert values(majority_vote(leave_one_out=True), "1", "1", "2", "x") == [0.5, 0.5, 0, 0]
    assert values(majority_vote(leave_one_out=True), "1", "x") == [0, 0]


def test_semantic_entropy_by_hand():
    """4 4 4 7 and nothing: p(4) = 3/4, p(7) = 1/4, H = 3/4 log 4/3 + 1/4 log 4."""
    ((*scores,),), metrics = graded(semantic_entropy(), fan(["4", "4", "7", "4", "none"]))
    assert [score.value for score in scores] == [0.75, 0.75, 0.25, 0.75, 0]
    entropy = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    assert scores[0].parts["semantic_entropy"] == pytest.approx(entropy, abs=1e-15)
    assert metrics["reward/semantic_entropy"].mean == pytest.approx(entropy, abs=1e-15)
    assert values(semantic_entropy(leave_one_out=True), "4", "4", "7", "4") == [2 / 3, 2 / 3, 0, 2 / 3]
    assert values(semantic_entropy(leave_one_out=True), "4", "none") == [0, 0]


def test_answers_that_entail_each_other_mean_the_same():
    """ "a dog" entails "an animal", which does not entail "a dog": one direction is not enough."""
    known = {"a dog": {"a dog", "one dog", "an animal"}, "one dog": {"one dog", "a dog"}, "an animal": {"an animal"}}
    asked = []

    def entails(task, one, other):
        asked.append(task.id)
        return other in known[one]

    reward = semantic_entropy(answer="text", entails=entails)
    assert values(reward, "a dog", "an animal", "one dog", "") == [2 / 3, 1 / 3, 2 / 3, 0]
    assert values(reward, "an animal", "a dog", "one dog") == [1 / 3, 2 / 3, 2 / 3]
    assert set(asked) == {"t"}


def test_a_group_outside_of_the_band_is_left_out_and_no_failure():
    sure, torn = fan(["1", "1", "1"], "a"), fan(["1", "2", "3"], "b")
    scores, metrics = graded(semantic_entropy(lowest=0.1, highest=1.0), sure, torn, fan(["1", "1", "2"], "c"))
    assert scores[0] == scores[1] == [UNDECIDED] * 3
    assert [score.value for score in scores[2]] == [2 / 3, 2 / 3, 1 / 3]
    assert UNDECIDED.left_out and metrics["grading_failed"].sum == 0


def test_failed_siblings_have_no_vote_and_a_group_of_one_is_left_out():
    """The broken rollouts both say 2; only one 1 is left, which nobody agrees with."""
    scores, _ = graded(
        majority_vote(), fan(["1", "2", "2"], broken=(1, 2)), fan(["1", "2", "2", "1"], "u", broken=(1,))
    )
    assert scores[0][0] == UNDECIDED
    assert [score.value for score in scores[1] if score is not None] == [1, 0, 1]
    assert majority_vote()(TASK, fan(["1", "1"]).rollouts[0]) == UNDECIDED


def test_trees_are_groups_even_of_one_task():
    scores, _ = graded(majority_vote(), fan(["1", "1"], "a"), fan(["2", "2"], "b"))
    assert [[score.value for score in some] for some in scores] == [[1, 1], [1, 1]]


@given(st.lists(st.sampled_from(["1", "2", "3", "none"]), min_size=2, max_size=9), st.randoms())
@settings(max_examples=60, deadline=None)
def test_no_order_matters_and_shares_add_up(texts, shuffle):
    order = list(range(len(texts)))
    shuffle.shuffle(order)
    for reward in (majority_vote(), majority_vote(leave_one_out=True), semantic_entropy(leave_one_out=True)):
        plain = values(reward, *texts)
        assert values(reward, *(texts[place] for place in order)) == [plain[place] for place in order]
    votes = dict(zip(texts, values(majority_vote(), *texts), strict=True))
    answered = [text for text in votes if text != "none"]
    assert math.fsum(votes[text] for text in answered) == pytest.approx(1.0 if answered else 0.0)
    shares = dict(zip(texts, values(semantic_entropy(), *texts), strict=True))
    assert math.fsum(shares[text] for text in answered) == pytest.approx(1.0 if answered else 0.0)


def test_the_entropy_of_clusters():
    assert cluster_entropy([]) == cluster_entropy([5]) == 0
    assert cluster_entropy([1, 1, 1, 1]) == pytest.approx(math.log(4), abs=1e-15)


def test_a_part_of_a_weighted_reward_sees_its_siblings_too():
    reward = weighted({"vote": (majority_vote(), 1.0), "short": (in_process(lambda task, text: len(text) < 2), 0.5)})
    assert needs_siblings(reward) and values(reward, "4", "it is 4", "7") == [1.5, 1.0, 0.5]
    ((alone,),), _ = graded(reward, fan(["4"]))
    assert alone == UNDECIDED
    outside = weighted({"vote": (majority_vote(), 1.0), "own": (lambda task, text: 0.0, 1.0)})
    with pytest.raises(ConfigurationError, match="one by one in other processes"):
        Grader(outside)


def test_who_reads_labels():
    assert reads_labels(exact_match()) and reads_labels(lambda task, text: 1.0)
    for reward in (majority_vote(), semantic_entropy(), random_reward()):
        assert not reads_labels(reward) and not reads_labels(weighted({"a": (reward, 1.0)}))
        assert reads_labels(weighted({"a": (reward, 1.0), "b": (exact_match(), 0.1)}))
    assert not needs_siblings(random_reward()) and not needs_siblings(exact_match()) and not needs_siblings(None)


@pytest.mark.parametrize(
    "make",
    [
        lambda: majority_vote(marker=""),
        lambda: majority_vote(answer="text", marker="is"),
        lambda: semantic_entropy(lowest=1.0, highest=0.5),
        lambda: semantic_entropy(lowest=-1.0),
        lambda: random_reward(probability=1.0),
    ],
)
def test_settings_that_make_no_sense_are_refused(make):
    with pytest.raises(ConfigurationError, match="What to do"):
        make()


def test_meaning_reads_numbers_at_face_value():
    meaning = Meaning()
    assert meaning.of("50%") == meaning.of("it is 50.0") and meaning.of("0.5") != meaning.of("50%")
    assert meaning.of("1/0") is None and meaning.of("") is None
    assert meaning.clusters(TASK, ["1", "x", "2", "1.0"]) == [0, None, 1, 0]


def test_the_random_control_follows_its_seed_and_nothing_else():
    rollouts = [rollout for n in range(50) for rollout in fan(["4", "5", "6", "7"] * 10, f"{n}").rollouts]
    coin = random_reward(probability=0.3, seed=1)
    drawn = np.array([coin(TASK, rollout) for rollout in rollouts])
    assert set(drawn) == {0.0, 1.0}
    assert abs(drawn.mean() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / len(drawn))
    for place in range(4):  # no answer is paid more than another
        assert abs(drawn[place::4].mean() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / (len(drawn) / 4))
    assert [coin(TASK, rollout) for rollout in rollouts] == drawn.tolist()
    other = np.array([random_reward(probability=0.3, seed=2)(TASK, rollout) for rollout in rollouts])
    assert abs(np.corrcoef(drawn, other)[0, 1]) < 0.1
    assert not isinstance(coin(TASK, rollouts[0]), Failed)
