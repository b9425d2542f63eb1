"""The versions that launch.sh installs, against the ranges of setup.cfg."""

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
SYSTEMS = {
    "linux": {"sys_platform": "linux", "platform_machine": "x86_64"},
    "macos": {"sys_platform": "darwin", "platform_machine": "arm64"},
}


def read_requirements():
    """The requirements of setup.cfg, with those of every extra."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    texts = [config["options"]["install_requires"]]
    texts += config["options.extras_require"].values()
    lines = "\n".join(texts).splitlines()
    return [Requirement(x) for x in lines if x.strip() and not x.startswith("#")]


def read_pins(path, system):
    """The versions in a lock file, by name, for the last Python of its version."""
    python = {
        "python_version": path.stem,
        "python_full_version": f"{path.stem}.99",
        "extra": "",
    }
    lines = path.read_text().splitlines()
    found = [Requirement(line) for line in lines if not line.startswith("#")]
    found = [r for r in found if not r.marker or r.marker.evaluate(system | python)]
    pins = {canonicalize_name(r.name): str(r.specifier) for r in found}
    assert len(pins) == len(found), "a package is pinned twice"
    return {name: Version(pin.removeprefix("==")) for name, pin in pins.items()}


def test_there_is_a_lock_file_for_every_python_that_is_tested():
    names = {path.stem for path in LOCKS}
    ci = (ROOT / ".ci/run").read_text()
    tested = set(re.search(r'SUPPORTED="(.*)"', ci)[1].split())
    locked = re.search(r"for minor in (.*); do", (ROOT / "launch.sh").read_text())[1]
    assert tested <= names == {f"3.{minor}" for minor in locked.split()}


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_a_lock_file_pins_every_requirement_inside_its_range(path, system):
    pins = read_pins(path, SYSTEMS[system])
    for requirement in read_requirements():
        version = pins[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, requirement
    # what belongs together: jaxlib and the plugin for GPUs are of the version of JAX
    parts = {"jaxlib", "jax-cuda12-plugin", "jax-cuda12-pjrt"}
    assert {pins[name] for name in parts} == {pins["jax"]}
    assert "libtpu" in pins
    gpu = [name for name in pins if name.startswith("nvidia-")]
    assert bool(gpu) == (system == "linux")


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_a_lock_file_names_packages_and_versions_alone(path):
    """No server, no path and no option of the machine that wrote it."""
    head, *lines = path.read_text().splitlines()
    assert head.startswith("# ")
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*( ; [\w '!<>=.()]+)?", line), line
