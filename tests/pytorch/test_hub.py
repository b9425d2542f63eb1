"""Names of the Hugging Face Hub, without the network."""

import builtins
import time

import pytest

from unet_jax.errors import UserError
from unet_jax.pytorch import hub

NAME = "hub:owner/network"


@pytest.fixture(autouse=True)
def _empty_cache():
    hub.download.cache_clear()
    yield
    hub.download.cache_clear()


def test_only_names_with_the_prefix_are_those_of_the_hub():
    assert hub.is_name(NAME)
    assert not hub.is_name("owner/network")
    assert not hub.is_name("runs/hub")


def test_without_the_extra_the_error_names_it(monkeypatch):
    def refuse(name, *arguments, **keywords):
        if name.startswith("huggingface_hub"):
            raise ImportError(f"No module named {name!r}")
        return original(name, *arguments, **keywords)

    original = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match=r"pip install 'unet_jax\[hub\]'"):
        hub.download(NAME)


def test_without_network_it_is_one_line_within_seconds(monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(UserError) as caught:
        hub.download(NAME)
    assert time.monotonic() - start < 10
    assert "\n" not in str(caught.value)
    assert "the Hugging Face Hub cannot be reached; check the" in str(caught.value)


def test_only_the_weights_are_downloaded(monkeypatch, tmp_path):
    package = pytest.importorskip("huggingface_hub")
    asked = []

    def download(repository, file, **options):
        asked.append((repository, file, options["revision"]))
        return str(tmp_path / file)

    monkeypatch.setattr(package, "hf_hub_download", download)
    assert hub.download(f"{NAME}@v1") == tmp_path / "model.safetensors"
    assert asked == [("owner/network", "model.safetensors", "v1")]


@pytest.mark.parametrize("name", ["hub:network", "hub:", "hub:a/b/c"])
def test_other_names_are_refused(name):
    pytest.importorskip("huggingface_hub")
    with pytest.raises(UserError, match="write it as hub:OWNER/NAME"):
        hub.download(name)
