"""Named moments of death."""

from __future__ import annotations

import os
import signal

import pytest
from recorded import fork, wait

from laurel.errors import ConfigurationError
from laurel.runs import KILL_VARIABLE, phase


def test_nothing_happens_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KILL_VARIABLE, raising=False)
    phase("after_update", 3)
    monkeypatch.setenv(KILL_VARIABLE, "after_update:4")
    phase("after_update", 3)
    phase("before_update", 4)


def test_the_process_dies_at_the_named_moment() -> None:
    def child() -> None:
        os.environ[KILL_VARIABLE] = "after_update:4"
        phase("after_update", 4)

    assert wait(fork(child)) == -signal.SIGKILL


@pytest.mark.parametrize(("value", "says"), [("after_updat:4", "did you mean 'after_update'"), ("after_update", ":3")])
def test_a_typo_is_an_error(monkeypatch: pytest.MonkeyPatch, value: str, says: str) -> None:
    monkeypatch.setenv(KILL_VARIABLE, value)
    with pytest.raises(ConfigurationError, match=says):
        phase("after_update", 4)


def test_a_moment_that_the_code_misspells_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KILL_VARIABLE, "after_update:4")
    with pytest.raises(ConfigurationError, match="after_updates"):
        phase("after_updates", 4)
