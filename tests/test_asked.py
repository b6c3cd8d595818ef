"""dagger from start to end: who plays, what is asked and what is learned from; what does not fit is refused before."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import laurel
from laurel.aggregate import Aggregate, is_answer, with_answers
from laurel.algorithms import Asked
from laurel.asking import Asking, State, turns_taken
from laurel.credit import GivenAnswers
from laurel.environments import Conversation, Dialogue, Turn
from laurel.errors import ConfigurationError, ExpertFault, PolicyError
from laurel.experts import NoReply, Question, Replied
from laurel.objectives import DistinctTokenMean
from laurel.policy import Policy
from laurel.recipe import load as load_recipe
from laurel.rollout import Due, Limits, LocalSampler
from laurel.runs import Run
from laurel.tasks import Task, TaskSet
from laurel.tree import Sampling, Segment, Source, Tree

LETTERS = "abcd"
TURNS = 5
TASKS = TaskSet("walks", tuple(Task(f"{number}", "a") for number in range(20)))


class Walk(Conversation):
    """Says a letter, and wants the next one of the alphabet; whoever errs hears "?" until "!" is said."""

    runs_in_process = True

    def converse(self, task: Task, rollout_id: str) -> Dialogue:
        letters = np.random.default_rng(int(task.id)).choice(list(LETTERS), size=TURNS)
        on, text = True, ""
        for turn in range(TURNS):
            heard = str(letters[turn]) if on else "?"
            text = yield (heard if turn == 0 else Turn(heard, reward=-float(not on)))
            on = text == guide(task, (heard,))
        return -float(not on)


def guide(task: Task, dialogue: tuple[str, ...]) -> str:
    """The expert."""
    return "!" if dialogue[-1] == "?" else chr(ord(dialogue[-1]) + 1)


def silent(task: Task, dialogue: tuple[str, ...]) -> str:
    raise TimeoutError("nobody is at home")


def tiny(**changes: Any) -> Policy:
    return laurel.policy.tiny(
        **{"alphabet": "abcde?!", "hidden_size": 16, "layers": 1, "heads": 2, "context_length": 24, **changes}
    )


def ask(directory: Path, **changes: Any) -> Run:
    arguments: dict[str, Any] = {
        "policy": tiny(),
        "tasks": TASKS,
        "algorithm": laurel.dagger(),
        "environment": Walk(),
        "expert": guide,
        "steps": 3,
        "prompts_per_step": 4,
        "samples_per_prompt": 2,
        "limits": Limits(max_new_tokens=3, max_turns=TURNS),
        "optimiser": laurel.OptimiserSettings(learning_rate=2e-2),
        "run": directory / "run",
    }
    return laurel.train(**{name: value for name, value in {**arguments, **changes}.items() if value is not None})


def counts(run: Run, name: str) -> list[float]:
    return [metric.sum for _, metric in run.metric(name)]


def played(run: Run, step: int) -> list[Segment]:
    """The turns of the rollouts that were drawn at a step, whether they were learned from then or not."""
    trees = [tree for tree in [*run.trees(step), *run.discarded(step)] if tree.id.startswith(f"{step}.")]
    turns = [s for tree in trees for s in tree.segments if s.source in (Source.POLICY, Source.EXPERT)]
    return [segment for segment in turns if not is_answer(segment)]


def test_the_expert_plays_the_first_round_and_the_policy_the_others(tmp_path: Path) -> None:
    run = ask(tmp_path, steps=4)
    assert {segment.source for segment in played(run, 1)} == {Source.EXPERT}
    assert {segment.source for segment in played(run, 2)} == {Source.POLICY}
    first = run.trees(1)[0]
    for rollout in first.rollouts:
        said = [text for source, text in rollout.turns if source is not Source.PROMPT]
        assert said[-1] in ("b", "c", "d", "e")
    # Beside every turn hangs the answer, and nothing else carries loss.
    for tree, credit in zip(run.trees(1), run.credits(1), strict=True):
        scored = np.unique(tree.flat.segment[credit.mask]).tolist()
        assert scored == [i for i, segment in enumerate(tree.segments) if is_answer(segment)] != []
        for index in scored:
            heard = tree.segments[tree.segments[index].parent].text
            assert tree.segments[index].text == guide(TASKS[0], (heard,))


def test_a_state_is_asked_about_once(tmp_path: Path) -> None:
    """Two expert rollouts of one task are the same five states; every visit has its answer all the same."""
    run = ask(tmp_path, algorithm=laurel.dagger(mixture=1.0), steps=6, prompts_per_step=10)
    assert counts(run, "queries") == [10 * TURNS, 10 * TURNS, 0, 0, 0, 0]
    assert counts(run, "answers") == [2 * 10 * TURNS * step for step in range(1, 7)]
    assert {segment.source for step in range(1, 7) for segment in played(run, step)} == {Source.EXPERT}


def test_a_budget_is_kept_and_the_run_goes_on_without_drawing(tmp_path: Path) -> None:
    run = ask(tmp_path, algorithm=laurel.dagger(queries=33), steps=7)
    asked, left = counts(run, "queries"), counts(run, "queries_left")
    assert sum(asked) == 33 and left[-1] == 0 and left == [33 - sum(asked[: step + 1]) for step in range(7)]
    over = left.index(0) + 1
    assert over < 5 and all(played(run, step) == [] for step in range(over + 1, 8))
    assert all(run.trees(step) for step in range(1, 8))
    assert all(len(run.trees(step)) <= 32 for step in range(1, 8))
    losses = [metric.mean for _, metric in run.metric("loss")]
    assert losses[-1] < losses[over - 1]


def test_rounds_draw_in_their_first_step_only(tmp_path: Path) -> None:
    run = ask(tmp_path, algorithm=laurel.dagger(round_steps=3, prompts_per_update=2), steps=7)
    drawn = [step for step in range(1, 8) if played(run, step)]
    assert drawn == [1, 4, 7]
    assert all(len(run.trees(step)) == 2 for step in range(1, 8))
    assert {segment.source for segment in played(run, 4)} == {Source.POLICY}, "the second round is the policy's"


def test_mixing_is_by_turns_with_a_chance_that_falls_by_rounds(tmp_path: Path) -> None:
    run = ask(tmp_path, algorithm=laurel.dagger(mixture=0.7), steps=5, prompts_per_step=20, samples_per_prompt=4)
    shares = [metric.mean for _, metric in run.metric("expert_turns")]
    assert shares[0] == 1
    for number, share in enumerate(shares[1:], start=1):
        # Turns that a cut-off draw left unplayed make the share differ a little from the chance itself.
        assert share == pytest.approx(0.7**number, abs=0.12)
    assert any({Source.POLICY, Source.EXPERT} <= {s.source for s in tree.segments[1:] if not is_answer(s)}
               for tree in [*run.trees(2), *run.discarded(2)])  # fmt: skip


def test_turns_are_settled_before_anything_is_drawn() -> None:
    sampler = LocalSampler(tiny(), Sampling(), Limits(max_new_tokens=2, max_turns=50), seed=3)
    names = [f"1.{number}" for number in range(40)]
    taken = turns_taken(sampler, names, 0.25, None)
    assert len(taken) / 2000 == pytest.approx(0.25, abs=0.03)
    assert taken == turns_taken(sampler, names[::-1], 0.25, None)
    few = turns_taken(sampler, names, 0.25, 7)
    assert len(few) == 7 and few < taken and {turn for _, turn in few} == {0}
    assert turns_taken(sampler, names, 0.0, None) == frozenset()
    assert len(turns_taken(sampler, names, 1.0, None)) == 2000


def test_a_policy_learns_the_way_back_that_a_clone_never_sees(tmp_path: Path) -> None:
    """With the same number of questions."""
    lost: dict[str, float] = {}
    for name, mixture in (("clone", 1.0), ("dagger", 0.0)):
        learner = tiny()
        ask(
            tmp_path / name, policy=learner, steps=70, samples_per_prompt=1,
            algorithm=laurel.dagger(queries=100, mixture=mixture, round_steps=7, prompts_per_update=8),
        )  # fmt: skip
        prompt = Segment(Source.PROMPT, learner.encode_prompt("a"), -1)
        strayed = Segment(Source.POLICY, learner.encode_answer("a"), 0)
        told = Segment(Source.ENVIRONMENT, learner.bridge("?", ended_turn=True), 1)
        sampler = LocalSampler(learner, Sampling(), Limits(max_new_tokens=3), seed=0)
        tree = sampler.branch(Tree("lost", "0", (prompt, strayed, told)), 2, samples=200, policy_version=0)
        lost[name] = float(np.mean([segment.text == "!" for segment in tree.segments[3:]]))
    assert lost["clone"] < 0.1 and lost["dagger"] > 0.8


def test_another_policy_is_an_expert_with_tokens_of_its_own(tmp_path: Path) -> None:
    teacher = tiny(seed=4)
    ask(tmp_path / "teacher", policy=teacher, steps=40, algorithm=laurel.dagger(round_steps=4, prompts_per_update=8))
    teacher.export(tmp_path / "model")
    recorded = ask(tmp_path / "object", expert=teacher, steps=2)
    run = ask(tmp_path / "named", expert=laurel.experts.AnotherPolicy(tmp_path / "model"), steps=2)
    assert sum(counts(run, "unanswered")) == 0 and run.digest() == recorded.digest()
    answers = [(tree.segments[s.parent].text, s.text) for tree in run.trees(1) for s in tree.segments if is_answer(s)]
    right = [said == guide(TASKS[0], (heard,)) for heard, said in answers]
    assert np.mean(right) > 0.9
    recipe = Path(__file__).parents[1] / "recipes" / "dagger.yaml"
    written = load_recipe(recipe, [f"expert={{name: policy, policy: {tmp_path / 'model'}, greedy: false}}"])["expert"]
    assert (str(written.policy), written.greedy) == (str(tmp_path / "model"), False)
    with pytest.raises(PolicyError, match=r"The expert .* reads other tokens"):
        ask(tmp_path / "other", expert=tiny(alphabet="abcde?!x"))
    assert not (tmp_path / "other").exists()
    with pytest.raises(ConfigurationError, match="is its own expert"):
        ask(tmp_path / "own", policy=teacher, expert=teacher)


SOLVER = """
import json, sys
asked = json.load(sys.stdin)
heard = asked["dialogue"][-1]
print("!" if heard == "?" else chr(ord(heard) + 1))
"""


def test_a_program_is_an_expert_from_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "solver.py").write_text(SOLVER)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"""
policy: {{name: tiny, alphabet: "abcde?!", hidden_size: 16, layers: 1, heads: 2, context_length: 24}}
environment: test_asked:Walk
tasks: {{name: from_iterable, rows: [{{question: a, id: "0"}}, {{question: a, id: "1"}}], reference: null, id: id}}
algorithm: {{name: dagger, queries: 12, mixture: 0.5, round_steps: 2}}
expert: {{name: program, command: [{sys.executable}, {tmp_path / "solver.py"}], timeout_seconds: 30}}
limits: {{max_new_tokens: 3, max_turns: {TURNS}}}
prompts_per_step: 2
samples_per_prompt: 1
steps: 3
run: {tmp_path / "run"}
"""
    )
    account = " ".join(str(laurel.explain(recipe)).split())
    assert "at most 12 questions in 2 rounds; drawn in the first of every 2 steps" in account
    assert "available an expert to ask" in account and "Program(" in account
    # 32 prompts of 1 token, 5 turns of 3 and as much in answers beside them.
    assert "at most 992 distinct ones" in account
    run = laurel.train(**load_recipe(recipe))
    assert counts(run, "queries")[:2] == [10.0, 0.0] and sum(counts(run, "unanswered")) == 0
    from_function = laurel.train(**{**load_recipe(recipe, ["expert=test_asked:guide"]), "run": tmp_path / "function"})
    assert from_function.digest() == run.digest()


def test_the_recipe_asks_its_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])
    small = ["steps=2", "prompts_per_step=2", "held_out=null", "evaluate_every=null", "evaluation_samples=1"]
    recipe = load_recipe("recipes/dagger.yaml", [*small, f"run={tmp_path / 'run'}"])
    run = laurel.train(**recipe)
    assert sum(counts(run, "unanswered")) == 0 and counts(run, "queries")[0] >= 2
    paths = [rollout.turns for rollout in run.trees(1)[0].rollouts]
    assert paths[0][1][1] == "4" and paths[0][2][1] in "+-"


def test_check_asks_about_the_first_turns(tmp_path: Path) -> None:
    parts = {
        "policy": tiny(), "tasks": TASKS, "algorithm": laurel.dagger(queries=1), "environment": Walk(), "expert": guide,
        "limits": Limits(max_new_tokens=3, max_turns=TURNS),
    }  # fmt: skip
    checked = laurel.check(parts)
    assert checked.passed and "expert: ok: answered 8 different first turns, the first of them by" in str(checked)
    for expert, why in (
        (silent, "8 of 8 questions have no answer"),
        (lambda task, dialogue: "xyz", "cannot be encoded"),
        (tiny(alphabet="abcde?!x"), "reads other tokens"),
    ):
        said = laurel.check({**parts, "expert": expert})
        assert not said.passed and "expert: WRONG" in str(said) and why in str(said)


@dataclass
class Scripted:
    """Replies in turn, and remembers the questions."""

    script: Sequence[Replied | NoReply]
    asked: list[Question] = field(default_factory=list)

    def replies(self, questions: Sequence[Question]) -> list[Replied | NoReply]:
        start = len(self.asked)
        self.asked += questions
        return [self.script[(start + place) % len(self.script)] for place in range(len(questions))]


def test_what_cannot_be_used_is_counted_paid_for_and_left_out(tmp_path: Path) -> None:
    script = [Replied("b"), Replied("bcdeb"), Replied("z"), NoReply("a shrug"), Replied("")]
    run = ask(tmp_path, expert=Scripted(script), steps=2, algorithm=laurel.dagger(queries=30))
    asked = counts(run, "queries")
    assert asked[0] > 5 and counts(run, "unanswered")[0] == pytest.approx(0.8 * asked[0], abs=4)
    for tree in run.trees(1):
        assert {segment.text for segment in tree.segments if is_answer(segment)} == {"b"}


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Replied("z"), "the answer 'z' cannot be encoded: .*characters that are no tokens: 'z'"),
        (Replied("bcdeb"), "the answer has 6 tokens with its end; limits.max_new_tokens is 3"),
        (NoReply("a shrug"), r"task 0, turn \d of rollout 1.0.\d: a shrug"),
    ],
)
def test_why_an_answer_is_none(reply: Replied | NoReply, why: str, tmp_path: Path) -> None:
    with pytest.raises(ExpertFault, match=rf"None of the \d+ questions of step 1 was answered; the last: (.|\n)*{why}"):
        ask(tmp_path, expert=Scripted([reply]), prompts_per_step=1, tasks=TaskSet("one", TASKS.tasks[:1]))


def test_an_expert_that_never_answers_stops_the_run(tmp_path: Path) -> None:
    many = {"prompts_per_step": 20, "limits": Limits(max_new_tokens=3, max_turns=TURNS)}
    with pytest.raises(ExpertFault, match=r"16 questions in a row.*raised TimeoutError: nobody is at home"):
        ask(tmp_path, expert=silent, **many)
    with pytest.raises(ExpertFault, match="it answered 3"):
        ask(tmp_path / "number", expert=lambda task, dialogue: 3, **many)


def test_a_function_that_hangs_fails_its_question_only(tmp_path: Path) -> None:
    def sleeps(task: Task, dialogue: tuple[str, ...]) -> str:
        if task.id == "1":
            time.sleep(3)
        return guide(task, dialogue)

    limits = Limits(max_new_tokens=3, max_turns=TURNS, environment_timeout_seconds=0.5)
    two = TaskSet("two", TASKS.tasks[:2])
    run = ask(tmp_path, expert=sleeps, limits=limits, steps=1, tasks=two, prompts_per_step=2)
    assert 0 < sum(counts(run, "unanswered")) < sum(counts(run, "queries"))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"expert": None}, "'dagger' needs an expert"),
        ({"expert": "guide"}, "cannot be asked"),
        ({"expert": Walk}, "cannot be asked"),
        ({"environment": None, "limits": None}, "with one turn that is nowhere but the prompt"),
        ({"limits": Limits(max_new_tokens=3)}, "with one turn that is nowhere but the prompt"),
        ({"limits": Limits(max_turns=3, stop_strings=("!",))}, "would end elsewhere"),
        ({"reward": laurel.rewards.exact_match()}, "'reward' would not be read: 'dagger' learns from what its expert"),
        ({"teacher": "somewhere"}, "'teacher' would not be read"),
        ({"algorithm": laurel.grpo()}, "'expert' would not be read: 'grpo' asks none"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_starts(changes: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=why):
        ask(tmp_path, **changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("queries", 0),
        ("queries", -3),
        ("queries", 2.5),
        ("mixture", 1.5),
        ("round_steps", 0),
        ("prompts_per_update", 0),
    ],
)
def test_settings_that_mean_nothing(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        laurel.dagger(**{name: value})


def test_settings_reach_the_source_and_the_equation() -> None:
    method = laurel.dagger(queries=9, mixture=0.5, round_steps=2, prompts_per_update=3)
    assert method.source == Asked(9, 0.5, 2, 3)
    assert "of at most 9 questions" in method.equation and "b = 0.5^(round - 1)" in method.equation
    assert [laurel.dagger().source.chance(n) for n in range(3)] == [1, 0, 0]  # type: ignore[union-attr]
    assert [method.source.chance(n) for n in range(3)] == [1, 0.5, 0.25]  # type: ignore[union-attr]


def answered_tree(policy: Policy) -> Tree:
    """A prompt, a drawn turn, an observation, the expert's turn; answers "b" and "c" beside the two turns."""
    segments = (
        Segment(Source.PROMPT, policy.encode_prompt("a"), -1, text="a"),
        Segment(Source.POLICY, policy.encode_answer("dd"), 0, text="dd", sampling=Sampling(), policy_version=1,
                sampler_log_probs=np.full(3, -1.0, np.float32), rollout_id="1.0.0"),
        Segment(Source.ENVIRONMENT, policy.bridge("?", ended_turn=True), 1, text="?"),
        Segment(Source.EXPERT, policy.encode_answer("c"), 2, text="c", rollout_id="1.0.0"),
    )  # fmt: skip
    answers = [(0, policy.encode_answer("b")), (2, policy.encode_answer("c"))]
    return with_answers(Tree("1.0", "7", segments), answers, policy)


def test_only_answers_carry_loss_and_each_of_their_tokens_counts_once() -> None:
    tree = answered_tree(tiny())
    (credit,) = GivenAnswers()([tree])
    assert [tree.segments[i].text for i in np.unique(tree.flat.segment[credit.mask])] == ["c", "b"]
    assert credit.mask.sum() == 4 and set(credit.advantages[credit.mask]) == {1.0}
    (weights,) = DistinctTokenMean()([tree], [credit.mask])
    assert weights[credit.mask].tolist() == [0.25] * 4 and weights.sum() == 1


def test_an_aggregate_holds_what_its_state_says() -> None:
    policy = tiny()
    first = Aggregate(policy, Sampling(temperature=0.5))
    first.add(answered_tree(policy))
    first.add(Tree("1.1", "8", (Segment(Source.PROMPT, policy.encode_prompt("a"), -1),)))  # nobody answered
    assert len(first) == 1 and first.size == 2 and len(first.answers) == 2
    tensors, names = first.state()
    second = Aggregate(policy, Sampling(temperature=0.5))
    second.load_state(tensors, names)
    assert second.answers.keys() == first.answers.keys()
    for one, other in zip(first[0].segments, second[0].segments, strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()
        for name in ("source", "parent", "text", "sampling", "outcome", "rollout_id", "policy_version"):
            assert getattr(one, name) == getattr(other, name)
    assert [segment.text for segment in first[0].segments if is_answer(segment)] == ["c", "b"]
    assert Source.EXPERT not in {segment.source for segment in first[0].segments}, "nothing hangs below the last turn"
    empty = Aggregate(policy, Sampling())
    empty.load_state(*Aggregate(policy, Sampling()).state())
    assert len(empty) == 0


def test_within_a_budget_states_are_picked_and_known_ones_cost_nothing() -> None:
    policy = tiny()
    expert = Scripted([Replied("b")])
    tasks = {f"{n}": Task(f"{n}", "a") for n in range(10)}
    taken = frozenset((name, 0) for name in tasks)
    asking = Asking(expert, policy, Limits(max_new_tokens=3), 24, tasks, {}, 6, taken)
    path = policy.encode_prompt("a")
    said = asking.take([Due(name, 0, path, ("a",)) for name in ("0", "1", "0")])
    assert [turn.text for turn in said if turn] == ["b"] * 3 and asking.asked == 2 and asking.left == 4
    states = [State(Question(name, task, ("a",), path)) for name, task in tasks.items()]
    asking.ask(states, order=np.random.default_rng(0))
    assert asking.asked == 6 and asking.left == 0
    names = [question.task.id for question in expert.asked[2:]]
    assert names == sorted(names) and names != ["2", "3", "4", "5"] and not {"0", "1"} & set(names)
    asking.ask(states)
    assert asking.asked == 6
