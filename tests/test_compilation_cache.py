import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unet_jax import compilation_cache

ROOT = Path(__file__).parents[1]
# Compiles a program, and prints whether it came from the cache, and its result.
SCRIPT = """
import jax, jax.numpy as jnp
from unet_jax import compilation_cache
hits = []
jax.monitoring.register_event_listener(
    lambda name, **_: hits.append(name) if name.endswith("cache_hits") else None
)
compilation_cache.enable()
compilation_cache.enable()
x = jnp.linspace(0, 1, 4096).reshape(64, 64)
y = jax.jit(lambda x: jnp.sort(jnp.tanh(x @ x), axis=0).sum())(x)
print(len(hits) > 0, float(y).hex())
"""


@pytest.fixture
def start(tmp_path):
    """Runs the script, or another command, as a user who has set no folder."""

    def run(*command, **environment):
        names = ("JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS")
        inherited = {k: v for k, v in os.environ.items() if k not in names}
        return subprocess.run(
            [sys.executable, *(command or ("-c", SCRIPT))],
            env=inherited
            | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")}
            | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
            | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return run


def entries(folder):
    return [path for path in folder.rglob("*-cache") if path.is_file()]


@pytest.mark.skipif(sys.platform == "darwin", reason="its folder is ~/Library/Caches")
def test_a_second_start_compiles_nothing_and_a_damaged_entry_stops_nothing(
    start, tmp_path
):
    cold = start()
    assert cold.stderr == ""
    used, value = cold.stdout.split()
    assert used == "False"
    kept = entries(tmp_path / "cache/unet_jax/compiled")
    assert kept
    assert kept[0].parent.stat().st_mode & 0o077 == 0  # it holds code
    warm = start()
    assert (warm.stdout, warm.stderr) == (f"True {value}\n", "")
    for path in kept:
        path.write_bytes(path.read_bytes()[:100])
    damaged = start()
    assert (damaged.stdout, damaged.stderr) == (f"False {value}\n", "")


def test_a_folder_that_cannot_be_written_gives_one_line(start, tmp_path):
    (tmp_path / "file").touch()
    for name in ("XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
        done = start(**{name: str(tmp_path / "file/cache")})
        line, result = done.stdout.splitlines()
        assert line.startswith("warning: compiled programs cannot be kept in ")
        assert str(tmp_path / "file") in line
        assert "JAX_COMPILATION_CACHE_DIR" in line
        assert result.startswith("False ")
        assert (done.returncode, done.stderr) == (0, "")


def test_the_environment_chooses_the_folder_or_none(start, tmp_path):
    assert start(JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own")).returncode == 0
    assert entries(tmp_path / "own")
    assert start(JAX_ENABLE_COMPILATION_CACHE="0").returncode == 0
    assert not (tmp_path / "cache/unet_jax").exists()


def test_the_oldest_files_are_removed_above_a_size(tmp_path):
    for age, name in enumerate(("new", "middle", "old")):
        path = tmp_path / f"jaxlib-{age}/{name}-cache"
        path.parent.mkdir()
        path.write_bytes(bytes(100))
        os.utime(path, (1000 - age, 1000 - age))
    compilation_cache.remove_oldest(tmp_path, 300)
    assert len(entries(tmp_path)) == 3
    compilation_cache.remove_oldest(tmp_path, 299)
    assert {path.name for path in entries(tmp_path)} == {"new-cache", "middle-cache"}
    compilation_cache.remove_oldest(tmp_path, 0)
    assert not entries(tmp_path)


def test_each_kind_of_cpu_and_version_has_a_folder(monkeypatch):
    one = compilation_cache.find_folder()
    assert one == compilation_cache.find_folder()
    monkeypatch.setattr(compilation_cache, "describe_cpu", lambda: "another")
    other = compilation_cache.find_folder()
    assert one.parent == other.parent
    assert one.name != other.name


@pytest.mark.slow
def test_a_run_has_the_same_numbers_cold_and_warm(start, tmp_path):
    flags = ["--config=quickstart", "--config.steps=2", "--config.crop=16,16"]
    flags += ["--config.batch_size=2", "--config.model.widths=2,4"]
    flags += ["--config.data.shape=32,32", "--config.data.train=4"]
    flags += ["--config.data.val=2", "--config.data.test=2"]
    parameters = []
    for name in ("cold", "warm"):
        done = start("-m", "unet_jax", f"--workdir={name}", *flags)
        assert (done.returncode, done.stderr) == (0, "")
        script = (
            "import sys, unet_jax, numpy as np\n"
            "p = unet_jax.Predictor.load(sys.argv[1])\n"
            "x = np.arange(1024, dtype='f4').reshape(32, 32)\n"
            "np.save(sys.argv[1] + '.npy', p.probabilities(x))\n"
        )
        done = start("-c", script, name)
        assert (done.returncode, done.stderr) == (0, "")
        parameters.append(np.load(tmp_path / f"{name}.npy"))
    np.testing.assert_array_equal(*parameters)
