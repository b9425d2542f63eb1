import pytest

from unet_jax.text import dimensions, listing, one_line


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["a"], "a"),
        (["b", "a", "b"], "b, a"),
        (list("abcde"), "a, b, c, d, e"),
        (list("abcdef"), "a, b, c, d, e and 1 more"),
        (range(2005), "0, 1, 2, 3, 4 and 2,000 more"),
    ],
)
def test_a_listing_shows_the_first_names_and_counts_the_others(names, text):
    assert listing(names) == text


def test_a_listing_has_any_length_and_separator():
    assert listing("abcd", most=1, separator="; ") == "a and 3 more"
    assert listing("abcd", most=3, separator="; ") == "a; b; c and 1 more"


def test_dimensions():
    assert dimensions((512, 640)) == "512 x 640"
    assert dimensions((1_234_567,)) == "1234567"
    assert dimensions((0.5, 2.0), ",") == "0.5,2"


def test_an_error_is_one_short_line():
    assert one_line(ValueError("a\n  b")) == "a b"
    assert one_line(ValueError()) == "ValueError"
    assert one_line(OSError(2, "No such file or directory", "x")) == (
        "No such file or directory"
    )
    assert len(one_line(ValueError("word " * 99))) == 200
