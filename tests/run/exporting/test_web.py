"""Refusals of the format `web`; tests/web predicts with its files."""

from types import SimpleNamespace
from typing import Any

import pytest

from unet_jax.errors import UserError
from unet_jax.run.exporting.web import check_page


@pytest.mark.parametrize(
    ("task", "axes", "scale", "words"),
    [
        ("regression", 2, "standard", "not the task 'regression'; leave 'web' out of"),
        (
            "theirs.tasks:depth",
            2,
            "standard",
            "the task 'theirs.tasks:depth'; leave",
        ),
        (
            "semantic",
            3,
            "standard",
            "shows images, but not volumes; leave",
        ),
        ("semantic", 2, "nnunet", "but not by 'nnunet'; leave 'web' out of"),
    ],
)
def test_what_the_page_cannot_do_is_refused(task, axes, scale, words):
    pipeline = SimpleNamespace(axes=axes, normalize={"name": scale})
    job: Any = SimpleNamespace(description={"task": task}, pipeline=pipeline)
    with pytest.raises(UserError, match=r"config\.export\.formats") as caught:
        check_page(job)
    assert words in str(caught.value)
