"""Label maps of masks whose values are given, without files."""

import pytest

from unet_jax.data.folders.masks import ClassOptions, find_label_map


def find(*values, **options):
    """Returns the label map of masks with these values, of nine pixels each."""
    files = [(f"{i}.png", dict.fromkeys(v.split(), 9)) for i, v in enumerate(values)]
    return find_label_map(files, ClassOptions(**options))


@pytest.mark.parametrize(
    ("values", "ids", "blamed"),
    [
        (["0 1"] * 2 + ["0 1 7"], 2, ["2.png"]),
        (["0 1"] * 28 + ["0 1 7", "0 9"], 2, ["28.png", "29.png"]),
        (["0 1 2", "0 1"] * 5 + ["0 2 30", "0"], 3, ["10.png"]),
        (["1 2"] * 9 + ["1 2 7"], 0, ["0.png, 1.png, 2.png, 3.png, 4.png and 4 more"]),
    ],
)
def test_a_stray_value_is_blamed_on_its_file(values, ids, blamed):
    found = find(*values)
    assert len(found.ids) == ids
    named = [issue.text.partition(": ")[0] for issue in found.issues]
    assert named[: len(blamed)] == blamed
    assert all("correct the file" in issue.text for issue in found.issues[-1:])


@pytest.mark.parametrize(
    "values",
    [
        ["0 1", "0 7"],  # either may be the stray one
        ["0 1"] * 5 + ["0 1 7"] * 5,  # a frequent value
        ["0 1"] * 9 + ["0 1 7 9 11"],  # several values of one file
        [f"0 {' '.join(map(str, range(1, 3 + i)))}" for i in range(10)],  # object ids
    ],
)
def test_values_that_are_not_stray_are_described_together(values):
    found = find(*values)
    assert not found.ids
    (issue,) = found.issues
    assert "whose classes are not known" in issue.text


def test_a_few_masks_of_another_white_are_foreground():
    found = find(*["0 65535"] * 8, *["0 255"] * 2)
    flag = '--config.data.label_map="((0,0),(255,1),(65535,1),)"'
    assert [issue.text.endswith(flag) for issue in found.issues] == [True, True]


@pytest.mark.parametrize(
    ("count", "end"), [(64, '(62,1),(63,1),)"'), (65, '(6,1),(7,1),...)"')]
)
def test_dots_stand_only_for_values_that_are_left_out(count, end):
    values = " ".join(map(str, range(count)))
    (issue,) = find(values, values, classes=("bg", "cell")).issues
    assert issue.text.endswith(end)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (["0 1", "0 255"], "1 mask (0.png) has 0; 1 and 1 mask (1.png) has 0; 255; "),
        (["0", "0 1", "255", "0 65535"], "3.png) has 0; 65535; if all mean foreground"),
    ],
)
def test_masks_of_several_foregrounds_are_counted(values, text):
    (issue,) = find(*values).issues
    assert text in issue.text
    assert issue.text.endswith("pixels: --config.data.ignore_label=255")
    assert not find(*values[:2], ignore_value="255").issues
