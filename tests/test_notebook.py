"""The output of notebook cells, and experiments/colab.ipynb from top to bottom."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from unet_jax import notebook
from unet_jax.errors import UserError
from unet_jax.progress import show_progress

ROOT = Path(__file__).parents[1]
COLAB = ROOT / "experiments/colab.ipynb"
TINY = "STEPS, SIZE, WIDTHS = 4, 32, (2, 4)"


class Kernel:
    """A Jupyter kernel: the number of its cell, and the HTML in all areas, now."""

    def __init__(self):
        self.kernel, self.execution_count, self.areas = self, 1, []

    def display(self, content, *, display_id):
        place = len(self.areas)
        self.areas.append(content)
        return SimpleNamespace(update=lambda new: self.areas.__setitem__(place, new))


@pytest.fixture
def kernel(monkeypatch):
    kernel = Kernel()
    ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: kernel
    display.HTML, display.display = str, kernel.display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(notebook, "_BARS", notebook._Bars())
    monkeypatch.setattr(notebook, "BAR_INTERVAL", 0.0)
    return kernel


def test_only_a_kernel_is_a_notebook(monkeypatch):
    assert not notebook.is_running()
    terminal = ModuleType("IPython")
    terminal.get_ipython = lambda: SimpleNamespace()
    monkeypatch.setitem(sys.modules, "IPython", terminal)
    assert not notebook.is_running()
    terminal.get_ipython = lambda: SimpleNamespace(kernel=object())
    assert notebook.is_running()


def test_a_notebook_shows_bars_below_each_other_and_removes_them(kernel, capsys):
    with show_progress("<reading>", 4) as outer:
        assert kernel.areas[0].count("<progress></progress>") == 1
        outer(0)
        outer(2, note="7 images/s")
        assert 'value="0.5000"' in kernel.areas[0]
        assert "&lt;reading&gt; 2/4  7 images/s  0.0 s left" in kernel.areas[0]
        with show_progress("tiles") as inner:
            inner(3)
            assert kernel.areas[0].index("reading") < kernel.areas[0].index("tiles 3")
        assert "tiles" not in kernel.areas[0]
    assert kernel.areas == [""]
    assert capsys.readouterr().out == ""
    kernel.execution_count += 1
    with show_progress("again"):
        assert "again" in kernel.areas[1]


def test_updates_of_a_bar_are_few(kernel, monkeypatch):
    monkeypatch.setattr(notebook, "BAR_INTERVAL", 60.0)
    with show_progress("training", 9) as report:
        first = kernel.areas[0]
        report(1)
        assert kernel.areas[0] == first


def test_a_page_is_shown_in_a_frame_of_its_own(kernel, tmp_path):
    (tmp_path / "page.html").write_text('<body style="x">&amp;</body>')
    notebook.show_page(tmp_path / "page.html", height=200)
    (frame,) = kernel.areas
    assert "height: 200px" in frame
    inside = 'srcdoc="&lt;body style=&quot;x&quot;&gt;&amp;amp;&lt;/body&gt;"'
    assert inside in frame


def test_a_mistake_is_one_line_in_a_notebook():
    shown = UserError("config.steps must be\x1b text\nand more")._render_traceback_()
    assert shown == ["error: config.steps must be\\x1b text", "error: and more"]


def read_colab():
    return json.loads(COLAB.read_text())


def test_the_notebook_is_saved_without_results():
    content = read_colab()
    assert content["metadata"].keys() == {"kernelspec", "language_info"}
    assert content["metadata"]["language_info"] == {"name": "python"}
    ids = [cell["id"] for cell in content["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in content["cells"]:
        parameters = cell["id"] == "parameters"
        assert cell["metadata"] == ({"tags": ["parameters"]} if parameters else {})
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


def test_the_notebook_has_short_cells_and_no_paths_of_a_machine():
    for cell in read_colab()["cells"]:
        text = "".join(cell["source"])
        assert len(text.splitlines()) <= 30, cell["id"]
        assert not re.search(r"(?<![\w./])/(home|root|tmp|work|Users)\b", text)
        if cell["cell_type"] == "code":
            assert "/content" not in text, "only Colab has this folder"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Jupyter
def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    nbclient, nbformat = map(pytest.importorskip, ("nbclient", "nbformat"))
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    book = nbformat.read(COLAB, as_version=4)
    nbformat.validate(book)
    cells = {cell.id: cell for cell in book.cells}
    place = book.cells.index(cells["parameters"]) + 1
    book.cells.insert(place, nbformat.v4.new_code_cell(TINY))
    mistake = nbformat.v4.new_code_cell("unet_jax.load_config('isby')")
    mistake.metadata.tags = ["raises-exception"]
    book.cells.append(mistake)
    client = nbclient.NotebookClient(
        book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()

    def find(name, kind):
        every = [output.get("data", {}) for output in cells[name].outputs]
        return [data[kind] for data in every if kind in data]

    def text(name):
        every = cells[name].outputs
        return "".join(o.text for o in every if o.get("name") == "stdout")

    every = [o for cell in book.cells for o in cell.get("outputs", [])]
    assert not [o for o in every if o.get("name") == "stderr"]
    assert text("typo") == "config has no field 'stepz'; did you mean config.steps?\n"
    for name in ("train", "own-train", "tune"):
        assert "step 4 " not in text(name)  # the figure shows the numbers
        *_, figure = find(name, "text/html")
        assert "<figcaption>loss" in figure
        assert "data:image/png" in figure
    assert "average_precision" in find("train", "text/html")[-1]
    assert "loaded " in text("tune")
    assert "no errors" in text("inspect")
    assert "iframe" in "".join(find("inspect", "text/html"))
    for name in ("predict", "reload"):
        assert find(name, "image/png")
    assert {path.name for path in (tmp_path / "runs").iterdir()} >= {
        *("cells", "cells.zip", "inspection", "mine", "my_images", "tuned"),
        "unpacked",
    }
    (error,) = mistake.outputs
    assert len(error.traceback) == 1
    assert error.traceback[0].startswith("error: --config: isby is neither")
