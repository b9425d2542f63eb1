from types import SimpleNamespace
from typing import Literal

import pytest

from unet_jax.errors import UserError
from unet_jax.specs import bind


def focal(logits, *, gamma: float = 2.0, mode: Literal["mean", "sum"] = "mean"):
    return logits * gamma, mode


def needs(*, rate: float, sizes: tuple[int, ...] = ()):
    return rate, sizes


room = SimpleNamespace(
    __all__=["focal", "needs"], focal=focal, needs=needs, hidden=needs
)


def test_binds_the_keywords():
    assert bind(room, {"name": "focal", "gamma": 3}, "loss")(2.0) == (6.0, "mean")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "focl"}, ["loss.name", "did you mean 'focal'", "focal, needs"]),
        ({"name": "hidden", "rate": 1.0}, ["no 'hidden'"]),
        ({"name": "focal", "gama": 1.0}, ["did you mean 'gamma'", "gamma, mode"]),
        ({"name": "focal", "logits": 1.0}, ["has no 'logits'"]),
        ({"name": "focal", "gamma": "2"}, ["loss.gamma must be a number", "'2'"]),
        ({"name": "focal", "gamma": True}, ["loss.gamma must be a number"]),
        (
            {"name": "focal", "mode": "max"},
            ["loss.mode must be 'mean' or 'sum', not 'max'"],
        ),
        ({"name": "needs"}, ["also needs rate"]),
        ({"name": "needs", "rate": 1.0, "sizes": (1, 2.5)}, ["loss.sizes"]),
        ({"gamma": 1.0}, ["loss must be a spec, {'name': ...}"]),
    ],
)
def test_a_wrong_spec_gets_one_line_that_helps(spec, words):
    with pytest.raises(UserError) as error:
        bind(room, spec, "loss")
    line = str(error.value)
    assert "\n" not in line
    for word in words:
        assert word in line
