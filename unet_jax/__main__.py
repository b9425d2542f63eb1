"""Trains and evaluates a U-Net, and segments images with it.

unet-jax --config=isbi --config.steps=2000
unet-jax --mode=evaluate --workdir=runs/isbi
unet-jax --mode=predict --workdir=runs/isbi --input=images/ --output=labels/

`python -m unet_jax`, and `python main.py` in a checkout, take the same flags.
"""

import signal
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from unet_jax import command

CONFIG = config_flags.DEFINE_config_file(
    "config",
    help_string="The config of the run: the name of one that comes with unet_jax, or a "
    "Python file. Sets fields as well: --config.steps=20. By default the config that "
    "--workdir holds, or the quickstart.",
    lock_config=False,  # a spec may have more keys than in the file; build/ checks them
    accept_new_attributes=True,
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "The run folder. Default: runs/<config.name>."
)
MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ("train", "evaluate", "predict", "sample", "inspect"),
    "What to do.",
)
INPUT = flags.DEFINE_string("input", None, "What to predict: a file, folder or glob.")
OUTPUT = flags.DEFINE_string(
    "output", None, "The folder for predictions or generated images."
)
ENSEMBLE = flags.DEFINE_list("ensemble", None, "More run folders to predict with.")
COUNT = flags.DEFINE_integer(
    "count", None, "The number of images for --mode=sample.", lower_bound=1
)
TRUST = flags.DEFINE_boolean(
    "trust",
    False,
    "Import the code that the config in a run folder names, 'package.module:function'. "
    "Use it only for run folders that you trust.",
)
OPTIONS = (INPUT, OUTPUT, ENSEMBLE, COUNT)  # each is used by some of the modes
SHOWN = (CONFIG, WORKDIR, MODE, *OPTIONS, TRUST)  # by --help


def main() -> None:
    """Parses the flags, calls what --mode names and exits with its code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing to save yet: end at once
    program = sys.modules["__main__"]
    program.__doc__ = program.__doc__ or __doc__  # the script unet-jax has none
    for flag in SHOWN:
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[flag.name])
    app.run(_run_mode, flags_parser=command.parse)


def _run_mode(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # Orbax and JAX log a lot
    config = CONFIG.value
    workdir = Path(WORKDIR.value or Path("runs") / config.name).expanduser()
    with command.exit_immediately(), command.report_user_errors():
        # late, so that --help and a typo are answered at once
        from unet_jax import parallel, run
        from unet_jax.run import run_folder

        file = config_flags.get_config_filename(flags.FLAGS[CONFIG.name])
        if source := command.find_run_folder(file):
            stored = run_folder.read_config(source)
            run_folder.check_trusted(stored, source, trust=TRUST.value, used=config)
        parallel.connect_processes()
        mode = command.with_flags(getattr(run, MODE.value), OPTIONS)
        code = mode(config, workdir)
    sys.exit(code)


if __name__ == "__main__":
    main()
