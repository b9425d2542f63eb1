"""Answers of the command line to mistakes, parsed in this process."""

import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

from unet_jax import command
from unet_jax.build import sweep_file
from unet_jax.configs import isbi
from unet_jax.errors import UserError

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture
def parse(monkeypatch):
    """Parses arguments as the command line does, with flags of its own."""

    def parse(*arguments):
        argv = ["main.py", *arguments]
        monkeypatch.setattr(sys, "argv", argv)  # where ml_collections looks too
        values = flags.FlagValues()
        config = config_flags.DEFINE_config_file(
            "config",
            flag_values=values,
            lock_config=False,
            accept_new_attributes=True,
        )
        parse.originals = command.copy_loaded_configs(values["config"])
        flags.DEFINE_string("workdir", None, "", flag_values=values)
        flags.DEFINE_enum("mode", "train", ["train"], "", flag_values=values)
        flags.DEFINE_integer("count", None, "", 1, flag_values=values)
        flags.DEFINE_boolean("trust", False, "", flag_values=values)
        monkeypatch.setattr(flags, "FLAGS", values)
        sys.modules.pop("config_config", None)  # else the last file is still in it
        command.parse(argv)
        return config.value

    return parse


ISBI = f"--config={CONFIGS}/isbi.py"


def test_a_config_file_is_executed_once_and_its_own_values_are_kept(
    parse, tmp_path, capsys
):
    file = tmp_path / "mine.py"
    file.write_text(
        "from unet_jax.configs import isbi\n"
        "print('executed')\n"
        "def get_config():\n"
        "  print('called')\n"
        "  return isbi.get_config()\n"
    )
    changed = ("--config.steps=3", "--config.loss[0].name=dice", "--config.crop=28,28")
    config = parse(f"--config={file}", *changed)
    assert (config.steps, config.loss[0].name, config.crop) == (3, "dice", (28, 28))
    assert capsys.readouterr().out == "executed\ncalled\n"
    (original,) = parse.originals
    assert original.to_dict() == isbi.get_config().to_dict()
    assert original.loss[0].name == "cross_entropy"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return None", r"mine\.py: get_config\(\) returned NoneType, not ConfigDict"),
        ("return {}", r"mine\.py: get_config\(\) returned dict, not ConfigDict"),
        ("return ConfigDict({'tool': math})", r"mine\.py: .* cannot be copied \("),
        (
            "return open('none.txt')",
            r"mine\.py, line 4: FileNotFoundError: .*none",
        ),
    ],
)
def test_a_config_file_without_a_config_is_one_line(parse, tmp_path, body, words):
    file = tmp_path / "mine.py"
    file.write_text(
        "import math\n"
        "from ml_collections import ConfigDict\n"
        "def get_config():\n"
        f"  {body}\n"
    )
    with pytest.raises(SystemExit, match=words) as error:
        parse(f"--config={file}")
    assert "\n" not in str(error.value)


def test_every_override_of_the_manual(parse):
    config = parse(
        ISBI,
        "--config.steps=20",
        "--config.batch_size=2",
        "--config.crop=188,188",
        "--config.model.widths=8,16,32",
        "--config.optimizer.learning_rate=1e-3",
        "--config.loss[1].smooth=0.1",
        "--config.parallel={'name':'mesh','space':2}",
        "--config.augment=()",
    )
    assert config.steps == 20
    assert config.batch_size == 2
    assert config.crop == (188, 188)
    assert config.model.widths == (8, 16, 32)
    assert config.optimizer.learning_rate == 1e-3
    assert config.loss[1].smooth == 0.1
    assert config.parallel.to_dict() == {"name": "mesh", "space": 2}
    assert config.augment == ()


@pytest.mark.parametrize(
    ("text", "value"),
    {
        "bg,fg": ("bg", "fg"),
        "('bg','fg')": ("bg", "fg"),
        "'bg','fg'": ("bg", "fg"),
        "(bg, fg)": ("bg", "fg"),
        "[bg,fg]": ("bg", "fg"),
        "bg,fg,": ("bg", "fg"),
        "cell wall,1": ("cell wall", "1"),
        "down_[01]*,up/**": ("down_[01]*", "up/**"),
        "('one, two',)": ("one, two",),
        "'one, two'": ("one, two",),
        "bg": ("bg",),
        "bg,": ("bg",),
        "None,fg": ("None", "fg"),
        "1,2.5": (1, 2.5),
        "": (),
        "()": (),
    }.items(),
)
@pytest.mark.parametrize("field", ["data.classes", "freeze", "logs", "spacing"])
def test_every_tuple_takes_words_with_and_without_quotes(parse, field, text, value):
    config = parse(f"--config={CONFIGS}/folder.py", f"--config.{field}={text}")
    for key in field.split("."):
        config = config[key]
    assert config == value


def test_the_order_of_flags_does_not_matter(parse):
    config = parse("--config.steps=20", ISBI)
    assert (config.name, config.steps) == ("isbi", 20)


def test_a_spec_may_be_given_more_than_the_file_names(parse):
    config = parse(
        ISBI, "--config.loss[0].class_weights=1,2", "--config.optimizer.clip=0"
    )
    assert config.loss[0].class_weights == (1, 2)


def test_a_value_may_stand_apart_from_its_flag(parse, tmp_path):
    config = parse("--config", f"{CONFIGS}/isbi.py", "--config.optimizer.clip", "-1")
    assert (config.name, config.optimizer.clip) == ("isbi", -1)
    (tmp_path / "config.json").write_text('{"name": "mine"}')
    arguments = ("--workdir", str(tmp_path), "--count", "4", "--trust")
    assert parse(*arguments).name == "mine"
    assert (flags.FLAGS.count, flags.FLAGS.trust) == (4, True)
    parse(ISBI, "--trust", "false")
    assert not flags.FLAGS.trust


def test_a_file_of_flags(parse, tmp_path):
    inner, outer = tmp_path / "inner.txt", tmp_path / "outer.txt"
    inner.write_text(f"# a comment\n{ISBI}\n--config.steps=7\n")
    outer.write_text(f"--flagfile={inner}\n--config.crop=188,188\n")
    config = parse("--config.seed=3", f"--flagfile={outer}", "--config.batch_size=2")
    assert (config.name, config.steps, config.seed) == ("isbi", 7, 3)
    assert (config.crop, config.batch_size) == ((188, 188), 2)
    assert parse("--flagfile", str(inner), "--config.steps", "9").steps == 9
    assert parse("--config", "quickstart", f"--flagfile={outer}").name == "isbi"


def test_of_a_field_that_is_set_twice_the_last_counts(parse):
    config = parse(ISBI, "--config.crop=188,188", "--config.crop=204,204")
    assert config.crop == (204, 204)


def test_without_a_config_it_is_the_quickstart_or_what_workdir_holds(parse, tmp_path):
    assert parse().name == "quickstart"
    assert parse(f"--workdir={tmp_path}").name == "quickstart"
    from unet_jax.configs import isbi
    from unet_jax.run import run_folder

    ran = isbi.get_config()
    ran.steps = 7
    run_folder.write_config(tmp_path, ran, {})
    config = parse(f"--workdir={tmp_path}", "--config.seed=3")
    assert (config.name, config.steps, config.seed) == ("isbi", 7, 3)


def test_a_config_has_a_name_or_a_path(parse, tmp_path, monkeypatch):
    """From any folder; there a file wins over a config of the package with its path."""
    monkeypatch.chdir(tmp_path)
    for there in ("isbi", "configs/isbi.py", f"{CONFIGS}/isbi.py"):
        assert parse(f"--config={there}", "--config.steps=3").steps == 3
    mine = tmp_path / "configs/isbi.py"
    mine.parent.mkdir()
    mine.write_text(f"{HEAD}\n    config.name = 'mine'\n    return config\n")
    assert parse("--config=configs/isbi.py").name == "mine"
    assert parse(f"--config={mine}").name == "mine"
    assert parse("--config=isbi").name == "isbi"
    assert parse("--config", "isbi").name == "isbi"


def test_an_argument_of_a_config_follows_a_colon(parse, tmp_path):
    (tmp_path / "config.json").write_text('{"name": "ran"}')
    for config in ("saved", "configs/saved.py", f"{CONFIGS}/saved.py"):
        assert parse(f"--config={config}:{tmp_path}").name == "ran"


def test_the_run_folder_that_a_config_is_read_from(tmp_path, monkeypatch):
    """Whoever it is that reads it: another copy of the package has a saved.py too."""
    monkeypatch.chdir(CONFIGS.parent)
    (tmp_path / "config.json").touch()
    for file in ("configs/saved.py", f"{CONFIGS}/saved.py", "other/saved.py"):
        assert command.find_run_folder(f"{file}:{tmp_path}") == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    home = command.find_run_folder(f"configs/saved.py:~/{tmp_path.name}")
    assert home == tmp_path
    for file in (
        "configs/isbi.py",
        f"configs/isbi.py:{tmp_path}",
        "saved.py:not/there",
    ):
        assert command.find_run_folder(file) is None


HEAD = """from unet_jax.configs import base
def get_config():
    config = base.get_config()"""
MISTAKES = {
    "--config.loss[7].smooth=1": ["--config.loss[7].smooth", "no such element", "[0]"],
    "--config.crop[0]=64": ["--config.crop[0]", "whole tuple"],
    "--config.data={'name':'cells'": ["--config.data=", "quotes and braces"],
    "--config.name.x=3": ["--config.name.x: string indices"],
    "--config.new.key=1": ["--config.new.key", "no field 'new'"],
    "--config.steps=abc": ["--config.steps must be a whole number, not 'abc'"],
    "--count=two": ["--count must be a whole number, not 'two'"],
    "--count=0": ["--count must be a whole number of 1 or more, not '0'"],
    "--config.steps=8.5": ["--config.steps must be a whole number"],
    "--config.ema=x": ["--config.ema must be a number, not 'x'"],
    "--config.freeze=a,,b": ["--config.freeze=a,,b", "quotes and brackets"],
    "--config.freeze='a,b": ["--config.freeze='a,b", "quotes and brackets"],
    "--config.crop=(64,64": ["--config.crop=(64,64", "quotes and brackets"],
    "--config.model.residual=maybe": ["--config.model.residual must be True or False"],
    "--config.model=UNet": ["--config.model.name=UNet", "\"{'name':'UNet'}\""],
    "--confg.steps=8": ["there is no flag --confg.steps"],
    "--step=10": ["there is no flag --step; did you mean --config.steps=10?"],
    "--batch_size=4": ["did you mean --config.batch_size=4?"],
    "--batch-size=4": ["did you mean --config.batch_size=4?"],
    "--lr=1e-3": ["did you mean --config.optimizer.learning_rate=1e-3?"],
    "--epochs=3": ["did you mean --config.steps=3?"],
    "--smooth=3": ["did you mean --config.loss[1].smooth=3?"],
    "--work_dir=x": ["did you mean --workdir=x?"],
    "--foo": ["there is no flag --foo; --help lists the flags"],
    "--config.optimiser.name=sgd": ["did you mean --config.optimizer.name?"],
    "--config.loss={'name':'dice'}": ["tuple: --config.loss=\"({'name':'dice'},)\""],
    "--config.metrics=({'name':'iou'})": ["--config.metrics needs a tuple: "],
    "--mode=trian": ["--mode=trian", "train"],
    "--trust=maybe": ["--trust must be True or False, not 'maybe'"],
    "config.steps=3": ["did you mean --config.steps=3?"],
    "--config.augment.flip=1": ["--config.augment.flip: is a tuple"],
    "configs/isbi.py": ["unexpected", "did you mean --config=configs/isbi.py"],
    "--config=configs/isbbi.py": ["configs/isbbi.py", "did you mean 'isbi'", "folder"],
    "--config=isbi.pi": ["isbi.pi", "did you mean 'isbi'"],
    "--config=runs/isbi.py": ["runs/isbi.py is neither", "did you mean 'isbi'"],
}


@pytest.mark.parametrize("argument", MISTAKES)
def test_a_mistake_gets_one_line(parse, argument):
    with pytest.raises(SystemExit) as stop:
        parse(*([] if "config=" in argument else [ISBI]), argument)
    line = stop.value.code
    assert line.startswith("error: ")
    assert "\n" not in line
    for word in MISTAKES[argument]:
        assert word in line


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("    config.stepz.x = 3", "line 4: AttributeError: .*stepz"),
        ("    config.steps = int('x')", "line 4: ValueError: invalid literal"),
        ("    config.steps = (", "line 4: '\\(' was never closed"),
        ("    import not_there", "line 4: ModuleNotFoundError: .*not_there"),
        ("    raise ModuleNotFoundError(name='configs')", ".*unet_jax.configs import"),
    ],
)
def test_a_mistake_in_a_config_file_names_file_and_line(parse, tmp_path, body, words):
    file = tmp_path / "mine.py"
    file.write_text(f"{HEAD}\n{body}\n    return config\n")
    with pytest.raises(SystemExit, match=f"^error: {file}, {words}"):
        parse(f"--config={file}", "--config.steps=3")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps = 3", "has no function get_config"),
        ("def get_config(x):\n    return x", "missing 1 .*--config=FILE.py:ARGUMENT"),
    ],
)
def test_a_config_file_without_a_config_is_named(parse, tmp_path, text, words):
    file = tmp_path / "mine.py"
    file.write_text(text + "\n")
    with pytest.raises(SystemExit, match=f"^error: --config={file}.*{words}"):
        parse(f"--config={file}")


def test_an_argument_that_a_config_does_not_take(parse):
    with pytest.raises(SystemExit) as end:
        parse("--config=isbi:residual")
    assert end.value.code == (
        f"error: {ISBI}: get_config() takes no argument; leave out ':residual'"
    )


def test_an_error_of_the_system_gets_one_line(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(SystemExit) as stop, command.report_user_errors():
        (file / "runs").mkdir()
    assert stop.value.code == f"error: Not a directory: {file}/runs"


def test_flags_that_a_verb_takes_and_needs():
    def predict(config, workdir, *, input, ensemble=()):
        return input, ensemble

    def holders(**values):
        flag_values = flags.FlagValues()
        made = [
            flags.DEFINE_string(name, value, "", flag_values=flag_values)
            for name, value in values.items()
        ]
        flag_values.mark_as_parsed()
        return made

    verb = command.with_flags(predict, holders(input="a.png", ensemble=None))
    assert verb(None, None) == ("a.png", ())
    with pytest.raises(UserError, match="--mode=predict also needs --input"):
        command.with_flags(predict, holders(input=None, ensemble="b"))
    with pytest.raises(UserError, match="--mode=predict takes no --output"):
        command.with_flags(predict, holders(input="a.png", output="b"))


def test_control_characters_in_the_name_of_a_missing_file_are_escaped():
    with pytest.raises(SystemExit) as end, command.report_user_errors():
        raise FileNotFoundError(2, "No such file", "a\x1b[2J\nb.png")
    assert end.value.code == r"error: No such file: a\x1b[2J\nb.png"


def test_the_middle_of_a_long_line_is_left_out():
    with pytest.raises(SystemExit) as end, command.report_user_errors():
        raise UserError(f"a is {'x' * 10**6}; set it to 1")
    line = end.value.code
    assert line.startswith("error: a is xxx")
    assert line.endswith("xxx; set it to 1")
    assert " [...] " in line
    assert len(line) < 1100


def test_memory_that_cannot_be_had_is_one_line():
    with pytest.raises(SystemExit) as end, command.report_user_errors():
        np.empty(2**62, np.uint8)
    assert end.value.code == (
        "error: Unable to allocate 4.00 EiB for an array with shape "
        "(4611686018427387904,) and data type uint8; lower the sizes in the config or "
        "free memory"
    )


@pytest.mark.parametrize(
    ("config", "mode", "message"),
    [
        ("experiments/elastic/sweep.py", "train", "is a sweep file; add --mode=sweep"),
        (
            "isbi",
            "sweep",
            "--mode=sweep needs a sweep file.*with base = 'configs/isbi.py', as in",
        ),
    ],
)
def test_a_mode_and_a_file_that_do_not_fit(config, mode, message, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    file = command.find_config(config)
    with pytest.raises(UserError, match=message):
        command.check_mode(file, mode)
    command.check_mode(file, "sweep" if mode == "train" else "train")


def test_a_sweep_file_that_does_not_exist(parse, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    with pytest.raises(SystemExit) as end:
        parse("--mode=sweep", "--config=experiments/elastik/sweep.py")
    message, _, available = str(end.value.code).partition(" available: ")
    assert message == (
        "error: --config: there is no file experiments/elastik/sweep.py; name a sweep "
        "file; did you mean 'experiments/elastic/sweep.py'?"
    )
    questions = "border_weight/nuclei", "elastic"  # files of a question may be deeper
    sweeps = {f"experiments/{question}/sweep.py" for question in questions}
    assert sweeps <= set(available.split(", "))


@pytest.mark.parametrize(
    ("base", "content", "message"),
    [
        ("sweep.py", None, "sweep.py is a sweep file, too; name a config"),
        ("isbi_", None, "isbi_ is neither a Python file nor the name of a config; did"),
        ("base.py", "", "base.py has no function get_config()"),
        (
            "base.py",
            "\nx = 1/0",
            "base.py, line 2: ZeroDivisionError: division by zero",
        ),
        ("base.py", "def (", "base.py, line 1: invalid syntax"),
        (
            "base.py",
            "def get_config(): return 3",
            "base.py: get_config() returned int,",
        ),
    ],
)
def test_a_wrong_base_of_a_sweep(parse, tmp_path, monkeypatch, base, content, message):
    monkeypatch.chdir(tmp_path)
    sweep_file.read_sweep_file.cache_clear()
    Path("sweep.py").write_text(f"base = '{base}'\npoints = {{'a': {{}}}}")
    if content is not None:
        Path(base).write_text(content)
    with pytest.raises(SystemExit) as end:
        parse("--config=sweep.py")
    assert str(end.value.code).startswith(f"error: sweep.py: base: {message}")


def test_a_mode_without_its_config_and_with_one_that_it_cannot_use(parse):
    with pytest.raises(SystemExit) as end:
        parse("--mode=sweep", "--workdir=runs/grid")
    assert str(end.value.code) == (
        "error: --mode=sweep needs --config with a sweep file; to continue a sweep, "
        "name the file that it was started with"
    )
    with pytest.raises(SystemExit, match="--mode=compare takes no --config; the conf"):
        parse("--mode=compare", "--config=isbi")


def test_the_default_folder_of_a_sweep_is_named_after_its_question(tmp_path):
    for name, folder in (("q/sweep.py", "q"), ("q/widths.py", "widths")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("points = {}")
        assert command.choose_workdir(str(path), "quickstart") == Path("runs") / folder
    assert command.choose_workdir("isbi", "isbi") == Path("runs/isbi")
