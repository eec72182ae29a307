"""Write `report.html`: a page about a run in one file, with all pictures inside."""

import base64
import html
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from se_keras.support.tables import visible

# The number of shown rows of a table; the others are folded away.
SHOWN = 30
# The main metrics, and their names for people.
HEADLINES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "top5": "right class among five",
}

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2126; background: #fff;
  max-width: 62rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin-bottom: 0.2rem; }
h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #d5dae0; }
.figures { display: flex; flex-wrap: wrap; gap: 0.8rem; padding: 0; }
.figures div { flex: 1 1 11rem; background: #f2f5f8; border-radius: 0.5rem; padding: 0.7rem 1rem; }
.figures b { display: block; font-size: 1.7rem; line-height: 1.2; }
.quiet { color: #59636e; font-size: 0.9rem; }
.warning { background: #fff4d6; border-left: 0.3rem solid #c98a00; padding: 0.6rem 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
th { overflow-wrap: normal; }
th, td { text-align: left; padding: 0.25rem 0.8rem 0.25rem 0; border-bottom: 1px solid #e4e8ec;
  vertical-align: top; }
td { min-width: 3rem; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
img { max-width: 100%; height: auto; }
pre { background: #f2f5f8; padding: 0.7rem 1rem; border-radius: 0.5rem; white-space: pre-wrap; }
"""


def write_page(
    path: Path,
    content: Mapping[str, Any],
    *,
    folder: Path,
    warnings: Sequence[str],
    mistakes: Sequence[Sequence[Any]],
) -> None:
    """Write the page of a run.

    Args:
        path: path of the page.
        content: content of `report.json`.
        folder: folder of the run with its pictures.
        warnings: warnings about the results.
        mistakes: for each wrong answer on a test image the file, its class, the predicted class
            and its probability; the most confident first.
    """
    title = f"{content['model']} on {content['data']['name']}"
    parts = [
        _tag("h1", title),
        _headline(content),
        *(f'<p class="warning">{_text(warning)}</p>' for warning in warnings),
        _heading("How it was trained"),
        _training(content),
        _picture(folder / "curves.png", "Loss and accuracy over the epochs"),
        _heading("Results for each class, on the test images"),
        _classes(content),
        _heading("Confused classes"),
        _pairs(content["test"]["confused"]),
        _picture(folder / "confusion.png", "True class by predicted class of the test images"),
        _heading("The worst mistakes"),
        _picture(folder / "mistakes.png", "Test images with their class and the predicted one"),
        _mistakes(mistakes),
        _heading("Calibration of the probabilities"),
        _calibration(content),
        _heading("Settings"),
        _settings(content["settings"]),
        _heading("What to do next"),
        _next(folder),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,">{_tag("title", title)}<style>{STYLE}</style>'
    )
    body = "\n".join(parts)
    page = f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'
    path.write_text(page, "utf-8")


# --- the parts of the page -----------------------------------------------------------------------


def _headline(content: Mapping[str, Any]) -> str:
    test = content["test"]
    tiles = "".join(
        f"<div>{text}<b>{percent(test[name])}</b>"
        f'<span class="quiet">{between(test[f"{name}_interval"])}</span></div>'
        for name, text in HEADLINES.items()
        if name in test
    )
    intervals = _text(f"On {test['images']:,} test images. Intervals are {content['intervals']}.")
    return f'<div class="figures">{tiles}</div><p class="quiet">{intervals}</p>'


def _training(content: Mapping[str, Any]) -> str:
    epochs, data = content["epochs"], content["data"]
    early = " (the run stopped early)" if epochs["ended_early"] else ""
    choice = content["settings"]["choose"]
    why = "the best by validation" if choice == "best" else "the last one, as set"
    validation = content["validation"]
    return _paragraphs(
        f"{data['training_images']:,} training images, {data['validation_images']:,} validation "
        f"images to choose the epoch, {data['test_images']:,} test images for the results. "
        f"Parts: {data['split']}.",
        f"{epochs['trained']} epochs were trained{early}; epoch {epochs['chosen']} is kept, {why}. "
        f"Its accuracy is {percent(validation['accuracy'])} on the validation images, which were "
        f"used to choose it, and {percent(content['test']['accuracy'])} on the test images.",
    )


def _classes(content: Mapping[str, Any]) -> str:
    counts = {row["class"]: row for row in content["data"]["images_by_class"]}
    header = ["class", "trained on", "tested on", "recall", "", "precision", "", "F1"]
    rows = [
        [
            row["class"],
            counts[row["class"]]["train"],
            row["images"],
            *(cell for name in ("recall", "precision") for cell in _share_cells(row, name)),
            Number(f"{row['f1']:.3f}"),
        ]
        for row in sorted(content["test"]["by_class"], key=lambda row: row["f1"])
    ]
    note = "The worst class comes first. Recall: the share of a class' images that are recognized. "
    note += "Precision: the share of right answers among all answers for a class."
    return f'<p class="quiet">{_text(note)}</p>' + _table(header, rows)


def _share_cells(row: Mapping[str, Any], name: str) -> list[Any]:
    if row[name] is None:
        return [Number("never"), Number("")]
    return [Number(percent(row[name])), Number(between(row[f"{name}_interval"]))]


def _pairs(pairs: Sequence[Mapping[str, Any]]) -> str:
    if not pairs:
        return _paragraphs("Every test image was classified correctly.")
    rows = [
        [row["true"], row["predicted"], row["images"], Number(percent(row["share"]))]
        for row in pairs
    ]
    return _table(["class", "predicted class", "images", "share of the class"], rows)


def _mistakes(mistakes: Sequence[Sequence[Any]]) -> str:
    if not mistakes:
        return _paragraphs("There are no mistakes: the pictures show the least confident answers.")
    rows = [[*row[:3], Number(percent(row[3]))] for row in mistakes]
    return _table(["file", "class", "predicted class", "probability"], rows)


def _calibration(content: Mapping[str, Any]) -> str:
    fitted = content["calibration"]
    error = fitted["expected_calibration_error"]
    texts = [
        f"Its confidence and its accuracy on the test images differ by {percent(error)} on average "
        "(the expected calibration error)."
    ]
    if fitted["temperature"] is None:
        texts.append(
            "No temperature fits the validation images, probably because all answers are right."
        )
    else:
        texts.append(
            f"With logits divided by the temperature {fitted['temperature']:.2f}, which fits the "
            f"validation images best, it would be {percent(fitted['error_with_temperature'])}."
        )
    return _paragraphs(*texts)


def _settings(settings: Mapping[str, Any]) -> str:
    rows = [[name, "not set" if value is None else value] for name, value in settings.items()]
    return _table(["setting", "value"], [[name, str(value)] for name, value in rows])


def _next(folder: Path) -> str:
    run = shlex.quote(str(folder))
    commands = (
        f"se-keras predict {run} IMAGE",
        f"se-keras explain {run} --out explained",
        f"se-keras export {run} --format onnx",
    )
    files = "predictions.csv has the answer for each image, split.csv its part, report.json all "
    files += "results, history.csv the epochs."
    return f"<pre>{_text(chr(10).join(commands))}</pre>" + _paragraphs(files)


# --- words and tags ------------------------------------------------------------------------------


class Number(str):
    """Text that is right-aligned, like numbers."""

    __slots__ = ()


def percent(share: float) -> str:
    """Return a share in percent.

    Example:

    >>> percent(0.98641)
    '98.6 %'
    """
    return f"{share:.1%}".replace("%", " %")


def between(interval: Sequence[float]) -> str:
    """Return an interval of shares in percent.

    Example:

    >>> between([0.96779, 0.9943])
    '96.8 to 99.4 %'
    """
    low, high = interval
    return f"{100 * low:.1f} to {percent(high)}"


def _text(value: Any) -> str:
    """Escape a text: names of files and classes may have any characters."""
    return html.escape("\n".join(map(visible, str(value).split("\n"))))


def _tag(name: str, text: str) -> str:
    return f"<{name}>{_text(text)}</{name}>"


def _heading(text: str) -> str:
    return _tag("h2", text)


def _paragraphs(*texts: str) -> str:
    return "".join(_tag("p", text) for text in texts)


def _picture(path: Path, text: str) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    return f'<p><img alt="{_text(text)}" src="data:image/png;base64,{content}"></p>'


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    numeric = [isinstance(cell, int | Number) for cell in rows[0]] if rows else []
    head = _row("th", header, numeric)
    shown = _body(head, rows[:SHOWN], numeric)
    if len(rows) <= SHOWN:
        return shown
    rest = _body(head, rows[SHOWN:], numeric)
    return f"{shown}<details><summary>{len(rows) - SHOWN:,} more</summary>{rest}</details>"


def _body(head: str, rows: Iterable[Sequence[Any]], numeric: Sequence[bool]) -> str:
    lines = "".join(_row("td", row, numeric) for row in rows)
    return f'<div class="wide"><table><thead>{head}</thead><tbody>{lines}</tbody></table></div>'


def _row(tag: str, cells: Sequence[Any], numeric: Sequence[bool]) -> str:
    # A right-to-left name must not move the other cells.
    texts = (
        f'<{tag} class="number">{_cell(cell)}</{tag}>'
        if right
        else f"<{tag}><bdi>{_cell(cell)}</bdi></{tag}>"
        for cell, right in zip(cells, numeric or [False] * len(cells), strict=True)
    )
    return f"<tr>{''.join(texts)}</tr>"


def _cell(cell: Any) -> str:
    if cell is None:
        return ""
    return _text(f"{cell:,}" if type(cell) is int else cell)
