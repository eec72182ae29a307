"""Execute notebooks in a clean kernel.

`python tests/run_notebooks.py` executes all in place; `python tests/run_notebooks.py 03` executes
those whose names begin with 03. Run it after a change in a notebook: the committed outputs come
from such a run.
"""

import os
import sys
import sysconfig
import tempfile
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
# TensorFlow greets on file descriptor 2 when it is imported, whatever TF_CPP_MIN_LOG_LEVEL says
# (github.com/tensorflow/tensorflow/issues/100442). Without the capture that stays in the terminal;
# what Python writes to `sys.stderr`, such as a warning, still comes out in the notebook.
KERNEL_ARGUMENTS = ["--IPKernelApp.capture_fd_output=False"]


def execute(notebook, folder):
    """Runs a notebook in `folder` with the running interpreter; returns it with its outputs.

    Raises `nbclient.exceptions.CellExecutionError`, with the traceback, if a cell fails.
    """
    # Without directories to search, the kernel "python3" is the one of this interpreter.
    specs = KernelSpecManager(kernel_dirs=[])
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
    client = NotebookClient(
        nbformat.read(notebook, as_version=4),
        km=manager,
        timeout=None,
        record_timing=False,
        extra_arguments=KERNEL_ARGUMENTS,
    )
    with tempfile.TemporaryDirectory() as scratch:
        return client.execute(cwd=str(folder), env=_environment(scratch), cleanup_kc=True)


def _environment(scratch):
    """No IPython profile of the user, no plot window; temporary files go with `scratch`."""
    kept = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    return {**kept, "IPYTHONDIR": scratch, "TMPDIR": scratch, "KERAS_BACKEND": "tensorflow"}


def main(beginnings):
    for notebook in NOTEBOOKS:
        if not notebook.name.startswith(beginnings or ("",)):
            continue
        with tempfile.TemporaryDirectory() as folder:
            executed = execute(notebook, folder)
        beside = notebook.with_suffix(".part")
        # A warning names the file that it comes from, wherever the packages are.
        text = nbformat.writes(executed).replace(sysconfig.get_path("purelib") + os.sep, "")
        beside.write_text(text.rstrip() + "\n", encoding="utf-8")
        os.replace(beside, notebook)
        print(f"{notebook.name}: {notebook.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(tuple(sys.argv[1:]))
