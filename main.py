"""Trains and judges a U-Net, and segments images with it.

python main.py --config=configs/isbi.py --config.steps=2000
python main.py --mode=evaluate --workdir=runs/isbi
python main.py --mode=predict --workdir=runs/isbi --input=images/ --output=labels/
"""

import signal
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from unet_jax import command

CONFIG = config_flags.DEFINE_config_file(
    "config",
    help_string="The run, a file of configs/, any field of which can be set as well: "
    "--config.steps=20. Without one: what --workdir holds, or the quickstart.",
    lock_config=False,  # a spec may name more than the file does; build.py judges
    accept_new_attributes=True,
)
WORKDIR = flags.DEFINE_string("workdir", None, "The run folder; runs/<config.name>.")
MODE = flags.DEFINE_enum(
    "mode", "train", ("train", "evaluate", "predict", "inspect"), "What to do."
)
INPUT = flags.DEFINE_string("input", None, "What to predict: a file, folder or glob.")
OUTPUT = flags.DEFINE_string("output", None, "The folder for predictions.")
ENSEMBLE = flags.DEFINE_list("ensemble", None, "More run folders to predict with.")


def main(_: list[str]) -> None:
    """Calls the verb that --mode names."""
    logging.set_verbosity(logging.WARNING)  # Orbax and JAX tell a lot
    config = CONFIG.value
    workdir = Path(WORKDIR.value or Path("runs") / config.name).expanduser()
    with command.at_once(), command.one_line():
        # late, so that --help and a typo are answered at once
        from unet_jax import parallel, run

        parallel.join()
        verb = command.with_flags(getattr(run, MODE.value), (INPUT, OUTPUT, ENSEMBLE))
        code = verb(config, workdir)
    sys.exit(code)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing to save yet: end at once
    configs = Path(__file__).resolve().parent / "configs"
    app.run(main, flags_parser=command.parser(configs))
