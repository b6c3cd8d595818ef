"""A run's policy is built again from its record, and only on what it was trained on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command_line import Said, laurel, write_project

from laurel.runs import Run

RUN = Path("runs/sums")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)
    return tmp_path


def train(*overrides: str) -> Said:
    return laurel("train", "recipe.yaml", *overrides)


def refused(said: Said, *phrases: str) -> None:
    assert said.status == 1 and "What to do:" in said.err and "Traceback" not in said.err
    for phrase in phrases:
        assert phrase in said.err


def test_an_adapter_is_not_put_on_another_model_of_the_same_directory(project: Path) -> None:
    pytest.importorskip("peft", reason="the extra `lora` is not installed")
    assert train("steps=1", "run=runs/base").status == 0
    assert laurel("export", "runs/base", "model").status == 0
    lora = "policy={name: load, name_or_directory: ./model, lora: {rank: 2}}"
    assert train(lora, "steps=2").status == 0
    tasks = ["eval", str(RUN), "--tasks", "held.jsonl"]
    before = laurel(*tasks)
    assert before.status == 0, before
    assert train("steps=1", "seed=5", "policy.seed=5", "run=runs/other").status == 0
    (project / "model").rename(project / "kept")
    assert laurel("export", "runs/other", "model").status == 0
    changed = ["runs/sums trained an adapter on the model in ./model, which is another one now", "start a new run"]
    refused(train(lora, "steps=4", "--resume"), *changed)
    refused(laurel(*tasks), *changed)
    refused(laurel("export", str(RUN), "exported"), *changed)
    assert not Path("exported").exists()
    shutil.rmtree(project / "model")
    (project / "kept").rename(project / "model")
    assert laurel(*tasks).out == before.out
    assert train(lora, "steps=4", "--resume").status == 0
    with Run.open(RUN) as run:
        assert run.steps() == [1, 2, 3, 4]


def test_a_checkpoint_knows_its_model_too(project: Path) -> None:
    pytest.importorskip("peft", reason="the extra `lora` is not installed")
    lora = "policy={name: load, name_or_directory: ./model, lora: {rank: 2}}"
    for seed in (1, 2):
        base = f"runs/base{seed}"
        assert train("steps=1", f"policy.seed={seed}", f"run={base}").status == 0
        shutil.rmtree("model", ignore_errors=True)
        assert laurel("export", base, "model").status == 0
        assert train(lora, "steps=2", f"run=runs/adapted{seed}").status == 0
    shutil.rmtree("runs/adapted2/checkpoints")
    shutil.copytree("runs/adapted1/checkpoints", "runs/adapted2/checkpoints")
    refused(
        train(lora, "steps=4", "run=runs/adapted2", "--resume"),
        "The checkpoint of step 2 trained an adapter on the model in ./model, which is another one now",
    )
