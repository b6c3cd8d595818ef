"""The turn refuses what the sampler could not act on."""

import subprocess
import sys

import pytest

from laurel.environments import Environment, NumberGuessing, SingleTurn, Turn
from laurel.errors import EnvironmentFault
from laurel.tree import Ending


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"observation": ""},
        {"observation": 3},
        {"observation": "more", "ending": Ending.TERMINATED},
        {"ending": Ending.FAILED},
        {"ending": Ending.TERMINATED, "reward": float("nan")},
        {"ending": Ending.TERMINATED, "reward": "1"},
        {"ending": Ending.TERMINATED, "reward": None},
        {"ending": Ending.TERMINATED, "reward": True},
    ],
)
def test_a_turn_that_means_nothing_is_refused(arguments):
    with pytest.raises(EnvironmentFault, match="What to do"):
        Turn(**arguments)


def test_both_endings_are_kept_apart():
    assert Turn(ending=Ending.TRUNCATED).ending is not Turn(ending=Ending.TERMINATED).ending


def test_the_built_in_environments_satisfy_the_protocol():
    assert isinstance(SingleTurn(), Environment)
    assert isinstance(NumberGuessing(), Environment)


def test_environments_import_without_torch():
    code = "import sys, laurel.environments; print('torch' in sys.modules or 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
