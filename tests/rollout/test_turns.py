"""Several turns: rows go on in place, and equal recomputing everything from scratch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from sampling_checks import collect, same_draws, score_difference

from laurel.environments import Conversation, Dialogue, NumberGuessing, SingleTurn, Turn
from laurel.policy import Policy
from laurel.rollout import Job
from laurel.tasks import Task
from laurel.tree import Ending, Failed, Rollout, Sampling, Source, Tree


@dataclass(frozen=True)
class Echo(Conversation):
    """Answers with the length of what it read, for a number of turns that depends on the rollout."""

    prompt: str = "a" * 40
    breaks: tuple[str, ...] = ()
    breaks_at_start: tuple[str, ...] = ()

    def converse(self, task: Task, rollout_id: str) -> Dialogue:
        if rollout_id in self.breaks_at_start:
            raise OSError("no sandbox")
        text = yield self.prompt
        turns = 1 + int(rollout_id[-1]) % 3
        for turn in range(turns):
            if rollout_id in self.breaks and turn == 1:
                raise RuntimeError("the sandbox died")
            text = yield Turn(f"{'12' * (1 + len(text) % 4)}:", reward=0.25 * (turn + 1))
        return Turn(reward=-1.0, ending=Ending.TRUNCATED if turns == 3 else Ending.TERMINATED)


def play(policy: Policy, environment: object, trees: int = 2, samples: int = 6, **options: object) -> list[Tree]:
    asked = [Job(f"t{i}-", Task(f"task{i}", "a"), samples, environment) for i in range(trees)]  # type: ignore[arg-type]
    settings: dict[str, object] = {
        "max_new_tokens": 12,
        "max_turns": 5,
        "stop_strings": ("c", "g", "1", "e"),
        **options,
    }
    return collect(policy, asked, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("prompt", ["ab", "a" * 40])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(top_p=0.9)])
def test_turns_equal_recomputing_from_scratch(policy: Policy, prompt: str, sampling: Sampling) -> None:
    trees = play(policy, Echo(prompt), sampling=sampling)
    assert score_difference(policy, trees) < 1e-5
    turns = [len(rollout.turns) for tree in trees for rollout in tree.rollouts]
    assert max(turns) >= 6 and min(turns) <= 4
    for rows in (1, 5):
        same_draws(play(policy, Echo(prompt), sampling=sampling, rows=rows), trees)


def test_sources_alternate_and_observations_are_the_bridges_tokens(policy: Policy) -> None:
    for tree in play(policy, Echo()):
        for rollout in tree.rollouts:
            sources = [segment.source for segment in rollout.segments]
            assert sources[0] is Source.PROMPT
            assert sources[1::2] == [Source.POLICY] * len(sources[1::2])
            assert sources[2::2] == [Source.ENVIRONMENT] * len(sources[2::2])
            for before, after in zip(rollout.segments[1:], rollout.segments[2:], strict=False):
                if after.source is Source.ENVIRONMENT:
                    ended = int(before.tokens[-1]) in policy.end_ids
                    assert after.tokens.tolist() == policy.bridge(after.text, ended_turn=ended).tolist()
                    assert after.sampler_log_probs is None and after.sampling is None


def test_rewards_lie_on_the_turns_that_earned_them_and_endings_are_kept_apart(policy: Policy) -> None:
    endings = set()
    for tree in play(policy, Echo(), samples=9):
        for rollout in tree.rollouts:
            assert rollout.outcome is not None and rollout.outcome.score is None
            endings.add((rollout.outcome.ending, rollout.outcome.stop_reason))
            drawn = [segment for segment in rollout.segments if segment.source is Source.POLICY]
            answered = [0.25 * (turn + 1) for turn in range(len(drawn) - 1)]
            last = -1.0 if rollout.outcome.stop_reason == "environment" else 0.0
            assert [segment.reward for segment in drawn] == [*answered, last]
            assert all(s.reward == 0 for s in rollout.segments if s.source is not Source.POLICY)
            if rollout.outcome.stop_reason == "environment":
                turns = 1 + int(rollout.id[-1]) % 3
                assert len(drawn) == turns + 1
                assert (rollout.outcome.ending is Ending.TRUNCATED) == (turns == 3)
    assert {(Ending.TERMINATED, "environment"), (Ending.TRUNCATED, "environment")} <= endings


def outcomes(trees: list[Tree]) -> dict[str, Rollout]:
    return {rollout.id: rollout for tree in trees for rollout in tree.rollouts}


def test_a_failing_episode_leaves_the_others_untouched(policy: Policy) -> None:
    sound = outcomes(play(policy, Echo()))
    broken = outcomes(play(policy, Echo(breaks=("t0-.2", "t1-.1"), breaks_at_start=("t0-.0", "t1-.3"))))
    assert sound.keys() == broken.keys()
    for name, rollout in broken.items():
        assert rollout.outcome is not None
        if name in ("t0-.0", "t1-.3"):
            assert rollout.outcome.ending is Ending.FAILED and rollout.outcome.failed
            assert rollout.outcome.score == Failed("starting the episode raised OSError: no sandbox")
            assert [s.source for s in rollout.segments] == [Source.PROMPT, Source.ENVIRONMENT]
        elif name in ("t0-.2", "t1-.1") and len(sound[name].turns) > 4:
            assert rollout.outcome.score == Failed("turn 2 of the episode raised RuntimeError: the sandbox died")
            assert rollout.segments[1].tokens.tolist() == sound[name].segments[1].tokens.tolist()
        else:
            assert rollout.outcome == sound[name].outcome
            assert [s.tokens.tolist() for s in rollout.segments] == [s.tokens.tolist() for s in sound[name].segments]


def test_turn_and_path_budgets(policy: Policy) -> None:
    capped = outcomes(play(policy, Echo(), samples=9, max_turns=2))
    assert {len([s for s in r.segments if s.source is Source.POLICY]) for r in capped.values()} <= {1, 2}
    reasons = {(r.outcome.ending, r.outcome.stop_reason) for r in capped.values() if r.outcome}
    assert (Ending.TRUNCATED, "turns") in reasons and (Ending.TERMINATED, "environment") in reasons
    short = outcomes(play(policy, Echo(), samples=9, max_path_tokens=52))
    assert any(r.outcome and r.outcome.stop_reason == "path_length" for r in short.values())
    for rollout in short.values():
        assert sum(map(len, rollout.segments)) <= 52
        assert rollout.segments[-1].source is Source.POLICY


def test_a_cut_turn_is_truncated_although_the_environment_would_have_ended(policy: Policy) -> None:
    trees = play(policy, SingleTurn(), samples=20, max_new_tokens=3, stop_strings=())
    reasons = set()
    for rollout in outcomes(trees).values():
        assert rollout.outcome is not None
        reasons.add((rollout.outcome.ending, rollout.outcome.stop_reason))
    assert reasons == {(Ending.TRUNCATED, "length"), (Ending.TERMINATED, "environment")}


def test_number_guessing_is_played(policy: Policy) -> None:
    game = NumberGuessing(low=1, high=2, turns=2, higher="ab:", lower="ba:")
    asked = [Job("g", Task("g", "a"), 200, _Renamed(game))]
    trees = collect(policy, asked, max_new_tokens=4, max_turns=3, stop_strings=(" ",))
    finished = [r for r in trees[0].rollouts if r.outcome and r.outcome.stop_reason == "environment"]
    assert finished and all(r.outcome and r.outcome.ending is Ending.TERMINATED for r in finished)
    assert sum(np.sum([s.reward for s in r.segments]) for r in finished) > 0


@dataclass(frozen=True)
class _Renamed:
    """The game with a prompt in the test policy's alphabet."""

    game: NumberGuessing

    def start(self, task: Task, rollout_id: str) -> object:
        episode = self.game.start(task, rollout_id)
        episode.prompt = "a 12:"
        return episode


@pytest.mark.parametrize("prompt", ["a" * 160, "\u03a9"])
def test_an_environments_prompt_that_cannot_be_used_fails_its_own_job_only(policy: Policy, prompt: str) -> None:
    sound = Job("s", Task("sound", "a"), 3, Echo())
    bad = Job("b", Task("bad", "a"), 2, Echo(prompt))
    options = {"max_turns": 3, "stop_strings": ("c", "g")}
    broken, whole = collect(policy, [bad, sound], **options)  # type: ignore[arg-type]
    same_draws([whole], collect(policy, [sound], **options))  # type: ignore[arg-type]
    assert len(broken.rollouts) == 2
    for rollout in broken.rollouts:
        assert rollout.outcome is not None and rollout.outcome.ending is Ending.FAILED
        assert isinstance(rollout.outcome.score, Failed) and "task bad" in rollout.outcome.score.reason
        assert all(segment.source is not Source.POLICY for segment in rollout.segments)


@dataclass(frozen=True)
class Leaving(Conversation):
    """Ends the process, or tries to."""

    at_start: bool

    def converse(self, task: Task, rollout_id: str) -> Dialogue:
        if self.at_start:
            raise SystemExit(3)
        yield "a"
        raise SystemExit(3)


@pytest.mark.parametrize("at_start", [True, False])
def test_an_episode_that_exits_fails_its_rollout_only(policy: Policy, at_start: bool) -> None:
    outcomes = [r.outcome for tree in play(policy, Leaving(at_start), trees=1, samples=8) for r in tree.rollouts]
    failed = [o.score.reason for o in outcomes if o and isinstance(o.score, Failed)]
    assert failed and all("SystemExit: 3" in reason for reason in failed)
