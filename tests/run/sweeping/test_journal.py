"""Journals of sweeps whose last record is incomplete."""

import contextlib
import itertools
import os
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest

from tests.run.sweeping.parts import count_starts, make_sweep
from unet_jax.errors import UserError
from unet_jax.run.sweep import run_sweep
from unet_jax.run.sweeping.journal import BLOCK, open_journal, remove_incomplete_line


@pytest.mark.parametrize("line", [-1, -2, -3])
def test_a_sweep_continues_after_an_interrupted_write(
    stub, config, tmp_path, capsys, line
):
    """The last records are those of the end of a run, which a full disk can cut."""
    folder = tmp_path / "sweep"
    _, before = run_sweep(make_sweep(), config, folder)
    journal = folder / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:line]) + lines[line][:-20])
    for _ in range(2):
        code, results = run_sweep(make_sweep(), config, folder)
        assert code == 0
        assert [run.scores for run in results] == [run.scores for run in before]
    assert count_starts(results[0].folder) == 1  # its records are whole
    out = capsys.readouterr().out
    assert out.count("journal.log: removed an incomplete record at its end") == 1


def test_workers_read_on_after_a_record_was_removed(tmp_path):
    """A worker that has read the file before keeps its place in it."""
    path, number = tmp_path / "journal.log", itertools.count()
    first, second = (open_journal(optuna, path) for _ in range(2))

    def add(storage):
        name = f"study {next(number)}"
        storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], name)
        return [study.study_name for study in storage.get_all_studies()]

    assert add(first) == ["study 0"]
    with path.open("ab") as file:
        file.write(b'{"op_code":0,"wor')
    assert len(second.get_all_studies()) == 1  # it reads up to the incomplete record
    assert add(first) == ["study 0", "study 1"]
    assert add(second) == ["study 0", "study 1", "study 2"]
    assert len(open_journal(optuna, path).get_all_studies()) == 3


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
    os.utime(path, (1, 1))
    assert remove_incomplete_line(path) == (content != left)
    assert path.read_bytes() == left
    assert (path.stat().st_mtime == 1) == (content == left)


def test_records_that_another_worker_adds_meanwhile_are_kept(tmp_path, monkeypatch):
    """The lock of a worker that is silent for too long is broken."""
    path, open_file = tmp_path / "journal.log", Path.open
    path.write_bytes(b'{"a":1}\n{"b')

    @contextlib.contextmanager
    def open_and_add(path, mode):
        def read(size):
            found = file.read(size)
            with open_file(path, "ab") as other:
                other.write(b'":2}\n')
            return found

        with open_file(path, mode) as file:
            yield SimpleNamespace(seek=file.seek, read=read, truncate=file.truncate)

    monkeypatch.setattr(Path, "open", open_and_add)
    assert not remove_incomplete_line(path)
    monkeypatch.undo()
    assert path.read_bytes() == b'{"a":1}\n{"b":2}\n'


def test_a_file_that_is_no_journal_is_not_touched(tmp_path):
    path = tmp_path / "journal.log"
    path.write_text("my notes")
    with pytest.raises(UserError, match="journal.log is damaged .* restore it, or"):
        remove_incomplete_line(path)
    assert path.read_text() == "my notes"
