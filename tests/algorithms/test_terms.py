"""Settings that nothing would read are refused; those at their defaults count as left out."""

import pytest

from laurel.algorithms import METHODS
from laurel.errors import ConfigurationError


@pytest.mark.parametrize(
    ("method", "unread", "enough"),
    [
        ("dapo", {"overlong_cushion": 5}, {"overlong_limit": 20}),
        ("ppo", {"critic_decay": 0.9, "values": "vtrace"}, {"values": "gae"}),
        ("ppo", {"critic_decay": 0.9, "values": "retrace"}, {"values": "gae"}),
        ("dapo", {"maximum_draws": 9, "dynamic_sampling": False}, {"dynamic_sampling": True}),
    ],
)
def test_a_setting_without_a_reader_is_refused_by_name(method, unread, enough):
    name = next(iter(unread))
    with pytest.raises(ConfigurationError, match=f"'{name}' would not be read") as refused:
        METHODS[method](**unread)
    assert next(iter(enough)) in refused.value.hint
    METHODS[method](**(unread | enough))


def test_a_setting_at_its_default_counts_as_left_out():
    METHODS["dapo"](**{"dynamic_sampling": False, "maximum_draws": 4, "overlong_cushion": 4096})


def test_values_that_nobody_knows_are_refused():
    with pytest.raises(ConfigurationError, match=r"unknown values 'v-trace'(.|\n)*gae, vtrace, retrace"):
        METHODS["ppo"](values="v-trace")
