"""Brings a network of another program in: `python -m unet_jax.convert`.

python -m unet_jax.convert unet.pth --output=runs/imported
python -m unet_jax.convert nnUNetTrainer__nnUNetPlans__2d/fold_0 --output=runs/nnunet
python -m unet_jax --mode=predict --workdir=runs/nnunet --input=images/ --output=labels/

The file is a checkpoint of PyTorch or a safetensors file. docs/how-to/import.md lists
the networks that are recognised.
"""

import argparse
import ast
import sys
from pathlib import Path
from typing import Any, NoReturn

from absl import logging

from unet_jax import command
from unet_jax.errors import UserError


class _Parser(argparse.ArgumentParser):
    """A parser that reports a mistake as the other commands do."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help shows examples")


def spec(text: str) -> dict[str, Any]:
    """Converts a name, or a dict as Python writes it, to a spec."""
    if not text.startswith("{"):
        return {"name": text}
    # argparse reports a ValueError; deep nesting is a MemoryError or a RecursionError
    try:
        value = ast.literal_eval(text)
        str(value)  # fails for integers of more than 4,300 digits
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(text) from error
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError(text)
    if not _has_names(value):
        raise ValueError(text)
    return value


def _has_names(value: Any) -> bool:
    """Returns True if all keys are text without dots, as a config needs them."""
    if isinstance(value, dict):
        named = all(isinstance(key, str) and "." not in key for key in value)
        return named and all(map(_has_names, value.values()))
    return all(map(_has_names, value)) if isinstance(value, list | tuple) else True


def main() -> None:
    """Parses the arguments and writes the run folder."""
    parser = _Parser(
        prog="python -m unet_jax.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="FILE", help="a checkpoint, or a folder")
    parser.add_argument("--output", required=True, help="the run folder, a new one")
    parser.add_argument(
        "--normalize",
        type=spec,
        help="the normalisation of images, as config.normalize: standard, or "
        "{'name':'percentile','low':0.5}",
    )
    parser.add_argument(
        "--classes", default="", help="names by id, the background first: 'none,cell'"
    )
    parser.add_argument(
        "--task",
        default="",
        choices=("semantic", "multilabel"),
        help="multilabel: several outputs are independent classes, a sigmoid each, and "
        "the background has no output; semantic: they exclude each other",
    )
    logging.set_verbosity(logging.WARNING)  # Orbax and JAX log a lot
    with command.exit_immediately(), command.report_user_errors():
        arguments = parser.parse_args()
        source = Path(arguments.source).expanduser()
        if not source.exists():
            raise UserError(f"{source} does not exist; name a checkpoint or a folder")
        # late, so that --help and a wrong path are answered at once
        from unet_jax.run.conversion import convert_weights

        names = [name.strip() for name in arguments.classes.split(",") if name.strip()]
        output = Path(arguments.output).expanduser()
        convert_weights(
            source,
            output,
            normalize=arguments.normalize,
            classes=names,
            task=arguments.task,
        )
    sys.exit(0)


if __name__ == "__main__":
    main()
