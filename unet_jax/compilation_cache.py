"""The cache of compiled programs, so that a second start does not compile again.

JAX writes each compiled program to a file of its compilation cache, and finds it again
by a hash of the program, the versions and the options. The cache is in the user's cache
folder, unless the user or the program around this package has chosen another folder.

docs/decisions/0027 says why there is a folder for each kind of CPU.
"""

import contextlib
import functools
import hashlib
import os
import platform
import tempfile
import warnings
from pathlib import Path

import jax
from jaxlib.version import __version__

from unet_jax.logs import warn
from unet_jax.text import one_line

with warnings.catch_warnings():  # in a notebook, tqdm asks for widgets
    warnings.filterwarnings("ignore", "IProgress not found")
    import pooch

ENABLED = "jax_enable_compilation_cache"  # options of JAX
DIRECTORY = "jax_compilation_cache_dir"
LIMIT = "jax_persistent_cache_min_compile_time_secs"
COMPILED = "compiled"  # in the folder of this package, in the user's cache folder
MAX_BYTES = 2**30  # of all files; a training step of quickstart has about 1 MB
MIN_SECONDS = 0.05  # of compilation; smaller programs are compiled again
CPU_LINES = ("model name", "flags", "CPU implementer", "CPU part", "Features")


@functools.cache
def enable() -> None:
    """Makes JAX keep the programs that this process compiles, and use those it kept.

    A folder that JAX_COMPILATION_CACHE_DIR or `jax.config` names is used as it is, and
    JAX_ENABLE_COMPILATION_CACHE=0 leaves the cache off. If several processes run
    together, only a folder that the user names is used: it must be one that they share.
    A folder that cannot be written gives a warning, once. Only the first call in a
    process has an effect.
    """
    if not getattr(jax.config, ENABLED):
        return
    # JAX goes on and compiles; a damaged entry is not the user's mistake
    warnings.filterwarnings("ignore", "Error reading persistent compilation")
    warnings.filterwarnings("once", "Error writing persistent compilation")
    given = getattr(jax.config, DIRECTORY)
    if "://" in (given or "") or (not given and jax.process_count() > 1):
        return
    folder = Path(given or find_folder())
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # it holds code
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        warn(
            f"compiled programs cannot be kept in {folder} ({one_line(error)}), so "
            "every start compiles them again; name a folder with "
            "JAX_COMPILATION_CACHE_DIR"
        )
        return
    if given:
        return
    jax.config.update(DIRECTORY, str(folder))
    if LIMIT.upper() not in os.environ:
        jax.config.update(LIMIT, MIN_SECONDS)
    remove_oldest(folder.parent, MAX_BYTES)


def find_folder() -> Path:
    """Returns the default folder of this version of JAX on this kind of CPU."""
    cpu = hashlib.sha256(describe_cpu().encode()).hexdigest()[:12]
    version = f"jaxlib-{__version__}-{cpu}"
    return Path(pooch.os_cache("unet_jax")) / COMPILED / version


def describe_cpu() -> str:
    """Returns the model and the instructions of the CPU, which JAX does not compare."""
    with contextlib.suppress(OSError):  # Linux
        first = Path("/proc/cpuinfo").read_text("utf-8", "replace").split("\n\n")[0]
        return "\n".join(x for x in first.splitlines() if x.startswith(CPU_LINES))
    return f"{platform.machine()} {platform.processor()}"


def remove_oldest(folder: Path, most: int) -> None:
    """Removes the oldest files below a folder until the others have `most` bytes.

    Another process may do the same at the same time.
    """
    files = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                stat = path.stat()
                files.append((stat.st_mtime, stat.st_size, path))
    size = sum(bytes_ for _, bytes_, _ in files)
    for _, bytes_, path in sorted(files):
        if size <= most:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        size -= bytes_
