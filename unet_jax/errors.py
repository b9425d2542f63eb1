"""The exception for mistakes of the user, and helpers for its text."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator

from unet_jax.text import printable

SYNONYMS = {  # names of other programs, and those of this one
    **dict.fromkeys(("lr", "eta0", "base_lr"), "learning_rate"),
    **dict.fromkeys(("epoch", "epochs", "num_epochs", "n_epochs"), "steps"),
    **dict.fromkeys(("iters", "iterations", "max_iter", "max_steps"), "steps"),
    **dict.fromkeys(("bs", "batch", "batches", "minibatch"), "batch_size"),
    **dict.fromkeys(("wd", "decay", "l2"), "weight_decay"),
    **dict.fromkeys(("opt", "optim", "solver"), "optimizer"),
    **dict.fromkeys(("image_size", "img_size", "input_size", "patch_size"), "crop"),
    **dict.fromkeys(("num_classes", "n_classes", "class_names", "labels"), "classes"),
    **dict.fromkeys(("in_channels", "n_channels", "num_channels"), "channels"),
    **dict.fromkeys(("filters", "features", "base_filters"), "widths"),
    **dict.fromkeys(("workers", "num_workers", "n_workers"), "threads"),
    **dict.fromkeys(("fp16", "bf16", "amp", "dtype", "mixed_precision"), "precision"),
    **dict.fromkeys(("pretrained", "weights", "init_weights"), "init_from"),
    **dict.fromkeys(("random_seed", "random_state"), "seed"),
    **dict.fromkeys(("data_path", "data_root", "dataset_dir", "dir"), "root"),
    **dict.fromkeys(("image_dir", "img_dir", "images_dir", "imgs"), "images"),
    **dict.fromkeys(("mask", "mask_dir", "masks_dir", "label_dir", "gt"), "masks"),
    **dict.fromkeys(("run_dir", "log_dir", "logdir", "save_dir", "resume"), "workdir"),
    **dict.fromkeys(("out", "output_dir", "out_dir", "outdir"), "output"),
    **dict.fromkeys(("in", "source", "input_dir"), "input"),
}


class UserError(Exception):
    """A mistake that the user can correct.

    Its text is one line: what is wrong, in which file or field, and what to do. The
    command line prints it without a traceback and exits with code 1, and a notebook
    shows it without a traceback. Control characters in it, which names of files may
    have, are escaped.
    """

    def __init__(self, text: str) -> None:
        super().__init__(printable(text, keep="\n"))

    def _render_traceback_(self) -> list[str]:
        """Returns what IPython shows instead of a traceback."""
        return [f"error: {line}" for line in str(self).splitlines()]


def suggest(wrong: str, known: Iterable[str], *, field: str = "") -> str:
    """Returns the most similar known name and a list of all, as text for an error.

    `suggest('dyce', ['dice', 'iou'])` is `"did you mean 'dice'? available: dice, iou"`.
    If the names are keys of a field of the config, `field` is its name, and the most
    similar key is shown as the flag that sets it.
    """
    known = sorted(known)
    near = suggest_nearest(wrong, known, field=field)
    return f"{near}available: {', '.join(known) or 'none'}"


def suggest_nearest(wrong: str, known: Iterable[str], *, field: str = "") -> str:
    """Returns `"did you mean 'dice'? "`, or `""` if no known name is similar."""
    if not (near := find_nearest(wrong, known)):
        return ""
    flag = field == "config" or field.startswith("config.")
    return f"did you mean {f'--{field}.{near}' if flag else repr(near)}? "


def find_nearest(wrong: str, known: Iterable[str]) -> str:
    """Returns the known name that is equal in lower case, a synonym, or similar."""
    word, known = wrong.lower().replace("-", "_"), list(known)
    for name in (word, SYNONYMS.get(word)):
        if name in known:
            return name
    return next(iter(difflib.get_close_matches(word, known, n=1)), "")


@contextlib.contextmanager
def prefix_errors(place: str) -> Iterator[None]:
    """Adds a field or a file as prefix to a `UserError` that is raised inside."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{printable(place)}: {error}") from error
