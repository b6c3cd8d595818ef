"""What a run was made with."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest
import torch

import laurel
from laurel.runs import Run, current_versions


def test_the_versions_are_those_of_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    versions = current_versions()
    assert versions["laurel"] == laurel.__version__
    assert torch.__version__.startswith(versions["torch"])  # which may leave the build out, such as "+cu130"
    assert versions["python"] == platform.python_version()
    assert "commit" not in versions


def test_the_commit_is_there_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=n", "-c", "user.email=e"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *command], check=True, cwd=tmp_path)
    found = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert current_versions()["commit"] == found.stdout.strip()


def test_resuming_under_another_version_is_an_event(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {})
    with run._transaction():
        run._connection.execute("""UPDATE sessions SET versions = '{"torch": "0.1"}'""")
    run.close()
    with Run.resume(tmp_path / "run") as resumed:
        assert f"torch: 0.1 then, {current_versions()['torch']} now" in resumed.events("warning")[0].text
        assert resumed.versions == current_versions()
