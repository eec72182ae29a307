"""`benchmarks.fine_tuning`: its parts, its runs and its table."""

import itertools

import numpy as np
import pytest

from benchmarks import fine_tuning
from benchmarks.fine_tuning import SCRATCH, STAGED, TASKS, Row, Variant


def numbered(count, classes):
    """Make images whose pixels show their number and their class."""
    images = np.zeros((classes, count, 14, 14, 1), "uint8")
    images[..., 0, 0, 0], images[..., 0, 1, 0] = np.divmod(np.arange(count), 256)
    images[..., 1, 0, 0] = np.arange(classes)[:, None]
    return images


def known(part):
    """The numbers of the images of a part, whose classes must be the labels."""
    items = part.items.astype(int)
    np.testing.assert_array_equal(items[:, 1, 0, 0] - items[:, 1, 0, 0].min(), part.labels)
    numbers = items[:, 0, 0, 0] * 256 + items[:, 0, 1, 0]
    return set(zip(part.labels.tolist(), numbers.tolist(), strict=True))


def test_no_tile_is_in_two_parts(monkeypatch):
    monkeypatch.setattr(fine_tuning, "photos", lambda: tuple(numbered(300, 3)))
    data = fine_tuning.tiles(20, seed=1)
    parts = [known(part) for part in data.parts.values()]
    assert [len(part) for part in parts] == [60, 30, 600]
    assert all(one.isdisjoint(other) for one, other in itertools.combinations(parts, 2))
    assert known(fine_tuning.tiles(20, seed=2).train) != parts[0]


def test_the_photos_are_three():
    cut = fine_tuning.photos()
    assert [images.shape for images in cut] == [
        (330, 14, 14, 1),
        (330, 14, 14, 1),
        (378, 14, 14, 1),
    ]
    assert min(images.std() for images in cut) > 20


def test_clothes_are_of_the_classes_that_are_new(monkeypatch):
    images, labels = numbered(300, 10), np.repeat(np.arange(10), 300)
    flat = images.reshape(-1, 14, 14, 1), labels
    monkeypatch.setattr(fine_tuning, "fashion", lambda: (flat, flat))
    data = fine_tuning.clothes(20, seed=1)
    train, validation, test = (known(part) for part in data.parts.values())
    assert (len(train), len(validation), len(test)) == (100, 50, 1000)
    assert train.isdisjoint(validation)
    assert data.train.items[:, 1, 0, 0].min() == 5
    data = fine_tuning.clothes(20, 1, known=fine_tuning.MIXED)
    assert set(data.test.items[:, 1, 0, 0]) == {1, 3, 6, 8, 9}


@pytest.mark.slow
def test_a_run_trains_on_the_network_that_knows_other_classes(monkeypatch, tmp_path):
    monkeypatch.setattr(fine_tuning, "EPOCHS", 2)
    monkeypatch.setattr(fine_tuning, "photos", lambda: tuple(numbered(240, 3)))
    fine_tuning.fresh(0, "plain").save(tmp_path / f"plain-0-{fine_tuning.TOPS}.keras")
    settings = {"freeze": 1, "tuning_rate": 1.0}
    variant = Variant(name="inserted", settings=settings, network=fine_tuning.INSERTED)
    row = fine_tuning.run("photos, 20 a class", variant, 0, tmp_path)
    assert (row.task, row.variant, row.seed) == ("photos, 20 a class", "inserted", 0)
    assert 0 <= row.accuracy <= 100
    assert row.epoch in (1, 2)


def test_the_table_compares_within_a_seed():
    rows = [
        Row(
            task, variant.name, seed, 50 + 10 * seed + (variant.name == STAGED) * (8 + seed), 1, 1.0
        )
        for task in TASKS
        for variant in TASKS[task].variants
        for seed in range(3)
    ]
    header, lines = fine_tuning.table([*rows, Row(next(iter(TASKS)), SCRATCH, 3, 0.0, 1, 1.0)])
    assert len(header) == 1 + 2 * len(TASKS)
    cells = {line[0]: line[1:] for line in lines}
    # Student's t with two degrees of freedom: 4.303 times 1 / sqrt(3).
    assert cells[STAGED][:2] == ["69.00 ± 27.33", "9.00 ± 2.48"]
    assert cells[SCRATCH][:2] == ["60.00 ± 24.84", ""]
    assert cells["classifier alone"][2:4] == ["", ""]


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_what_its_table_compares(task):
    names = [variant.name for variant in TASKS[task].variants]
    assert {SCRATCH, STAGED} <= set(names)
    assert len(set(names)) == len(names)
