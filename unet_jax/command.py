"""The command line's manners: a mistake gets one line, and never a traceback."""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import flags

from unet_jax.errors import UserError, choices


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Prints a user's mistake in one line and exits with code 1."""
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        what = error.strerror or str(error)
        sys.exit(f"error: {what}: {error.filename}" if error.filename else what)
    except KeyboardInterrupt:
        sys.exit(130)


def parser(configs: Path) -> Callable[[list[str]], list[str]]:
    """A parser of `sys.argv` for `app.run`, which knows where the configs lie."""

    def parse(argv: list[str]) -> list[str]:
        with one_line():
            argv = sys.argv[:] = _with_config(argv, configs)  # ml_collections reads it
            try:
                rest = flags.FLAGS(argv)
            except flags.Error as error:
                raise UserError(f"{error}".replace("\n", " ")) from error
            except (AttributeError, IndexError, KeyError, TypeError) as error:
                raise UserError(_explain(error, argv)) from error
            if len(rest) > 1:
                raise UserError(
                    f"unexpected argument {rest[1]!r}; did you mean --config={rest[1]}?"
                )
            return rest

    return parse


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
        saved = workdir and (Path(workdir) / "config.json").exists()
        config = (
            f"{configs}/saved.py:{workdir}" if saved else f"{configs}/quickstart.py"
        )
        return [program, f"--config={config}", *given]
    if "=" not in named[-1]:
        return argv
    path = Path(re.split(r"(?<=\.py):", named[-1].split("=", 1)[1])[0])
    if path.suffix != ".py" or not path.is_file():
        there = [p.name for p in configs.glob("*.py")]
        raise UserError(
            f"--config: {path} is no Python file; {choices(path.name, there)}"
        )
    return [program, named[-1], *(a for a in given if a not in named)]


def _field(argument: str) -> str | None:
    field = re.match(r"--?(config[.\[][^=]*)=", argument)
    return field and field[1]


def _explain(error: Exception, argv: list[str]) -> str:
    """What ml_collections means by its exceptions for a field that is not there."""
    text = str(error.args[0] if error.args else error).replace("\\n", " ")
    word = next(iter(re.findall(r"\w+", text)), "")
    paths = [a.split("=")[0] for a in argv if re.match(r"--?config[.\[]", a)]
    path = next((p for p in paths if word in re.split(r"\W+", p)), None)
    if path is None:
        return f"{', '.join(paths)}: {text}"
    near = re.search(r'Did you mean "(\w+)"', text)
    hint = f"; did you mean {near[1]!r}?" if near else ""
    return f"{path}: the config has no field {word!r}{hint}"
