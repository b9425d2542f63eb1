"""The command line: finds the config, parses the flags, explains mistakes in a line."""

import ast
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
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags import tuple_parser

from unet_jax.errors import UserError, find_nearest, suggest
from unet_jax.text import one_line, printable

CONFIGS = (Path(__file__).parent / "configs").resolve()
SAVED = CONFIGS / "saved.py"  # reads the config of a run folder
OWN_FLAGS = (  # those of __main__.py
    *("config", "workdir", "mode", "input", "output", "ensemble", "count", "trust"),
)
FLAGS = rf"--?(config[.\[].*|{'|'.join(OWN_FLAGS)})"
RUN = ("config.json", "checkpoints")  # a folder with one of these holds a run
LONGEST_LINE = 1000  # characters of an error
REWORDINGS = {
    "as a ConfigDict": "{0}={1}: this is a spec; write {0}.name={1}, or all of it, "
    "{0}=\"{{'name':'{1}'}}\"",
    "Non-boolean": "{0} must be True or False, not {1!r}",
    "for int()": "{0} must be a whole number, not {1!r}",
    "to float": "{0} must be a number, not {1!r}",
    "as tuple": "{0}={1}: not a Python tuple; check quotes and brackets",
}


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
    config_flags.register_flag_parser_for_type(tuple, _TupleParser())
    with report_user_errors():
        argv = _with_config(_joined(expand_flagfiles(argv)))
        sys.argv[:] = argv  # absl reads it
        try:
            rest = flags.FLAGS(argv)
            _check_tuples(argv)
        except UserError:
            raise
        except flags.UnrecognizedFlagError as error:
            raise UserError(_explain_unknown(error.flagname, argv)) from error
        except Exception as error:
            file, _ = split_argument(argv[1].split("=", 1)[-1])
            if line := _in_file(error, file) or _explain(error, argv):
                raise UserError(line) from error
            raise
        if len(rest) > 1:
            flag = "--" if "=" in rest[1] else "--config="
            raise UserError(
                f"unexpected argument {rest[1]!r}; did you mean {flag}{rest[1]}?"
            )
        return rest


class _TupleParser(tuple_parser.TupleParser):
    """The parser of tuples of ml_collections, which also takes words: `bg,fg`."""

    def parse(self, argument: Any) -> tuple:
        words = _split_words(argument) if isinstance(argument, str) else None
        return super().parse(argument) if words is None else words


def _split_words(text: str) -> tuple[str, ...] | None:
    """Splits `bg,fg` or `(bg,fg)`.

    Returns None if the text is a Python literal, or has quotes or brackets.
    """
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        bare = re.sub(r"^\((.*)\)$|^\[(.*,.*)\]$", r"\1\2", text.strip())
        words = [word.strip() for word in bare.removesuffix(",").split(",")]
        if bare == "" or (all(words) and not re.search("[\"'(){}]", bare)):
            return tuple(words) if bare else ()
    return None


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


def find_config(text: str) -> str:
    """Finds the file of a config.

    Args:
      text: the path of a Python file, or `isbi` or `configs/isbi.py` for a config that
        comes with this package. An argument of its `get_config` may follow after a
        colon: `saved:runs/isbi`.

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
        f"--config: {file} is neither a Python file nor the name of a config; "
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
        config = load(argument)
        if not isinstance(config, ConfigDict):
            # ml_collections keeps an OSError of the file until the config is used
            getattr(config, "name", None)
            raise UserError(
                f"{argument}: get_config() returned {type(config).__name__}, not "
                "ConfigDict; return a config, such as that of configs/base.py"
            )
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


def load_config(source: str) -> ConfigDict:
    """Returns the config of a file or of a config that comes with this package.

    Args:
      source: as in `find_config`.

    Raises:
      UserError: there is no such config.
    """
    file, argument = split_argument(find_config(source))
    names = runpy.run_path(file)
    if "get_config" not in names:
        raise UserError(f"{file} has no function get_config()")
    return names["get_config"](*([argument[1:]] if argument else []))


def name_config(source: str) -> str:
    """Returns 'configs/isbi.py', or 'saved:runs/isbi', or the path of a user's file."""
    file, argument = split_argument(find_config(source))
    if Path(file) == SAVED:
        return f"{SAVED.stem}{argument}"
    if file == f"{CONFIGS}/{Path(file).name}":
        file = f"configs/{Path(file).name}"
    return f"{file}{argument}"


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


def with_flags(mode: Callable, holders: Sequence[flags.FlagHolder]) -> Callable:
    """Passes the flags that are set to the keywords of the function of a mode.

    Raises:
      UserError: a required flag is missing, or the mode takes no such flag.
    """
    given = {h.name: h.value for h in holders if h.value}
    keywords = {
        name: keyword.default is keyword.empty
        for name, keyword in inspect.signature(mode).parameters.items()
        if keyword.kind == keyword.KEYWORD_ONLY
    }
    for name in given:
        if name not in keywords:
            raise UserError(f"--mode={mode.__name__} takes no --{name}")
    missing = [f"--{n}" for n, needed in keywords.items() if needed and n not in given]
    if missing:
        raise UserError(f"--mode={mode.__name__} also needs {' and '.join(missing)}")
    return functools.partial(mode, **given)


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
    if not named:
        workdir = next((a.split("=", 1)[1] for a in given if "-workdir=" in a), None)
        ran = workdir and _holds_run(Path(workdir).expanduser())
        config = f"saved:{workdir}" if ran else "quickstart"
    elif "=" in named[-1]:
        config = named[-1].split("=", 1)[1]
    else:
        return argv
    rest = (a for a in given if a not in named)
    return [program, f"--config={find_config(config)}", *rest]


def _field(argument: str) -> str | None:
    field = re.match(r"--?(config[.\[][^=]*)=", argument)
    return field and field[1]


def _check_tuples(argv: Sequence[str]) -> None:
    """Raises UserError if a field that is a tuple is set to a dict.

    ml_collections would take the keys of the dict for the elements.
    """
    config = getattr(flags.FLAGS, "config", None)
    for argument in argv:
        flag, _, text = argument.partition("=")
        field = re.fullmatch(r"--?config\.(\w+)(?:\.(\w+))?", flag)
        if not field or not re.match(r"[\s(]*{", text) or not config:
            continue
        value = config.get(field[1])
        value = value.get(field[2]) if field[2] and hasattr(value, "get") else value
        if isinstance(value, tuple) and not re.search(r",\s*\)\s*$|}\s*,", text):
            bare = text.strip().removeprefix("(").removesuffix(")")
            raise UserError(f'{flag} needs a tuple: {flag}="({bare},)"')


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


def _explain(error: Exception, argv: list[str]) -> str | None:
    """Rewords an exception of absl or ml_collections; None if it is not known."""
    text = " ".join(str(error.args[0] if error.args else error).split())
    paths = [a.split("=")[0] for a in argv if re.match(r"--?config[.\[]", a)]
    if wrong := re.search(r"get_config\(\) (missing|takes) .*", text):
        return (
            f"{argv[1]}: {wrong[0]}; an argument is written after a colon, "
            "--config=FILE.py:ARGUMENT"
        )
    if "'get_config'" in text:
        return f"{argv[1]} has no function get_config()"
    if whole := next((p for p in paths if p.endswith("]")), None):
        return (
            f"{whole}: an element cannot be set by itself; give the whole tuple, or a "
            "field of a spec, as in --config.loss[0].name=dice"
        )
    if isinstance(error, flags.Error):
        return _reword(text)
    if "tuple indices" in text:
        dotted = ", ".join(path for path in paths if "[" not in path)
        return f"{dotted}: is a tuple; name one element, as in --config.loss[0].name"
    if isinstance(error, IndexError):
        indexed = ", ".join(path for path in paths if "[" in path)
        return f"{indexed}: there is no such element; the first one is [0]"
    if not isinstance(error, AttributeError | KeyError | TypeError) or not paths:
        return None
    word = next(iter(re.findall(r"\w+", text)), "")
    path = next((p for p in paths if word in re.split(r"\W+", p)), None)
    if path is None:
        return f"{', '.join(paths)}: {text}"
    from unet_jax.build.fields import find_flag  # late: only a mistake needs it

    near = find_flag(re.sub(r"^--?config\.", "", path))
    hint = f"; did you mean {near}?" if near and near != path else ""
    return f"{path}: the config has no field {word!r}{hint}"


def _reword(text: str) -> str:
    """Rewords the message of absl for a value that it cannot parse."""
    flag = re.match(r"flag (--?config[.\[][^=]*)=(.*?): ", text)
    meant = next((m for words, m in REWORDINGS.items() if words in text), None)
    if not flag or not meant:
        return text
    if "ConfigDict" in text and flag[2].startswith("{"):
        return f"{flag[1]}={flag[2]}: not a Python dict; check quotes and braces"
    return meant.format(*flag.groups())
