"""The command line's manners: a mistake gets one line, and never a traceback."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import flags

from unet_jax.errors import UserError, choices

RUN = ("config.json", "checkpoints")  # what shows that a folder holds a run
MISTAKES = (AttributeError, IndexError, KeyError, TypeError)  # how ml_collections errs
MEANINGS = {
    "as a ConfigDict": "{0}={1}: this is a spec; write {0}.name={1}, or all of it, "
    "{0}=\"{{'name':'{1}'}}\"",
    "Non-boolean": "{0} must be True or False, not {1!r}",
    "for int()": "{0} must be a whole number, not {1!r}",
    "to float": "{0} must be a number, not {1!r}",
}


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Prints a user's mistake in one line and exits with code 1."""
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        what = error.strerror or str(error)
        name = f": {error.filename}" if error.filename else ""
        sys.exit(f"error: {what}{name}")


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Ends the process where an exit or Ctrl-C asks for it, whatever its threads do.

    Left to Python, threads that still read a damaged checkpoint or run compiled code
    would have their say after the line that matters.
    """
    try:
        yield
    except SystemExit as end:
        print(end.code, file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    else:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def parser(configs: Path) -> Callable[[list[str]], list[str]]:
    """A parser of `sys.argv` for `app.run`, which knows where the configs lie."""

    def parse(argv: list[str]) -> list[str]:
        with one_line():
            argv = sys.argv[:] = _with_config(_joined(argv), configs)  # read there too
            try:
                rest = flags.FLAGS(argv)
            except (*MISTAKES, flags.Error) as error:
                raise UserError(_explain(error, argv)) from error
            if len(rest) > 1:
                raise UserError(
                    f"unexpected argument {rest[1]!r}; did you mean --config={rest[1]}?"
                )
            return rest

    return parse


def _joined(argv: list[str]) -> list[str]:
    """`--flag value` as `--flag=value`."""
    joined = argv[:1]
    for argument in argv[1:]:
        flag = re.fullmatch(r"--?(config|config[.\[].*|workdir|mode)", joined[-1])
        if flag and "=" not in joined[-1] and not re.match(r"--?[a-z]", argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _with_config(argv: list[str], configs: Path) -> list[str]:
    """Puts --config first, where its overrides need it, and finds one if none is given.

    Without one it is the config that --workdir holds, or else the quickstart.
    """
    program, *given = argv
    # of a field that is set twice the last value counts; a tuple would grow instead
    given = list({_field(a) or (i, a): a for i, a in enumerate(given)}.values())
    named = [a for a in given if re.match(r"--?config(=|$)", a)]
    if not named:
        workdir = next((a.split("=", 1)[1] for a in given if "-workdir=" in a), None)
        ran = workdir and any((Path(workdir) / n).exists() for n in RUN)
        config = f"{configs}/saved.py:{workdir}" if ran else f"{configs}/quickstart.py"
        return [program, f"--config={config}", *given]
    if "=" not in named[-1]:
        return argv
    path = Path(re.split(r"(?<=\.py):", named[-1].split("=", 1)[1])[0])
    if path.suffix != ".py" or not path.is_file():
        there = [f"{configs.name}/{p.name}" for p in configs.glob("*.py")]
        wanted = f"{configs.name}/{path.stem}.py"
        raise UserError(f"--config: {path} is no Python file; {choices(wanted, there)}")
    return [program, named[-1], *(a for a in given if a not in named)]


def _field(argument: str) -> str | None:
    field = re.match(r"--?(config[.\[][^=]*)=", argument)
    return field and field[1]


def _explain(error: Exception, argv: list[str]) -> str:
    """What absl and ml_collections mean by their exceptions, in one line."""
    text = " ".join(str(error.args[0] if error.args else error).split())
    if isinstance(error, flags.Error):
        flag = re.match(r"flag (--?[^=]+)=(.*?): ", text)
        meant = next((m for words, m in MEANINGS.items() if words in text), None)
        return meant.format(*flag.groups()) if flag and meant else text
    paths = [a.split("=")[0] for a in argv if re.match(r"--?config[.\[]", a)]
    if isinstance(error, IndexError):
        indexed = ", ".join(path for path in paths if "[" in path)
        return f"{indexed}: there are not so many; the first one is [0]"
    word = next(iter(re.findall(r"\w+", text)), "")
    path = next((p for p in paths if word in re.split(r"\W+", p)), None)
    if path is None:
        return f"{', '.join(paths)}: {text}"
    return f"{path}: the config has no field {word!r}"
