"""The pre-processing of a stranger's checkpoint is validated."""

from pathlib import Path

import pytest

from unet_jax.build.preprocessing import check_preprocessing, merge_preprocessing
from unet_jax.errors import UserError

VALID = {
    "classes": ["background", "cell"],
    "background": True,
    "colours": [[0, 0, 0], [255, 0, 0]],
    "channels": 3,
    "target_channels": 1,
    "spatial_axes": 2,
    "normalize": {"name": "image"},
    "convert": False,
    "label_map": [["255", 1]],
    "spacing": [],
    "file_spacing": [0.5, 0.5],
    "target_scale": [[0.0], [2.0]],
    "samples": {},
}


def test_valid_data_are_returned():
    found = check_preprocessing(VALID, Path("run"))
    assert found["classes"] == ["background", "cell"]
    assert set(found) == set(VALID)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": "cell"},
        {"classes": [1]},
        {"colours": [[0, 0, 0]]},
        {"colours": [[0, 0, 256], [0, 0, 0]]},
        {"background": "yes"},
        {"channels": 0},
        {"channels": 10**9},
        {"channels": True},
        {"spatial_axes": 4},
        {"convert": "no"},
        {"spacing": [1.0]},
        {"spacing": [0.0, 1.0]},
        {"file_spacing": [1.0, -1.0]},
        {"target_scale": [[1.0]]},
        {"target_scale": [[1.0, 2.0], [1.0, 2.0]]},
        {"member_scales": [[[0.0], [1.0]]]},
        {"samples": {"offset": [0.0]}},
        {"samples": {"offset": [0.0], "width": [1.0], "dtype": "object"}},
        {"samples": None},
    ],
)
def test_other_data_are_one_line_that_names_the_run(change):
    with pytest.raises(UserError) as error:
        check_preprocessing(VALID | change, Path("runs/cells"))
    line = str(error.value)
    assert line.startswith("runs/cells: the pre-processing in its checkpoint is not")
    assert "\n" not in line


@pytest.mark.parametrize("key", sorted(VALID.keys() - {"background"}))
def test_a_missing_value_is_named(key):
    data = {name: value for name, value in VALID.items() if name != key}
    with pytest.raises(UserError, match=f"field '{key}'"):
        check_preprocessing(data, Path("run"))


def test_an_ensemble_has_the_scales_of_its_members():
    scales = [[0.0], [2.0]], [[5.0], [3.0]]
    members = [VALID | {"target_scale": scale} for scale in scales]
    assert merge_preprocessing(members[:1]) == members[0]
    assert merge_preprocessing(members) == VALID | {
        "target_scale": [[0.0], [1.0]],
        "member_scales": list(scales),
    }
    without = VALID | {"target_scale": []}
    assert merge_preprocessing([without, without]) == without
