"""Journals of sweeps whose last record is incomplete."""

import pytest

from tests.run.sweeping.parts import count_starts, make_sweep
from unet_jax.errors import UserError
from unet_jax.run.sweep import run_sweep
from unet_jax.run.sweeping.journal import BLOCK, remove_incomplete_line


@pytest.mark.parametrize("cut", [1, 40, 300])
def test_a_sweep_continues_after_an_interrupted_write(
    stub, config, tmp_path, capsys, cut
):
    """The last records are those of the end of a run, which a full disk can cut."""
    folder = tmp_path / "sweep"
    _, before = run_sweep(make_sweep(), config, folder)
    journal = folder / "journal.log"
    journal.write_bytes(journal.read_bytes()[:-cut])
    for _ in range(2):
        code, results = run_sweep(make_sweep(), config, folder)
        assert code == 0
        assert [run.scores for run in results] == [run.scores for run in before]
    assert count_starts(results[0].folder) == 1  # its records are whole
    out = capsys.readouterr().out
    assert out.count("journal.log: removed an incomplete record at its end") == 1


@pytest.mark.parametrize(
    ("content", "left"),
    [
        (b"", b""),
        (b'{"a":1}\n', b'{"a":1}\n'),
        (b'{"a":1}\n{"b', b'{"a":1}\n'),
        (b'{"a":1}\n\0\0', b'{"a":1}\n'),
        (b'{"a', b""),
        (b'{"a":1}\n{"' + b"b" * 3 * BLOCK, b'{"a":1}\n'),
    ],
)
def test_what_follows_the_last_line_break_is_removed(tmp_path, content, left):
    path = tmp_path / "journal.log"
    path.write_bytes(content)
    assert remove_incomplete_line(path) == (content != left)
    assert path.read_bytes() == left


def test_a_file_that_is_no_journal_is_not_touched(tmp_path):
    path = tmp_path / "journal.log"
    path.write_text("my notes")
    with pytest.raises(UserError, match="journal.log is damaged .* restore it, or"):
        remove_incomplete_line(path)
    assert path.read_text() == "my notes"
