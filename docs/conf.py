"""The settings of the documentation site: `sphinx-build -W docs build/docs`."""

import importlib.metadata
import inspect
import shutil
from pathlib import Path

HERE = Path(__file__).parent
# Sphinx only reads files in its own folder.
shutil.copytree(
    HERE.parent / "notebooks",
    HERE / "notebooks",
    dirs_exist_ok=True,
    ignore=shutil.ignore_patterns(".*"),
)

project = "se_keras"
release = importlib.metadata.version("se_keras")
copyright = "the authors of se_keras"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["package_index.md"]
html_theme = "furo"
html_title = f"se_keras {release}"
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["tables.css"]

# The notebooks include the outputs of a run, which the tests compare with a new run.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

# Docstrings mark code with single backquotes.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Input and output shape", "Masks"]
napoleon_use_ivar = True
napoleon_attr_annotations = False  # they would show private modules of Keras
copybutton_exclude = ".linenos, .gp, .go"
copybutton_prompt_text = ">>> "


def escape_stars(app, what, name, obj, options, lines):
    """Keep stars in docstrings, as in `(N, *spatial, C)`: they never mean emphasis."""
    is_example = False
    for number, line in enumerate(lines):
        is_example = bool(line.strip()) and (is_example or line.lstrip().startswith(">>>"))
        if not is_example and "`" not in line:
            lines[number] = line.replace("*", r"\*")


def show_real_signature(app, what, name, obj, options, signature, returns):
    """Show the arguments of a layer, which Keras' own constructor hides."""
    if what != "class":
        return None
    parameters = [p.replace(annotation=p.empty) for p in inspect.signature(obj).parameters.values()]
    return str(inspect.Signature(parameters)), returns


def setup(app):
    app.connect("autodoc-process-signature", show_real_signature)
    app.connect("autodoc-process-docstring", escape_stars)
