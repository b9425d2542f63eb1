import io
import sys
import time

import jax
import pytest

from unet_jax import logs, progress
from unet_jax.progress import iterate_with_progress, show_progress


class Terminal(io.StringIO):
    """A standard output that is a terminal, 100 columns wide."""

    def isatty(self):
        return True


def open_terminal(monkeypatch):
    """Replaces the standard output, which pytest replaces after its fixtures."""
    output = Terminal()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    return output


def wait_for(condition):
    """Waits until a thread has done its work, however busy the machine is."""
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


def test_work_has_a_running_clock_on_a_terminal(monkeypatch):
    terminal = open_terminal(monkeypatch)
    with show_progress("compiling the step"):
        wait_for(lambda: "0:00:01" in terminal.getvalue())
    shown = terminal.getvalue()
    assert "compiling the step" in shown
    assert "..." not in shown


def test_bars_count_parts_and_leave_names_as_they_are(monkeypatch):
    terminal = open_terminal(monkeypatch)
    with (
        show_progress("[red] images", 4) as outer,
        show_progress("tiles") as inner,
    ):
        outer(3, note="7.5 images/s")
        inner(20, 80)
        inner(40)
        logs.say("a line")
        time.sleep(0.3)
        shown = terminal.getvalue()
    for words in ("[red] images", "3/4  7.5 images/s", "40/80", "a line"):
        assert words in shown
    # a process that is killed now leaves the cursor on the terminal
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_a_bar_disappears_after_an_error(monkeypatch):
    terminal = open_terminal(monkeypatch)
    with pytest.raises(KeyError), show_progress("first"):
        raise KeyError
    with show_progress("second"):
        time.sleep(0.3)
    assert "first" not in terminal.getvalue().partition("second")[2]


def test_work_is_a_line_without_a_terminal(capsys, monkeypatch):
    with show_progress("evaluating images", 9) as report:
        report(3)
        monkeypatch.setattr(progress, "PROGRESS_INTERVAL", 0.0)
        report(5)
    with show_progress("tiles", silent=True) as report:
        report(2, 8)
    assert capsys.readouterr().out == (
        "evaluating images ...\n"
        "evaluating images: 5 of 9 in 0.0 s\n"
        "tiles: 2 of 8 in 0.0 s\n"
    )


def test_items_are_counted_when_they_are_done(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PROGRESS_INTERVAL", 0.0)
    items = iterate_with_progress(iter("ab"), 2, "reading 2 pairs")
    assert next(items) == "a"
    assert capsys.readouterr().out == ""
    assert next(items) == "b"
    assert capsys.readouterr().out == "reading 2 pairs: 1 of 2 in 0.0 s\n"
    assert list(items) == []


@pytest.mark.parametrize("terminal", [False, True])
def test_only_the_first_process_shows_progress(capsys, monkeypatch, terminal):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(progress, "PROGRESS_INTERVAL", 0.0)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert list(iterate_with_progress("ab", 2, "reading")) == ["a", "b"]
    with show_progress("evaluating images", 9) as report:
        report(3, 9, note="x")
    assert capsys.readouterr().out == ""
