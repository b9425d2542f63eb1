"""Journals of sweeps: damaged ones, those of strangers, and their locks."""

import contextlib
import itertools
import json
import os
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest

from tests.run.sweeping.parts import count_starts, make_sweep
from unet_jax.errors import UserError
from unet_jax.run.sweep import run_sweep
from unet_jax.run.sweeping import presence, study
from unet_jax.run.sweeping.journal import (
    BLOCK,
    Lock,
    open_journal,
    remove_incomplete_line,
)
from unet_jax.run.sweeping.plan import plan_sweep


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


@pytest.mark.parametrize(
    "line",
    [
        b"text",
        b"",
        b'{"op_code": "0", "worker_id": "a"}',
        b'{"op_code": 99, "worker_id": "a"}',
        b"[1]",
        b"[" * 5000,
    ],
)
def test_a_line_that_is_no_record_is_found_before_anything_is_appended(tmp_path, line):
    path = tmp_path / "journal.log"
    open_journal(optuna, path).create_new_study([optuna.study.StudyDirection.MINIMIZE])
    damaged = path.read_bytes() + line + b"\n"
    path.write_bytes(damaged)
    with pytest.raises(UserError, match="journal.log.* restore it, or choose another"):
        open_journal(optuna, path)
    assert path.read_bytes() == damaged


def change_record(path, old, new):
    """Replaces a text in a journal, as a stranger could."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"name":"low"', '"name":"../precious"', "cannot name a folder"),
        ('"name":"low"', '"name":"logs"', "has the name 'logs'"),
        ('"name":"low"', '"name":3', "is not valid"),
        ('"minutes":1.0', '"minutes":"long"', "is not valid"),
        ('"identity":{', '"identity":3,"other":{', "is damaged"),
    ],
)
def test_the_journal_of_a_stranger_is_checked(stub, config, tmp_path, old, new, reason):
    folder, precious = tmp_path / "sweep", tmp_path / "precious"
    precious.mkdir()
    run_sweep(make_sweep(), config, folder)
    change_record(folder / "journal.log", old, new)
    with pytest.raises(UserError, match=reason) as caught:
        run_sweep(make_sweep(), config, folder)
    assert "\n" not in str(caught.value)
    assert str(folder / "journal.log") in str(caught.value)
    assert precious.exists()


def test_the_fields_of_a_run_are_those_of_the_sweep_file(stub, config, tmp_path):
    """A journal could name code that a run would import."""
    sweep, folder = make_sweep(), tmp_path / "sweep"
    folder.mkdir()
    plan = plan_sweep(sweep, config, folder)
    with presence.announce(folder) as present:
        first = study.Study(plan, folder, present)
        evil = {"name": "low", "point": "low", "seed": None}
        evil["fields"] = {"loss": "({'name': 'evil:run'},)"}
        first._study.enqueue_trial({}, user_attrs=evil)
        claims = [first.claim() for _ in range(4)]
    taken = [claim for claim in claims if claim]
    assert sorted(claim.name for claim in taken) == ["high", "low"]
    for claim, run in zip(
        sorted(taken, key=lambda c: c.name), plan.runs[::-1], strict=True
    ):
        assert claim.fields == run.fields


def test_a_lock_that_others_have_broken_is_left_alone(tmp_path):
    first, second = (Lock(optuna, tmp_path / "sweep") for _ in range(2))
    file = tmp_path / "sweep.lock"
    first.acquire()
    file.unlink()  # after half a minute
    second.acquire()
    first.release()
    assert file.exists()
    second.release()
    assert not file.exists()
    second.release()


def test_a_record_that_took_too_long_to_write_is_no_error(tmp_path):
    path = tmp_path / "journal.log"
    storage = open_journal(optuna, path)
    fsync = os.fsync

    def stall(file):
        fsync(file)
        path.with_name("journal.log.lock").unlink()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", stall)
        storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "slow")
    assert json.loads(path.read_text())["study_name"] == "slow"
