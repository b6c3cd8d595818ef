"""The faults that `make mutants` tries are in date, and what it says of them is true."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
AREA = """
def area(width: float, height: float) -> float:
    if width < 0:
        return 0.0
    return width * height
"""
TESTS = "from laurel.area import area\n\n\ndef test_area():\n    assert area(2, 3) == 6\n"


@pytest.fixture
def mutate(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "mutants"))
    import mutate

    monkeypatch.setattr(mutate, "PRELOADED", [])
    return mutate


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A package of one function, half tested."""
    for path, text in {
        "laurel/__init__.py": "",
        "laurel/area.py": AREA,
        "tests/test_area.py": TESTS,
        "pyproject.toml": "[tool.pytest.ini_options]\n",
    }.items():
        (tmp_path / "repository" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "repository" / path).write_text(text)
    return tmp_path / "repository"


def fault(mutate, name: str, line: str, wrong: str):
    return mutate.Fault(name, "laurel/area.py", line, wrong, "", ("tests/test_area.py",))


def test_every_fault_is_in_date(mutate) -> None:
    faults = mutate.load(ROOT / "mutants")
    mutate.check(faults, ROOT)
    assert len(faults) >= 60


def test_what_is_seen_and_what_is_not(mutate, repository: Path) -> None:
    faults = [
        fault(mutate, "wrong_sign", "return width * height", "return -width * height"),
        fault(mutate, "no_bound", "if width < 0:", "if False:"),
    ]
    heard: list[str] = []
    verdicts = mutate.run(repository, faults, jobs=1, seed=0, told=lambda verdict: heard.append(verdict.fault.name))
    assert [(verdict.killed, verdict.seen_by) for verdict in verdicts] == [
        (True, "test_area.py::test_area"),
        (False, "nobody"),
    ]
    assert heard == ["wrong_sign", "no_bound"]
    assert (repository / "laurel/area.py").read_text() == AREA
    assert sorted(path.name for path in repository.iterdir()) == ["laurel", "pyproject.toml", "tests"]


@pytest.mark.parametrize(
    ("line", "wrong", "message"),
    [
        ("return width + height", "return 0.0", r"out of date.*0 times"),
        ("return 0.0", "return (", "does not compile"),
        ("return 0.0", "return 0.0", "changes nothing"),
    ],
)
def test_a_fault_that_is_none_is_refused(mutate, repository: Path, line: str, wrong: str, message: str) -> None:
    with pytest.raises(mutate.Unusable, match=message):
        mutate.run(repository, [fault(mutate, "stale", line, wrong)], jobs=1, seed=0, told=print)


def test_a_line_that_stands_there_twice_is_refused(mutate) -> None:
    with pytest.raises(mutate.Unusable, match="2 times"):
        fault(mutate, "twice", "return 0.0", "return 1.0").applied("return 0.0\n    return 0.0\n")


def test_a_fault_that_breaks_the_import_is_no_kill(mutate, repository: Path) -> None:
    broken = fault(mutate, "broken", "def area(width: float, height: float) -> float:", "def aria(width, height):")
    with pytest.raises(mutate.Unusable, match="no verdict"):
        mutate.run(repository, [broken], jobs=1, seed=0, told=print)


def test_tests_that_fail_by_themselves_say_nothing(mutate, repository: Path) -> None:
    (repository / "tests/test_area.py").write_text(TESTS.replace("6", "7"))
    with pytest.raises(mutate.Unusable, match="Without any fault"):
        mutate.run(repository, [fault(mutate, "no_bound", "if width < 0:", "if False:")], jobs=1, seed=0, told=print)


def test_a_sample_is_that_of_its_seed(mutate) -> None:
    faults = mutate.load(ROOT / "mutants")
    first, again, other = (mutate.chosen(faults, [], 8, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) == 8
    assert mutate.chosen(faults, [faults[3].name], None, 0) == [faults[3]]
    with pytest.raises(mutate.Unusable, match="no_such_fault"):
        mutate.chosen(faults, ["no_such_fault"], None, 0)
