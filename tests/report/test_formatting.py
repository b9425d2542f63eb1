import pytest

from unet_jax.report import formatting


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0 %"),
        (1, "100 %"),
        (0.00001, "< 0.1 %"),
        (0.99999, "> 99.9 %"),
        (0.123, "12.3 %"),
    ],
)
def test_percent_rounds_nothing_to_none_or_all(value, text):
    assert formatting.format_percent(value) == text


def test_counts():
    assert formatting.format_counts({}) == ""
    assert formatting.format_counts({(2, 3): 9}) == "2 x 3"
    assert formatting.format_counts({"png": 1200, "tif": 2}) == "png (1,200), tif (2)"
    assert formatting.format_counts({"a": 9, "b": 2, "c": 1}, 1) == "a and 2 others"
    assert formatting.format_count(0, "error") == "no errors"
    assert formatting.format_count(1, "error") == "1 error"
    assert formatting.format_count(1200, "error") == "1,200 errors"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "–"), (3 * 2**29, "1.5 GiB"), (2**29, "512 MiB")]
)
def test_bytes(size, text):
    assert formatting.format_bytes(size) == text
