"""The command line: finds the config, parses the flags, explains mistakes in a line."""

import contextlib
import copy
import functools
import inspect
import os
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from unet_jax.build import overrides, sweep_file
from unet_jax.errors import UserError, find_nearest, suggest
from unet_jax.text import one_line, printable

CONFIGS = (Path(__file__).parent / "configs").resolve()
SAVED = CONFIGS / "saved.py"  # reads the config of a run folder
OWN_FLAGS = (  # those of __main__.py
    *("config", "workdir", "mode", "input", "output", "ensemble", "runs", "count"),
    *("workers", "trust"),
)
FLAGS = rf"--?(config[.\[].*|{'|'.join(OWN_FLAGS)})"
RUN = ("config.json", "checkpoints", "crossval.json")  # one is in a run folder
SWEEPS = "experiments/**/*.py"  # sweep files of a checkout, to suggest
LONGEST_LINE = 1000  # characters of an error


@contextlib.contextmanager
def report_user_errors() -> Iterator[None]:
    """Prints a mistake of the user in one line and exits with code 1."""
    try:
        yield
    except UserError as error:
        sys.exit("\n".join(map(_shorten, f"error: {error}".splitlines())))
    except MemoryError as error:
        reason = " ".join(str(error).split()) or "no more memory"
        sys.exit(f"error: {reason}; lower the sizes in the config or free memory")
    except OSError as error:
        what = error.strerror or str(error)
        name = f": {error.filename}" if error.filename else ""
        sys.exit(_shorten(f"error: {printable(what + name)}"))


def _shorten(line: str) -> str:
    """Leaves out the middle of a very long line."""
    if len(line) <= LONGEST_LINE:
        return line
    half = LONGEST_LINE // 2
    return f"{line[:half]} [...] {line[-half:]}"


@contextlib.contextmanager
def exit_immediately() -> Iterator[None]:
    """Ends the process on an exit or Ctrl-C, without waiting for its threads.

    Otherwise threads that read a damaged checkpoint or run compiled code would print
    their own errors after the line that matters.
    """
    try:
        yield
    except SystemExit as end:
        line, code = f"{end.code}\n", 1
    except KeyboardInterrupt:
        line, code = "", 130
    else:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(sys.stderr.fileno(), line.encode(errors="backslashreplace"))
    os._exit(code)


def parse(argv: list[str]) -> list[str]:
    """Parses `sys.argv` for `app.run`, and exits with one line at a mistake."""
    overrides.prepare_parser()
    with report_user_errors():
        argv = _with_config(_joined(expand_flagfiles(argv)))
        sys.argv[:] = argv  # absl reads it
        try:
            rest = flags.FLAGS(argv)
            overrides.check_tuples(argv, getattr(flags.FLAGS, "config", None))
        except UserError:
            raise
        except flags.UnrecognizedFlagError as error:
            raise UserError(_explain_unknown(error.flagname, argv)) from error
        except Exception as error:
            file, _ = split_argument(argv[1].split("=", 1)[-1])
            if line := _in_file(error, file) or overrides.explain(error, argv):
                raise UserError(line) from error
            raise
        if len(rest) > 1:
            flag = "--" if "=" in rest[1] else "--config="
            raise UserError(
                f"unexpected argument {rest[1]!r}; did you mean {flag}{rest[1]}?"
            )
        return rest


def expand_flagfiles(argv: list[str]) -> list[str]:
    """Returns the arguments with the flags that a file lists, for each --flagfile.

    Raises:
      UserError: a file cannot be read, or names itself.
    """
    try:
        return [argv[0], *flags.FLAGS.read_flags_from_files(argv[1:])]
    except (flags.Error, UnicodeDecodeError) as error:
        cause = error.__context__ or error
        reason = cause.strerror if isinstance(cause, OSError) else "is not text"
        given = next((a for a in argv if re.match(r"--?flagfile", a)), "--flagfile")
        line = f"{given}: {reason}; name a file that has one flag a line"
        raise UserError(line) from error


def find_config(text: str, field: str = "--config") -> str:
    """Finds the file of a config.

    Args:
      text: the path of a Python file, or `isbi` or `configs/isbi.py` for a config that
        comes with this package. An argument of its `get_config` may follow after a
        colon: `saved:runs/isbi`.
      field: the flag or the name with this value, for errors.

    Returns:
      The path of the file, and the argument as it was given.

    Raises:
      UserError: there is no such file.
    """
    file, argument = split_argument(text)
    if file.endswith(".py") and Path(file).is_file():
        return text
    names = {path.stem for path in CONFIGS.glob("*.py")} - {"__init__"}
    name = Path(file).stem
    if name in names and file in (name, f"configs/{name}.py"):
        return f"{CONFIGS}/{name}.py{argument}"
    names.remove(SAVED.stem)  # of no use without an argument
    raise UserError(
        f"{field}: {file} is neither a Python file nor the name of a config; "
        f"{suggest(name, names)}"
    )


def copy_loaded_configs(flag: flags.Flag) -> list[ConfigDict]:
    """Makes the parser of a config flag copy each config that it loads.

    A config file is executed only once, because it may print, download or draw.

    Args:
      flag: of `config_flags.DEFINE_config_file`, before it is parsed.

    Returns:
      The copies, without the overrides of the command line. The list is filled when
      the flag is parsed.
    """
    copies, load = [], flag.parser.parse

    def load_and_copy(argument: str) -> ConfigDict:
        # the fields of the command line are those of the base of a sweep
        sweeps = sweep_file.is_sweep_file(argument)
        config = _load_base(argument) if sweeps else load(argument)
        if not isinstance(config, ConfigDict):
            # ml_collections keeps an OSError of the file until the config is used
            getattr(config, "name", None)
        _check_is_config(config, argument)
        try:
            copies.append(copy.deepcopy(config))
        except TypeError as error:
            raise UserError(
                f"{argument}: the config has a value that cannot be copied "
                f"({one_line(error)}); use numbers, text, tuples and ConfigDicts"
            ) from error
        return config

    flag.parser.parse = load_and_copy
    return copies


def _load_base(path: str) -> ConfigDict:
    """Returns the config that a sweep file names."""
    base, place = sweep_file.read_sweep_file(path).base, f"{path}: base"
    source = find_config(base, place)
    file, _ = split_argument(source)
    if sweep_file.is_sweep_file(file):
        raise UserError(f"{place}: {base} is a sweep file, too; name a config")
    try:
        return load_config(source)
    except Exception as error:
        if line := _in_file(error, file):
            raise UserError(f"{place}: {line}") from error
        raise


def _check_is_config(config: Any, source: str) -> None:
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"{source}: get_config() returned {type(config).__name__}, not "
            "ConfigDict; return a config, such as that of configs/base.py"
        )


def load_config(source: str) -> ConfigDict:
    """Returns the config of a file or of a config that comes with this package.

    Args:
      source: as in `find_config`.

    Raises:
      UserError: there is no such config, or the file returns something else.
    """
    file, argument = split_argument(find_config(source))
    names = runpy.run_path(file)
    if "get_config" not in names:
        raise UserError(
            f"{file} has no function get_config(); define one that returns a ConfigDict"
        )
    config = names["get_config"](*([argument[1:]] if argument else []))
    _check_is_config(config, source)
    return config


def name_config(source: str) -> str:
    """Returns 'configs/isbi.py', or 'saved:runs/isbi', or the path of a user's file."""
    file, argument = split_argument(find_config(source))
    if Path(file) == SAVED:
        return f"{SAVED.stem}{argument}"
    if file == f"{CONFIGS}/{Path(file).name}":
        file = f"configs/{Path(file).name}"
    return f"{file}{argument}"


def check_mode(config: str, mode: str, workdir: str | None = None) -> None:
    """Checks that the values of --config and --workdir suit the mode.

    Args:
      config: the value of --config, after `find_config`.
      mode: the value of --mode.
      workdir: the value of --workdir.

    Raises:
      UserError: the config is a sweep file for another mode, or not one for a sweep; or
        the mode takes no run folder.
    """
    if mode == "compare" and workdir:
        raise UserError("--mode=compare takes no --workdir; name the runs in --runs")
    if sweep_file.is_sweep_file(config) == (mode == "sweep"):
        return
    name = name_config(config)
    if mode == "sweep":
        raise UserError(
            f"--mode=sweep needs a sweep file, with points() or space(), and {name} is "
            f"the config of one run; write a sweep file with base = {name!r}, as in "
            "docs/how-to/sweeps.md"
        )
    raise UserError(f"{name} is a sweep file; add --mode=sweep, or name a config")


def choose_workdir(config: str, name: str) -> Path:
    """Returns the default folder: `runs/<config.name>`.

    That of a sweep file is `runs/<folder>` for `<folder>/sweep.py`, such as
    `runs/nuclei` for `experiments/border_weight/nuclei/sweep.py`, and `runs/<stem>` for
    another name.
    """
    path = Path(config).resolve()
    if sweep_file.is_sweep_file(config):
        name = path.parent.name if path.stem == "sweep" else path.stem
    return Path("runs") / name


def split_argument(config: str) -> tuple[str, str]:
    """Splits the value of --config into the file or name, and `:argument` or ``."""
    match = re.fullmatch(r"(.+?\.py|\w+)(:.*)?", config, re.DOTALL)
    return (match[1], match[2] or "") if match else (config, "")


def find_run_folder(config: str) -> Path | None:
    """Returns the run folder that a config was read from; None for a file of the user.

    The config is the value of --config, after `find_config`.
    """
    file, argument = split_argument(config)
    workdir = Path(argument[1:]).expanduser()
    # another copy of the package has its own saved.py
    saved = Path(file).resolve() == SAVED or Path(file).name == SAVED.name
    return workdir if argument and saved and _holds_run(workdir) else None


def _holds_run(workdir: Path) -> bool:
    return any((workdir / name).exists() for name in RUN)


def with_flags(
    mode: Callable, holders: Sequence[flags.FlagHolder], **context: Any
) -> Callable:
    """Passes the flags that are set to the keywords of the function of a mode.

    Args:
      mode: the function.
      holders: the flags.
      **context: further values; the function gets those that it has keywords for.

    Raises:
      UserError: a required flag is missing, or the mode takes no such flag.
    """
    given = {h.name: h.value for h in holders if h.value}
    keywords = {
        name: keyword.default is keyword.empty
        for name, keyword in inspect.signature(mode).parameters.items()
        if keyword.kind == keyword.KEYWORD_ONLY
    }
    context = {name: value for name, value in context.items() if name in keywords}
    for name in given:
        if name not in keywords:
            raise UserError(f"--mode={mode.__name__} takes no --{name}")
    needed = [name for name, required in keywords.items() if required]
    missing = [f"--{name}" for name in needed if name not in {**given, **context}]
    if missing:
        raise UserError(f"--mode={mode.__name__} also needs {' and '.join(missing)}")
    return functools.partial(mode, **given, **context)


def _joined(argv: list[str]) -> list[str]:
    """Writes `--flag value` as `--flag=value`."""
    joined = argv[:1]
    for argument in argv[1:]:
        flag = re.fullmatch(FLAGS, joined[-1])
        if flag and "=" not in joined[-1] and not re.match(r"--?[a-z]", argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _with_config(argv: list[str]) -> list[str]:
    """Puts --config first, as its overrides need, and adds it if it is missing.

    The default is the config that --workdir holds, or else the quickstart.
    """
    program, *given = argv
    # a field that is set twice has the last value; ml_collections would join tuples
    given = list({_field(a) or (i, a): a for i, a in enumerate(given)}.values())
    named = [a for a in given if re.match(r"--?config(=|$)", a)]
    if not named and "--mode=sweep" in given:
        raise UserError(
            "--mode=sweep needs --config with a sweep file; to continue a sweep, name "
            "the file that it was started with"
        )
    if named and "--mode=compare" in given:
        raise UserError(
            "--mode=compare takes no --config; the configs are those of the runs in "
            "--runs"
        )
    if not named:
        workdir = next((a.split("=", 1)[1] for a in given if "-workdir=" in a), None)
        ran = workdir and _holds_run(Path(workdir).expanduser())
        config = f"saved:{workdir}" if ran else "quickstart"
    elif "=" in named[-1]:
        config = named[-1].split("=", 1)[1]
    else:
        return argv
    file = Path(split_argument(config)[0])
    if "--mode=sweep" in given and file.suffix == ".py" and not file.is_file():
        known = [
            f for f in map(str, Path().glob(SWEEPS)) if sweep_file.is_sweep_file(f)
        ]
        raise UserError(
            f"--config: there is no file {file}; name a sweep file; "
            f"{suggest(str(file), known)}"
        )
    rest = (a for a in given if a not in named)
    return [program, f"--config={find_config(config)}", *rest]


def _field(argument: str) -> str | None:
    field = re.match(r"--?(config[.\[][^=]*)=", argument)
    return field and field[1]


def _in_file(error: BaseException | None, file: str) -> str | None:
    """Line and message of an error in a config file; None if it is not in the file."""
    while error:
        if isinstance(error, UserError):  # its text names the file
            return str(error)
        if isinstance(error, SyntaxError) and Path(error.filename or "").is_file():
            return f"{error.filename}, line {error.lineno}: {error.msg}"
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if Path(frame.filename).resolve() == Path(file).resolve():
                text = " ".join(str(error).replace("\\n", " ").split())
                if getattr(error, "name", None) == "configs":
                    text += "; write 'from unet_jax.configs import ...'"
                return f"{file}, line {frame.lineno}: {type(error).__name__}: {text}"
        error = error.__cause__ or error.__context__
    return None


def _explain_unknown(name: str, argv: Sequence[str]) -> str:
    """Returns the error for a flag that does not exist, with the nearest one."""
    from unet_jax.build.fields import find_flag  # late: only a mistake needs it

    given = next((a for a in argv if re.match(rf"--?{name}(=|$)", a)), f"--{name}")
    value = given.partition("=")[1:]
    own = find_nearest(name, OWN_FLAGS)
    config = getattr(flags.FLAGS, "config", None)
    near = f"--{own}" if own else find_flag(name.removeprefix("config."), config)
    if near:
        return f"there is no flag --{name}; did you mean {near}{''.join(value)}?"
    return (
        f"there is no flag --{name}; --help lists the flags, and every field of the "
        "config is one: --config.steps=10"
    )
