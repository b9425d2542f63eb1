"""Trains and evaluates a U-Net, and segments images with it.

unet-jax --config=isbi --config.steps=2000
unet-jax --mode=evaluate --workdir=runs/isbi
unet-jax --mode=predict --workdir=runs/isbi --input=images/ --output=labels/

`python -m unet_jax`, and `python main.py` in a checkout, take the same flags.
"""

import re
import signal
import sys
import textwrap
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from unet_jax import command

with command.report_user_errors():
    command.expand_flagfiles(sys.argv)  # the next line reads these files, too
CONFIG = config_flags.DEFINE_config_file(
    "config",
    help_string="The config of the run: the name of one that comes with unet_jax, or a "
    "Python file. Sets fields as well: --config.steps=20. By default the config that "
    "--workdir holds, or the quickstart.",
    lock_config=False,  # a spec may have more keys than in the file; build/ checks them
    accept_new_attributes=True,
)
ORIGINALS = command.copy_loaded_configs(flags.FLAGS[CONFIG.name])
WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "The run folder. Default: runs/<config.name>. Of a sweep: runs/<question> for "
    "experiments/<question>/sweep.py, and runs/<file> for other sweep files.",
)
MODE = flags.DEFINE_enum(
    "mode",
    "train",
    (
        *("train", "evaluate", "predict", "export", "sample", "inspect"),
        *("sweep", "crossval", "compare"),
    ),
    "What to do.",
)
INPUT = flags.DEFINE_string("input", None, "What to predict: a file, folder or glob.")
OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "The folder for predictions, images, exported files or the results of a sweep "
    "(default: its --workdir), or the page of a comparison (default: compare.html).",
)
ENSEMBLE = flags.DEFINE_list(
    "ensemble", None, "More run folders to predict, evaluate or export with."
)
RUNS = flags.DEFINE_list(
    "runs", None, "The run folders to compare: paths and globs, 'runs/a,runs/isbi-*'."
)
COUNT = flags.DEFINE_integer(
    "count", None, "The number of images for --mode=sample.", lower_bound=1
)
WORKERS = flags.DEFINE_integer(
    "workers",
    None,
    "The number of runs of a sweep, or of folds, at the same time.",
    lower_bound=1,
)
TRUST = flags.DEFINE_boolean(
    "trust",
    False,
    "Import the code that the config in a run folder names, 'package.module:function', "
    "and write to the folders that it names. Use it only for run folders that you "
    "trust.",
)
OPTIONS = (INPUT, OUTPUT, ENSEMBLE, RUNS, COUNT, WORKERS)  # each is for some modes
SHOWN = (CONFIG, WORKDIR, MODE, *OPTIONS, TRUST)  # by --help
HELP = {"--help", "-help", "-h", "-?", "--helpshort"}


def main() -> None:
    """Parses the flags, calls what --mode names and exits with its code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing to save yet: end at once
    if HELP & set(sys.argv[1:]):
        print(_usage())
        sys.exit(0)
    app.run(_run_mode, flags_parser=command.parse)


def _usage() -> str:
    """Returns the text of --help: examples, and the flags."""
    lines = [(sys.modules["__main__"].__doc__ or __doc__ or "").strip(), ""]
    for holder in SHOWN:
        flag = flags.FLAGS[holder.name]
        values = getattr(flag.parser, "enum_values", None)
        name = f"--{flag.name}={'|'.join(values)}" if values else f"--{flag.name}"
        words = re.sub("^<.*?>: ", "", flag.help or "")
        lines += [name, textwrap.indent(textwrap.fill(words, 84), "    ")]
    lines += ["--flagfile", "    A file of flags, one a line."]
    lines += ["", "Every field of a config is a flag, such as --config.steps=20;"]
    lines += ["unet_jax/build/fields.py describes all of them."]
    return "\n".join(lines)


def _run_mode(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # Orbax and JAX log a lot
    config = CONFIG.value
    with command.exit_immediately(), command.report_user_errors():
        # late, so that --help is answered at once, and a typo or a wrong path soon
        file = config_flags.get_config_filename(flags.FLAGS[CONFIG.name])
        command.check_mode(file, MODE.value, WORKDIR.value)
        workdir = Path(WORKDIR.value or command.choose_workdir(file, config.name))
        workdir = workdir.expanduser()
        if source := command.find_run_folder(file):
            from unet_jax.run import run_config

            stored = run_config.read_config(source)
            run_config.check_trusted(
                stored,
                source,
                trust=TRUST.value,
                used=config,
                predicts=MODE.value in ("predict", "export", "sample"),
            )
        from unet_jax.build import early_checks

        early_checks.check_command(
            config,
            MODE.value,
            workdir,
            input=INPUT.value,
            ensemble=ENSEMBLE.value or (),
        )
        from unet_jax import compilation_cache, parallel, run
        from unet_jax.run import provenance
        from unet_jax.run.sweeping.identity import check_origin

        if MODE.value not in ("sweep", "crossval"):  # runs are processes of their own
            parallel.connect_processes()
            compilation_cache.enable()
        name = command.name_config(file)
        fields = config_flags.get_override_values(flags.FLAGS[CONFIG.name])
        mode = command.with_flags(
            getattr(run, MODE.value), OPTIONS, source=name, given=fields
        )
        with provenance.use_config_source(name, ORIGINALS[-1]):
            check_origin()
            code = mode(config, workdir)
    sys.exit(code)


if __name__ == "__main__":
    main()
