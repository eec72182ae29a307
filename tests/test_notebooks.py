"""The notebooks run in a clean kernel, and what is committed is the output of such a run.

The runs are slow tests; the others look at what is committed.

After a change in a notebook: `python tests/run_notebooks.py`.
"""

import base64
import io
import itertools
import re
import sys

import nbformat
import numpy as np
import pytest
from checks import wrong_calls
from nbclient.exceptions import CellExecutionError
from PIL import Image
from run_notebooks import NOTEBOOKS, execute

SE_BLOCK = "01_se_block.ipynb"
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|tmp|usr|opt|var|mnt|work|Users)/|\b[A-Z]:\\")
of_each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Runs a notebook once for all tests; returns it with the folder that it ran in."""
    runs = {}

    def run(path):
        if path not in runs:
            folder = tmp_path_factory.mktemp(path.stem)
            runs[path] = execute(path, folder), folder
        return runs[path]

    return run


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def printed(notebook):
    return "".join(o.text for o in outputs(notebook) if o.output_type == "stream")


def shown(notebook):
    """The text of displayed objects, such as progress bars."""
    return "".join(o.data.get("text/plain", "") for o in outputs(notebook) if "data" in o)


def wording(notebook):
    """The printed text without its numbers, which may differ between machines."""
    return re.sub(r"[\d.]+(e[+-]\d+)?", "#", printed(notebook))


def on_stderr(notebook):
    return [o.text for o in outputs(notebook) if o.get("name") == "stderr"]


def pictures_by_cell(notebook):
    """The decoded PNG pictures of each code cell."""
    return [
        [picture(o.data["image/png"]) for o in cell.outputs if "image/png" in o.get("data", {})]
        for cell in code_cells(notebook)
    ]


def picture(png):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("L"))


def write_notebook(path, *sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_there_are_notebooks():
    assert SE_BLOCK in [path.name for path in NOTEBOOKS]


@pytest.mark.slow
@of_each_notebook
def test_runs_without_a_word_on_stderr_and_leaves_nothing(path, executed):
    notebook, folder = executed(path)
    assert on_stderr(notebook) == []
    assert list(folder.iterdir()) == []


@pytest.mark.slow
@of_each_notebook
def test_draws_pictures(path, executed):
    notebook, _ = executed(path)
    pictures = list(itertools.chain(*pictures_by_cell(notebook)))
    assert pictures
    for drawn in pictures:
        assert min(drawn.shape) > 80
        assert len(np.unique(drawn)) > 16  # a blank figure has one gray


@pytest.mark.slow
@of_each_notebook
def test_the_committed_outputs_are_those_of_the_committed_code(path, executed):
    fresh, _ = executed(path)
    committed = nbformat.read(path, as_version=4)

    def kinds(notebook):
        return [sorted(kinds_of_one(cell)) for cell in code_cells(notebook)]

    def kinds_of_one(cell):
        # Text that is printed at two moments may come as one stream or as two.
        before = None
        for output in cell.outputs:
            if not output.output_type == before == "stream":
                yield output.output_type
            before = output.output_type

    counts = [cell.execution_count for cell in code_cells(committed)]
    assert counts == list(range(1, len(counts) + 1))
    assert kinds(committed) == kinds(fresh)
    assert wording(committed) == wording(fresh)
    drawn, again = pictures_by_cell(committed), pictures_by_cell(fresh)
    assert [len(pictures) for pictures in drawn] == [len(pictures) for pictures in again]


@of_each_notebook
def test_its_code_calls_what_there_is(path):
    """A quick check of names; the other tests run the notebooks."""
    cells = code_cells(nbformat.read(path, as_version=4))
    lines = "\n".join(cell.source for cell in cells).splitlines()
    assert wrong_calls("\n".join(line for line in lines if not line.startswith("%"))) == []


@of_each_notebook
def test_the_committed_file_is_clean_and_small(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert on_stderr(notebook) == []
    assert "error" not in {o.output_type for o in outputs(notebook)}
    assert not re.search("warning", printed(notebook) + shown(notebook), re.IGNORECASE)
    texts = [cell.source for cell in notebook.cells] + [printed(notebook)]
    assert [text for text in texts if MACHINE_PATH.search(text)] == []
    assert path.stat().st_size < 500_000


@pytest.mark.slow
def test_the_se_block_notebook_shows_what_its_text_says(executed):
    (path,) = (path for path in NOTEBOOKS if path.name == SE_BLOCK)
    text = printed(executed(path)[0])
    assert "same output: True" in text
    assert "same gate:   True" in text
    # Hu et al., arXiv 1709.01507: 2.5M added to ResNet-50 (section 4), without biases.
    assert "28,071,976 trainable parameters, 2,514,944 of them in 16 SE layers" in text
    wrong = [int(count) for count in re.findall(r"(\d+) of 450 test images wrong", text)]
    assert len(wrong) == 2
    assert max(wrong) < 23  # 95 %
    differences = re.findall(r"largest difference [a-z ]+: (\S+)", text)
    assert len(differences) == 2
    assert max(map(float, differences)) < 1e-5


@pytest.mark.slow
def test_runs_this_interpreter_with_tensorflow(tmp_path):
    path = write_notebook(
        tmp_path / "where.ipynb",
        "import sys, os\nprint(sys.executable, os.environ['KERAS_BACKEND'])",
    )
    assert printed(execute(path, tmp_path)).split() == [sys.executable, "tensorflow"]


@pytest.mark.slow
def test_a_warning_comes_out_and_an_error_fails(tmp_path):
    warns = write_notebook(tmp_path / "warns.ipynb", "import warnings\nwarnings.warn('look out')")
    assert "look out" in "".join(on_stderr(execute(warns, tmp_path)))
    fails = write_notebook(tmp_path / "fails.ipynb", "1 / 0")
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute(fails, tmp_path)
