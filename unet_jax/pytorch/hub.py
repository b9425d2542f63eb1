"""Downloads weights from the Hugging Face Hub by the name of their repository.

Only `model.safetensors` is downloaded, a file that holds no code. It stays in the cache
of `huggingface_hub`, so that it is downloaded once.
"""

import functools
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from unet_jax.errors import UserError
from unet_jax.text import one_line

PREFIX = "hub:"
FILE = "model.safetensors"
SECONDS = 5  # to wait for an answer


def is_name(source: str) -> bool:
    """Returns True for a name such as 'hub:timm/resnet34.a1_in1k'."""
    return source.startswith(PREFIX)


@functools.cache  # several checks of a run ask for the same file
def download(source: str) -> Path:
    """Returns the path of the weights of a repository, which it downloads if necessary.

    Args:
      source: 'hub:OWNER/NAME', or 'hub:OWNER/NAME@REVISION'.

    Raises:
      UserError: huggingface_hub is not installed, the Hub cannot be reached, or it has
        no such file.
    """
    try:
        import huggingface_hub  # pyright: ignore[reportMissingImports]
        from huggingface_hub.errors import (  # pyright: ignore[reportMissingImports]
            EntryNotFoundError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise UserError(
            f"needs a package that is not installed ({one_line(error)}); run pip "
            "install 'unet_jax[hub]', or name a file"
        ) from error
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    name, _, revision = source.removeprefix(PREFIX).partition("@")
    if name.count("/") != 1:
        raise UserError(f"write it as {PREFIX}OWNER/NAME, not {source!r}")
    get = functools.partial(
        huggingface_hub.hf_hub_download, name, FILE, revision=revision or None
    )
    try:
        try:
            return Path(get(local_files_only=True))
        except LocalEntryNotFoundError:
            _check_reachable(huggingface_hub.constants.ENDPOINT, name)
            return Path(get(etag_timeout=SECONDS))
    except LocalEntryNotFoundError as error:
        raise _report_unreachable(name) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise UserError(
            f"the Hugging Face Hub has no {name}; check the name and the revision"
        ) from error
    except EntryNotFoundError as error:
        raise UserError(
            f"{name} has no {FILE}; name a repository that has one, or a file"
        ) from error
    except HFValidationError as error:
        raise UserError(
            f"{name!r} is no name of a repository ({one_line(error)}); write "
            f"{PREFIX}OWNER/NAME"
        ) from error
    except OSError as error:
        raise UserError(
            f"{name} cannot be downloaded ({one_line(error)}); try again, or download "
            f"its {FILE} elsewhere and name the file"
        ) from error


def _check_reachable(endpoint: str, name: str) -> None:
    """Raises UserError if the Hub does not answer; huggingface_hub retries for long."""
    request = urllib.request.Request(endpoint, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=SECONDS).close()
    except urllib.error.HTTPError:
        return  # an answer, though to another question
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _report_unreachable(name) from error


def _report_unreachable(name: str) -> UserError:
    return UserError(
        "the Hugging Face Hub cannot be reached; check the network, or download "
        f"{FILE} of {name} elsewhere and name the file"
    )
