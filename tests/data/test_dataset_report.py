"""Issues of a data set: merged, and raised together."""

import pytest

from unet_jax.data.dataset_report import (
    DatasetReport,
    Issue,
    merge_issues,
    raise_errors,
)
from unet_jax.errors import UserError


def test_many_issues_of_one_kind_become_one_line():
    many = [Issue("error", "JPEG mask", f"masks/{i}.jpg: no mask") for i in range(7)]
    few = [Issue("error", "size", f"masks/{i}.png: the wrong size") for i in range(2)]
    merged = merge_issues(*many, *few, few[0])
    shown = ", ".join(f"masks/{i}.jpg" for i in range(5))
    assert [issue.text for issue in merged] == [
        f"{shown} and 2 more: no mask",
        "masks/0.png: the wrong size",
        "masks/1.png: the wrong size",
    ]


def test_all_errors_are_raised_and_no_warning():
    warning = Issue("warning", "flat", "a.png: every pixel is 0")
    errors = [Issue("error", "size", f"{name}.png: the wrong size") for name in "ab"]
    raise_errors(DatasetReport("here", (), issues=(warning,)))
    with pytest.raises(UserError, match=r"^a.png: the wrong size$"):
        raise_errors(DatasetReport("here", (), issues=(warning, errors[0])))
    with pytest.raises(UserError) as caught:
        raise_errors(DatasetReport("here", (), issues=(*errors, warning)))
    lines = str(caught.value).splitlines()
    assert lines[0] == "2 errors in here; fix all of them:"
    assert [line.strip() for line in lines[1:]] == [e.text for e in errors]
