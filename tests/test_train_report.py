"""Test the results of a run: metrics, pictures, and the page in a real browser."""

import io
import os
import shutil

import numpy as np
import pytest
from checks import real_browser
from PIL import Image
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest
from sklearn import metrics as reference

from se_keras.support.plotting import show_names
from se_keras.train import metrics, page, pictures, report
from se_keras.train.progress import Progress


def answers(classes, count, seed=0, sharpness=2.0):
    """Labels, each class at least once, and probabilities that are often right."""
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), generator.integers(0, classes, count - classes)])
    logits = generator.normal(size=(count, classes))
    logits[np.arange(count), labels] += sharpness
    powers = np.exp(logits)
    return labels, powers / powers.sum(axis=1, keepdims=True)


# --- figures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "count"), [(2, 9), (5, 60), (30, 200)])
def test_figures_are_those_of_scikit_learn(classes, count):
    labels, probabilities = answers(classes, count)
    names = [f"class {n}" for n in range(classes)]
    found = metrics.measure(labels, probabilities, names, seed=0)
    taken = probabilities.argmax(axis=1)
    precision, recall, f1, support = reference.precision_recall_fscore_support(
        labels, taken, labels=range(classes), zero_division=0
    )
    near = {"abs": 5e-5}
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, taken), **near)
    balanced = reference.balanced_accuracy_score(labels, taken)
    assert found["balanced_accuracy"] == pytest.approx(balanced, **near)
    assert found["macro_f1"] == pytest.approx(f1.mean(), **near)
    for row, *expected in zip(found["by_class"], precision, recall, f1, support, strict=True):
        figures = [row["precision"] or 0, row["recall"], row["f1"], row["images"]]
        assert figures == pytest.approx(expected, **near)
    assert (found["by_class"][0]["precision"] is None) == (0 not in taken)
    if classes == 30:
        top = reference.top_k_accuracy_score(labels, probabilities, k=5)
        assert found["top5"] == pytest.approx(top, **near)
    else:
        assert "top5" not in found


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (3, 7), (50, 50), (359, 1000)])
def test_the_interval_of_a_share_is_wilsons(hits, count):
    expected = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    found = [float(end) for end in metrics.wilson(np.array(hits), np.array(count))]
    assert found == pytest.approx([expected.low, expected.high], abs=1e-12)


def covered(name, truth, draws=200):
    """Return how often an interval contains the truth, over many test sets of unequal classes."""
    hits = 0
    for seed in range(draws):
        generator = np.random.default_rng(seed)
        labels = np.repeat([0, 1, 2], [40, 15, 8])
        right = generator.random(len(labels)) < np.array([0.9, 0.7, 0.6])[labels]
        taken = np.where(right, labels, (labels + 1) % 3)
        figures = metrics.measure(labels, np.eye(3)[taken], ["a", "b", "c"], seed=0)
        low, high = figures[f"{name}_interval"]
        hits += low <= truth <= high
    return hits / draws


def test_intervals_of_unequal_classes_hold_the_truth():
    """Within what 200 draws can tell: 95 % of them are 190, give or take 6 (two sigma)."""
    assert covered("balanced_accuracy", (0.9 + 0.7 + 0.6) / 3) >= 0.92
    # Of the expected counts, by hand: hits 36, 10.5, 4.8; predicted 36 + 3.2, 10.5 + 4, 4.8 + 4.5.
    f1 = [2 * 36 / (40 + 39.2), 2 * 10.5 / (15 + 14.5), 2 * 4.8 / (8 + 9.3)]
    assert covered("macro_f1", np.mean(f1)) >= 0.88


def test_calibration_is_that_of_the_definition():
    labels, probabilities = answers(4, 500, sharpness=1.0)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    error = 0.0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert metrics.calibration_error(labels, probabilities) == pytest.approx(error, abs=1e-12)


def test_the_temperature_makes_the_labels_likeliest():
    labels, probabilities = answers(4, 300, sharpness=1.5)
    too_sure = metrics.with_temperature(probabilities, 1 / 3)

    def surprise(temperature):
        cooled = np.exp(np.log(too_sure) / temperature)
        cooled /= cooled.sum(axis=1, keepdims=True)
        return -np.log(cooled[np.arange(300), labels]).mean()

    expected = minimize_scalar(surprise, bounds=(0.1, 20), method="bounded").x
    found = metrics.fit_temperature(labels, too_sure.astype("float32"))
    assert found == pytest.approx(expected, rel=1e-3)
    assert metrics.fit_temperature(labels, np.eye(4)[labels]) is None


# --- progress ------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(stream):
    """Return the output of a run of three epochs: one of 16 seconds (7 to compile), two of 3."""
    now, history = [0.0], []
    progress = Progress(3, 6, history, stream, lambda: now[0])
    for epoch, step in enumerate((1.5, 0.5, 0.5)):
        progress.on_epoch_begin(epoch)
        for batch in range(6):
            now[0] += step + 7 * (epoch == batch == 0)
            progress.on_train_batch_end(batch, {"loss": 1.25})
        row = {"loss": 1 / (epoch + 1), "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.6}
        history.append(row | {"images_per_second": 1691.3, "waiting_for_input": 0.2 * (epoch > 0)})
        progress.on_epoch_end(epoch)
    return stream.getvalue()


def test_a_log_file_gets_a_line_for_each_epoch():
    assert shown(io.StringIO()).splitlines() == [
        "Epoch 1 of 3: loss 1.0000, accuracy 50.0%; validation 1.0000, 60.0% (the best so far); "
        "1,691 images/s; 18 s left",
        "Epoch 2 of 3: loss 0.5000, accuracy 50.0%; validation 1.0000, 60.0%; 1,691 images/s, 20% "
        "of the time waiting for them; 3 s left",
        "Epoch 3 of 3: loss 0.3333, accuracy 50.0%; validation 1.0000, 60.0%; 1,691 images/s, 20% "
        "of the time waiting for them",
    ]


def test_the_time_left_of_a_stage_is_not_that_of_the_run():
    """The next stage trains more layers, at another speed."""
    now, stream = [0.0], io.StringIO()
    row = {"loss": 1, "accuracy": 1, "val_loss": 1, "val_accuracy": 1, "waiting_for_input": 0}
    progress = Progress(9, 2, [row | {"images_per_second": 5}], stream, lambda: now[0], end=3)
    progress.on_epoch_begin(0)
    now[0] = 4.0
    progress.on_epoch_end(0)
    assert stream.getvalue().endswith("; 8 s left of this stage\n")


def test_a_terminal_gets_a_bar_that_becomes_that_line(monkeypatch):
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((60, 24)))
    lines = shown(Terminal()).splitlines(keepends=True)
    drawn = [line for text in lines for line in text.split("\r")]
    assert "Epoch 2 of 3 [##########----------] 50%, loss 1.2500; 14 s left"[:59] in drawn
    assert max(len(line) for line in drawn if "[" in line) <= 59
    plain = shown(io.StringIO()).splitlines()
    assert [line.rstrip() for line in drawn if line.endswith("\n")] == plain


# --- pictures ------------------------------------------------------------------------------------


def width_of(path):
    with Image.open(path) as image:
        return image.width


@pytest.mark.parametrize("classes", [2, 100, pytest.param(1000, marks=pytest.mark.slow)])
def test_confusion_is_drawn_whatever_the_classes_are_called(classes, tmp_path):
    odd = ["$1_ {", "猫", "a\nb", "x\u202etxt", "فيل", "हाथी", "🐘", "long " * 20, "\\udcff"]
    names = [f"{odd[n % len(odd)]} {n}" for n in range(classes)]
    generator = np.random.default_rng(0)
    counts = generator.integers(0, 30, (classes, classes))
    counts[generator.random(counts.shape) < 0.9] = 0
    pictures.draw_confusion(counts, names, tmp_path / "confusion.png")
    # 100 names need their lines: at least 20 pixels each.
    assert width_of(tmp_path / "confusion.png") >= {2: 500, 100: 2000, 1000: 2000}[classes]


def test_a_name_uses_a_font_that_has_it_or_is_escaped():
    (dagger, _), fonts = show_names(["ꟸ⦁", "cat"])  # in DejaVu Sans the one, in STIX the other
    assert len(fonts) > 1 or "\\u" in dagger
    names, _ = show_names(["\U0010fffd", "a\tb", "x\u202ey"])
    assert names == ["\\U0010fffd", "a\\tb", "x\\u202ey"]


@pytest.mark.parametrize("wrong", [0, 1, 30])
def test_the_surest_mistakes_are_drawn_first(wrong, tmp_path):
    labels, _ = answers(3, 40)
    taken = labels.copy()
    taken[:wrong] = (labels[:wrong] + 1) % 3
    probabilities = np.full((40, 3), 0.1)
    probabilities[np.arange(40), taken] = 0.5 + np.linspace(0, 0.3, 40)
    worst, count = report.worst_mistakes(labels, probabilities)
    assert count == wrong
    expected = np.arange(40) if not wrong else np.arange(wrong)[::-1]
    np.testing.assert_array_equal(worst, expected[: len(worst)])
    assert len(worst) == (min(wrong, 20) or 20)
    images = np.random.default_rng(0).integers(0, 255, (len(worst), 8, 8, 1)).astype("uint8")
    captions = [("(9%): $", "(90%): 猫", "a_<b>.png")] * len(worst)
    pictures.draw_mistakes(images, captions, "mistakes", tmp_path / "mistakes.png")
    assert width_of(tmp_path / "mistakes.png") >= 500


# --- the page ------------------------------------------------------------------------------------

NASTY = "<script>document.title='taken'</script>"


def content(classes):
    labels, probabilities = answers(len(classes), 5 * len(classes))
    figures = metrics.measure(labels, probabilities, classes, seed=0)
    counts = [{"class": name, "train": 30, "validation": 5, "test": 5} for name in classes]
    pair = {"true": classes[0], "predicted": classes[1], "images": 2, "share": 0.4}
    return {
        "model": "seresnet20",
        "intervals": metrics.INTERVALS,
        "data": {
            "name": f"photos {NASTY}",
            "split": "its own",
            "training_images": 30,
            "validation_images": 5,
            "test_images": 5,
            "images_by_class": counts,
        },
        "settings": {"choose": "best", "split": None, "lr": 0.1},
        "epochs": {"trained": 20, "chosen": 12, "ended_early": True},
        "validation": figures,
        "test": figures | {"confused": [pair]},
        "calibration": {
            "expected_calibration_error": 0.1,
            "temperature": 1.5,
            "error_with_temperature": 0.05,
        },
    }


def written(folder, classes):
    rows = [{"epoch": n + 1, **dict.fromkeys(("loss", "val_loss"), 1 / (n + 1))} for n in range(20)]
    rows = [row | {"accuracy": row["epoch"] / 25, "val_accuracy": 0.6} for row in rows]
    pictures.draw_curves(rows, 12, folder / "curves.png")
    counts = metrics.confusion(np.arange(len(classes)), np.arange(len(classes)), len(classes))
    pictures.draw_confusion(counts, classes, folder / "confusion.png")
    image = np.zeros((8, 8, 3), "uint8")
    pictures.draw_mistakes([image], [("a", "b", "c")], "one", folder / "mistakes.png")
    page.write_page(
        folder / "report.html",
        content(classes),
        folder=folder,
        warnings=[f"Left out: {NASTY}"],
        mistakes=[[f"a/{NASTY}.png", classes[0], classes[1], 0.9]],
    )
    return folder / "report.html"


CLASSES = [NASTY, "猫 & 'dog\"", "فيل", "x\u202etxt", *(f"class {n}" for n in range(36))]


def test_the_page_takes_names_as_words(tmp_path):
    text = written(tmp_path, CLASSES).read_text("utf-8")
    assert "<script" not in text
    assert "src=" in text
    assert text.count("&lt;script&gt;document.title=") >= 6
    assert "\u202e" not in text
    # The title, and nothing from elsewhere.
    assert "http" not in text.replace("charset", "")


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_the_page_whole(width, tmp_path):
    path = written(tmp_path, CLASSES)
    with real_browser() as browser:
        browser.set_window_size(width, 900)
        browser.get(path.as_uri())
        check_page(browser)


def check_page(browser):
    assert browser.get_log("browser") == []
    assert browser.title == f"seresnet20 on photos {NASTY}"
    assert browser.execute_script("return document.scripts.length") == 0
    # Nothing was asked of anybody: the images are in the page.
    asked = "return performance.getEntriesByType('resource').map(e => e.name)"
    assert [name for name in browser.execute_script(asked) if not name.startswith("data:")] == []
    images = "return [...document.images].map(i => [i.complete, i.naturalWidth, i.alt.length])"
    found = browser.execute_script(images)
    assert len(found) == 3
    assert all(complete and width > 300 and alt for complete, width, alt in found)
    wide = "return [document.documentElement.scrollWidth, window.innerWidth]"
    there, room = browser.execute_script(wide)
    assert there <= room
    text = browser.execute_script("return document.body.textContent")
    for name in (NASTY, "猫 & 'dog\"", "فيل", "x\\u202etxt"):
        assert name in text
    # Classes beyond the first 30 are folded away, and unfold without a script.
    summary = browser.find_element("tag name", "summary")
    rows = browser.find_elements("css selector", "details tr")
    assert (len(rows), any(row.is_displayed() for row in rows)) == (11, False)
    summary.click()
    assert all(row.is_displayed() for row in rows)
