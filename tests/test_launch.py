"""The Python that launch.sh chooses among fake interpreters."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("bash", "sh", "dirname", "basename", "sort", "head", "grep", "cat")
TOOLS += ("cksum", "touch", "env", "mkdir", "cp", "sleep")
PYTHON = """#!/bin/sh
case "$*" in
  *ensurepip*) test {works} = yes || exit 1; echo {version} ;;
  *"import uv"*) exit 1 ;;
  *"-m venv"*) echo "chosen: {version}"; exit 3 ;;
  *"version_info[:2]"*) echo {version} ;;
  *) exit {old} ;;
esac
"""
UV = """#!/bin/sh
case "$*" in
  "python find"*) test -e {folder}/installed && echo {folder}/managed ;;
  "python install"*) touch {folder}/installed ;;
  venv*) for last; do :; done; echo "uv: $*"; exit 3 ;;
esac
"""


@pytest.fixture
def tools(tmp_path):
    """Makes a folder with the programs that launch.sh needs, and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        (folder / name).symlink_to(shutil.which(name))
    return folder


@pytest.fixture
def launch(tools, tmp_path):
    """Makes fake interpreters, and returns the output and the code of launch.sh."""

    def write(path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def run(*, path=(), pyenv=(), broken=(), uv=None, **environment):
        for version in {*path, *broken, *pyenv}:
            old = int(int(version.split(".")[1]) < 11)
            works = "no" if version in broken else "yes"
            text = PYTHON.format(version=version, works=works, old=old)
            if version in pyenv:
                write(tmp_path / f"pyenv/versions/{version}.9/bin/python", text)
            else:
                write(tools / f"python{version}", text)
                write(tools / "python3", text)
        if uv:
            write(tools / "uv", UV.format(folder=tmp_path))
            text = PYTHON.format(version=uv, works="no", old=0)
            text = text.replace("*ensurepip*) test no = yes || exit 1;", "*none*)")
            write(tmp_path / "managed", text)
        done = subprocess.run(
            [ROOT / "launch.sh", "--help"],
            env={
                "PATH": str(tools),
                "HOME": str(tmp_path),
                "PYENV_ROOT": str(tmp_path / "pyenv"),
                "VENV": str(tmp_path / "venv"),
                **environment,
            },
            capture_output=True,
            text=True,
        )
        return done.stdout.splitlines(), done.stderr.splitlines(), done.returncode

    return run


def test_the_newest_python_with_a_lock_file_is_taken(launch):
    out, _, _ = launch(path=["3.10", "3.11", "3.13", "3.12"])
    assert out[-1] == "chosen: 3.13"
    assert not any("trains faster" in line for line in out)


def test_a_python_newer_than_all_lock_files_is_not_taken(launch):
    assert launch(path=["3.12", "3.99"])[0][-1] == "chosen: 3.12"


def test_pythons_of_pyenv_are_found(launch):
    assert launch(path=["3.11"], pyenv=["3.12"])[0][-1] == "chosen: 3.12"


def test_a_python_that_cannot_make_environments_is_passed_over(launch):
    assert launch(path=["3.12"], broken=["3.13"])[0][-1] == "chosen: 3.12"


def test_without_another_the_missing_package_is_named(launch):
    _, errors, code = launch(broken=["3.12"])
    assert code == 1
    assert errors == ["error: python3 has no ensurepip; install python3.12-venv, or uv"]


INSTALLING = """#!/bin/sh
case "$*" in
  *"version_info[:2]"*|*"import uv"*|*ensurepip*) echo 3.13 ;;
  *"-m venv"*) sleep 1; mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  *"pip install"*) echo installed >> {folder}/log ;;
esac
"""


@pytest.fixture
def start(tools, tmp_path):
    """Starts launch.sh with a fake interpreter that is slow to make an environment."""
    fake = tmp_path / "python"
    fake.write_text(INSTALLING.format(folder=tmp_path))
    fake.chmod(0o755)
    environment = {"PATH": str(tools), "HOME": str(tmp_path), "PYTHON": str(fake)}
    environment["VENV"] = str(tmp_path / "venv")
    started = []

    def launch():
        command = [ROOT / "launch.sh", "--config.steps=1"]
        options = {"stderr": subprocess.PIPE, "text": True, "env": environment}
        started.append(subprocess.Popen(command, **options))
        return started[-1]

    yield launch
    for process in started:
        process.kill()
        with process:  # waits, and closes its pipe
            pass


@pytest.mark.skipif(not shutil.which("flock"), reason="the flock command is missing")
def test_of_two_launches_at_the_same_time_one_installs(start, tools, tmp_path):
    (tools / "flock").symlink_to(shutil.which("flock"))
    launches = [start(), start()]
    assert [launch.wait(timeout=60) for launch in launches] == [0, 0]
    assert (tmp_path / "log").read_text().split() == ["installed"] * 2  # its two parts


def test_a_folder_without_locks_is_installed_in(start, tools, tmp_path):
    (tools / "flock").symlink_to(shutil.which("false"))
    launch = start()
    assert launch.wait(timeout=60) == 0
    warning = f"warning: {tmp_path}/venv/3.13.lock cannot be locked; start one launch"
    assert launch.communicate()[1].startswith(warning)
    assert (tmp_path / "log").read_text().split() == ["installed"] * 2


def test_the_variable_wins(launch):
    assert launch(path=["3.11", "3.13"], PYTHON="python3.11")[0][-1] == "chosen: 3.11"


def test_an_old_python_is_refused(launch):
    _, errors, code = launch(path=["3.10"])
    assert code == 1
    assert errors == [
        "error: python3 is Python 3.10; set PYTHON to one of at least 3.11"
    ]


def test_it_says_that_the_oldest_python_trains_more_slowly(launch):
    out, _, _ = launch(path=["3.11"])
    assert out[-1] == "chosen: 3.11"
    (line,) = [line for line in out if "trains faster" in line]
    assert line.startswith("Python 3.11 has jax==")


def test_uv_installs_the_newest_if_there_is_none(launch):
    out, _, _ = launch(path=["3.10"], uv="3.14")
    assert "--python" in out[-1]
    assert out[-1].split()[-2].endswith("/managed")
