"""The server of the page, and `./launch.sh web`."""

import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVE = [sys.executable, str(ROOT / "web/serve.py")]


def run(*words, **environment):
    return subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


@pytest.fixture
def address():
    """The address of the page, served with the model that is shipped."""
    with subprocess.Popen([*SERVE, "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().split()[0]
        process.terminate()


def test_the_page_is_isolated_so_that_it_may_use_threads(address):
    with urllib.request.urlopen(f"{address}page.js") as answer:
        assert answer.headers["Content-Type"] == "text/javascript"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    with urllib.request.urlopen(f"{address}model/model.onnx") as answer:
        shipped = (ROOT / "web/model/model.onnx").read_bytes()
        assert answer.read() == shipped


@pytest.mark.parametrize("path", ["%2e%2e/setup.cfg", "model/%2e%2e/%2e%2e/setup.cfg"])
def test_files_outside_the_page_are_not_served(address, path):
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        urllib.request.urlopen(address + path)
    caught.value.close()


def test_a_folder_without_a_model_is_refused(tmp_path):
    done = run(*SERVE, f"--model={tmp_path}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: --model={tmp_path} has no model.onnx; name")
    assert done.stderr.count("\n") == 1
    (tmp_path / "model.onnx").touch()
    for text, missing in (("{", "that is JSON"), ("{}", "of the format 'web'")):
        (tmp_path / "model.json").write_text(text)
        done = run(*SERVE, f"--model={tmp_path}")
        assert done.returncode == 1
        assert f"has no model.json {missing}; name" in done.stderr


@pytest.mark.parametrize("word", ["port", "--models=a", "99999"])
def test_a_wrong_flag_is_one_line(word):
    done = run(*SERVE, word)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_a_port_that_is_in_use_is_refused(address):
    port = address.rstrip("/").split(":")[-1]
    done = run(*SERVE, port)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: port {port} cannot be used")
    assert done.stderr.count("\n") == 1


def test_a_missing_npm_is_named(tmp_path):
    for name in ("bash", "dirname", "grep", "sort", "head", "basename"):
        (tmp_path / name).symlink_to(shutil.which(name))
    copy = tmp_path / "copy"
    (copy / "web").mkdir(parents=True)
    shutil.copy(ROOT / "launch.sh", copy)
    shutil.copy(ROOT / "web/package-lock.json", copy / "web")
    done = run(copy / "launch.sh", "web", PATH=str(tmp_path), PYTHON=sys.executable)
    assert done.returncode == 1
    assert done.stderr.startswith("error: npm is missing")
    assert done.stderr.count("\n") == 1
