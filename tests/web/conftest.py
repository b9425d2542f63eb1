"""The page, served and opened in a headless browser."""

import contextlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.web import browser

WEB = Path(__file__).parents[2] / "web"
READY = (
    "document.querySelector('#busy')?.hidden && !!document.querySelector('#model dt')"
)


@pytest.fixture(scope="session")
def runtime():
    """Installs onnxruntime-web beside the page, or skips the test."""
    if not browser.find_browser():
        pytest.skip("no chromium")
    if (WEB / "node_modules/onnxruntime-web").is_dir():
        return
    if not shutil.which("npm"):
        pytest.skip("no npm, to install onnxruntime-web")
    words = ["npm", "ci", "--prefix", WEB, "--ignore-scripts", "--silent"]
    if subprocess.run(words, timeout=300).returncode:
        pytest.skip("npm cannot install onnxruntime-web: no network?")


@pytest.fixture(scope="session")
def serve(runtime):
    """A function that serves the page with a model, as a context with the address."""

    @contextlib.contextmanager
    def start(model):
        words = [sys.executable, WEB / "serve.py", "0", f"--model={model}"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            try:
                yield process.stdout.readline().split()[0]
            finally:
                process.terminate()

    return start


@pytest.fixture(scope="session")
def open_page(serve):
    """A function that opens the page with a model, as a context with the page."""

    @contextlib.contextmanager
    def start(model):
        with serve(model) as address, browser.open_page() as page:
            page.open(address)
            page.wait(READY)
            yield page
            assert page.faults == []

    return start


@pytest.fixture(scope="module")
def page(open_page):
    """The page with the model that is shipped."""
    with open_page(WEB / "model") as page:
        yield page


@pytest.fixture(scope="session")
def export_run(trained, tmp_path_factory):
    """A function that exports a run with some options; it returns `exported`."""
    for package in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"no {package}")
    from unet_jax.run.export import export

    def start(**options):
        config = trained[0].copy_and_resolve_references()
        config.export.update({"formats": ("web",), **options})
        config.predict.channels = "convert"
        output = tmp_path_factory.mktemp("exported") / "files"
        export(config, trained[1], output=str(output))
        return output / "web", trained[1]

    return start


@pytest.fixture(scope="session")
def exported(export_run):
    """The folder web/ of an exported run of semantic segmentation, and the run."""
    return export_run()
