import sys
import time

import pytest

from unet_jax import logs


def test_the_clock_leaves_out_pauses():
    clock = logs.Clock()
    clock.count(100)
    with clock.pause():
        time.sleep(0.3)
    assert clock.measure_speed() > 100 / 0.2


SCORES = {
    "test/loss": 0.25,
    "test/dice": 0.5,
    "test/dice/soil": 0.96875,
    "test/dice/root": None,
    "test/dice/a/b": 0.5,
    "test/accuracy": 0.75,
    "test/accuracy/soil": 0.5,
    "test/accuracy/root": 1.0,
    "test/accuracy/a/b": 0.000123456,
}


def test_printed_scores_have_a_row_per_class(capsys):
    classes, averaged = ("soil", "root", "a/b"), ("dice",)
    logs.print_scores("title", SCORES, classes, averaged=averaged, omit_background=True)
    expected = """\
title
                     dice  accuracy
mean (foreground)  0.5000
soil               0.9688    0.5000
root                    –    1.0000
a/b                0.5000  0.000123

loss      0.2500
accuracy  0.7500

"""
    assert capsys.readouterr().out == expected


def test_scores_without_classes_are_a_list(capsys):
    scores = {"test/loss": None, "test/psnr": 28.25}
    logs.print_scores("title", scores, (), averaged=(), omit_background=False)
    assert capsys.readouterr().out == "title\nloss      –\npsnr  28.25\n\n"


def test_eleven_classes_and_five_metrics_fit_into_80_columns(capsys):
    classes = ("Sky", "Column-Pole", "SignSymbol", *(f"class {i}" for i in range(8)))
    metrics = ("dice", "iou", "precision", "recall", "surface_dice")
    keys = [f"test/{m}{c}" for m in metrics for c in ("", *(f"/{c}" for c in classes))]
    scores = dict.fromkeys(keys, 0.5)
    logs.print_scores("t", scores, classes, averaged=metrics, omit_background=False)
    title, header, *rows = capsys.readouterr().out.rstrip().splitlines()
    assert header.split() == list(metrics)
    assert len(rows) == 1 + 11
    for row, name in zip(rows, ("mean (all classes)", *classes), strict=True):
        assert len(row) == len(header) <= 80
        assert row.split("  ")[0] == name
        assert row.removeprefix(name).split() == ["0.5000"] * 5


def test_scalars_of_a_step_fit_into_80_columns(capsys):
    names = [f"val/{m}" for m in ("loss", "dice", "iou", "surface_dice", "hausdorff")]
    logs.print_scalars(1000, dict.fromkeys(names, 0.123456) | {"val/dice/cell": 0.5})
    assert capsys.readouterr().out == (
        "step 1000  val: loss 0.1235  dice 0.1235  iou 0.1235  surface_dice 0.1235\n"
        "  hausdorff 0.1235\n"
    )


def test_messages_are_not_folded(capsys):
    long = "wrote /a path/with spaces/" + 80 * "x"
    logs.say(long)
    logs.warn(long)
    assert capsys.readouterr().out == f"{long}\nwarning: {long}\n"
    assert logs.given_warnings[-1] == long


def test_times_are_those_of_the_last_lines(tmp_path):
    assert logs.read_times(tmp_path) == (None, None)
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "seconds": 9.5, "first_step_seconds": 9.0}\n'
        '{"step": 2, "seconds": 10.5}\n'
        '{"step": 3, "seconds": "long"}\n'
    )
    assert logs.read_times(tmp_path) == (10.5, 9.0)


@pytest.mark.parametrize(
    ("started", "command"),
    [
        ("main.py", "python main.py"),
        ("/usr/bin/unet-jax", "unet-jax"),
        ("/lib/unet_jax/__main__.py", "python -m unet_jax"),
    ],
)
def test_messages_name_the_command_that_the_user_has(monkeypatch, started, command):
    monkeypatch.setattr(sys, "argv", [started])
    assert logs.program() == command


def test_control_characters_do_not_reach_the_terminal(capsys):
    logs.say("a\x1b[2J.png\n  second line")
    assert capsys.readouterr().out == "a\\x1b[2J.png\n  second line\n"


@pytest.mark.parametrize("name", ["scores.json", "scores.json.part"])
def test_a_file_is_not_written_through_a_link(tmp_path, name):
    other = tmp_path / "other"
    other.write_text("unchanged")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(other)
    logs.write_file(tmp_path / "run/scores.json", b"{}")
    assert other.read_text() == "unchanged"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["scores.json"]
    assert not (tmp_path / "run/scores.json").is_symlink()
    assert (tmp_path / "run/scores.json").read_bytes() == b"{}"


def test_names_of_classes_may_have_brackets(capsys):
    """rich would take them for its own marks, and fail."""
    scores = {"test/dice": 0.5, "test/dice/[/b]": 0.25}
    logs.print_scores(
        "title", scores, ("[/b]",), averaged=["dice"], omit_background=True
    )
    assert "[/b]" in capsys.readouterr().out
