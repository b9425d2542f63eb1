"""Refusals of the format `web`; tests/web predicts with its files."""

from types import SimpleNamespace
from typing import Any

import pytest

from unet_jax.errors import UserError
from unet_jax.run.exporting.web import check_page


@pytest.mark.parametrize(
    ("task", "axes", "scale", "words"),
    [
        ("regression", 2, "standard", "objects, but not the task 'regression'"),
        ("theirs:depth", 2, "standard", "objects, but not the task 'theirs:depth'"),
        ("semantic", 3, "standard", "the page shows images, but not volumes"),
        ("semantic", 2, "nnunet", "percentile, standard, but not by 'nnunet'"),
    ],
)
def test_what_the_page_cannot_do_is_refused(task, axes, scale, words):
    pipeline = SimpleNamespace(axes=axes, normalize={"name": scale})
    job: Any = SimpleNamespace(description={"task": task}, pipeline=pipeline)
    with pytest.raises(UserError, match=words):
        check_page(job)
