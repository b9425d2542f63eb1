import json
import math

import pytest

from unet_jax.errors import UserError, prefix_errors
from unet_jax.text import (
    align_columns,
    dimensions,
    finite_or_none,
    fold,
    format_duration,
    format_score,
    listing,
    one_line,
    printable,
    shorten,
    tabulate,
)


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


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\x1b[31mred.png", r"a\x1b[31mred.png"),
        ("two\nlines\r.png", r"two\nlines\r.png"),
        ("bell\a tab\t nul\0.png", r"bell\x07 tab\t nul\x00.png"),
        ("del\x7f csi\x9b.png", r"del\x7f csi\x9b.png"),
        ("gnp.\u202egnp.exe", r"gnp.\u202egnp.exe"),
        (b"caf\xe9.png".decode("utf-8", "surrogateescape"), r"caf\xe9.png"),
        ("線\u2028.png", r"線\u2028.png"),
        ("Zähler 細胞\u3000\u00a0é e\u0301 \U0001f9eb\u200d.png",) * 2,
    ],
)
def test_control_characters_in_names_are_escaped(name, shown):
    assert printable(name) == shown
    assert listing([name]) == shown
    assert str(UserError(f"{name}: wrong")).replace("\n", r"\n") == f"{shown}: wrong"
    with pytest.raises(UserError) as raised, prefix_errors(name):
        raise UserError("wrong")
    assert str(raised.value) == f"{shown}: wrong"
    assert len(str(raised.value).encode()) > len(name)


def test_lines_of_a_message_stay_lines():
    assert str(UserError("2 errors:\n  a\n  b\x1b[2J")) == "2 errors:\n  a\n  b\\x1b[2J"


def test_a_wide_table_is_cut_into_blocks_that_repeat_the_first_column():
    rows = [["", "one", "two", "three"], ["a", "1", "2", "3"], ["bc", "", "-", "33"]]
    assert list(tabulate(rows, 14)) == [
        "    one  two",
        "a     1    2",
        "bc         -",
        "",
        "    three",
        "a       3",
        "bc     33",
        "",
    ]
    assert list(tabulate([], 14)) == []


def test_a_long_name_loses_its_middle_and_a_wide_one_is_two_columns_a_letter():
    rows = [["a name of forty columns, counted by hand", "0.5"], ["細胞", "0.25"]]
    assert list(tabulate(rows, 26)) == [
        "a name of... by hand   0.5",
        "細胞                  0.25",
        "",
    ]
    rows = [["a name of forty columns, counted by hand", *(20 * "1")]]
    first, *_ = tabulate(rows, 60)
    assert first == "a name of... by hand" + 13 * "  1"
    assert len(first) <= 60
    assert shorten("membrane", 8) == "membrane"
    assert shorten("membranes", 8) == "mem...es"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, None])
def test_numbers_that_are_not_finite_are_null_in_json(number):
    assert json.dumps([finite_or_none(number), finite_or_none(0.5)]) == "[null, 0.5]"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("one line of 20 signs", ["one line of 20 signs"]),
        ("two  spaces  stay", ["two  spaces  stay"]),
        ("one line of 21 columns", ["one line of 21", "  columns"]),
        ("  an indented line of words", ["  an indented line", "    of words"]),
        ("see /a/path/of/24/characters", ["see", "  /a/path/of/24/characters"]),
        ("細胞 細胞 細胞 細胞", ["細胞 細胞 細胞 細胞"]),  # 19 columns
        ("細胞 細胞 細胞 細胞 a", ["細胞 細胞 細胞 細胞", "  a"]),
    ],
)
def test_a_long_line_is_folded_between_words(text, lines):
    assert list(fold(text.split(" "), 20)) == lines


def test_parts_are_kept_whole_with_their_separator():
    parts = ["step 10", "train/loss 0.5", "val/dice 0.25"]
    assert list(fold(parts, 25, separator="  ")) == [
        "step 10  train/loss 0.5",
        "  val/dice 0.25",
    ]
    assert list(fold(["a 1", "b 2", "c 3"], 9, separator=", ")) == [
        "a 1, b 2,",
        "  c 3",
    ]


def test_words_in_columns_are_folded_in_their_column():
    rows = [["", "train", "all"], ["size", "2 x 2", "2 x 2 to 32 x 32"]]
    assert align_columns(rows, 80) == [
        "      train  all",
        "size  2 x 2  2 x 2 to 32 x 32",
    ]
    assert align_columns(rows, 22) == [
        "      train  all",
        "size  2 x 2  2 x 2 to",
        "             32 x 32",
    ]
    assert align_columns([["[/b]", "細胞"], ["a", "b"]], 80) == [
        "[/b]  細胞",
        "a     b",
    ]


def test_a_table_that_keeps_its_names_has_more_blocks():
    rows = [["", "dice", "minutes"], ["batch_size=1_rate=0.01", "0.9", "3"]]
    assert list(tabulate(rows, 32, keep_names=True)) == [
        22 * " " + "  dice",
        "batch_size=1_rate=0.01   0.9",
        "",
        22 * " " + "  minutes",
        "batch_size=1_rate=0.01        3",
        "",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0.91, "0.9100"),
        (0, "0.0000"),
        (12.345, "12.35"),
        (-0.5, "−0.5000"),
        (123456.7, "123,457"),
        (0.00053, "0.000530"),
        (0.0000042, "4.20e−06"),
    ],
)
def test_scores_have_about_four_digits(value, text):
    assert format_score(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (185, "3 min 5 s"),
        (3599.7, "1 h 0 min"),
        (7620, "2 h 7 min"),
    ],
)
def test_durations_are_text(seconds, text):
    assert format_duration(seconds) == text
