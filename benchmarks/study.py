"""Compare plain networks with SE networks after the same training, over several seeds.

python -m benchmarks.study digits | fashion_mnist | fashion_mnist_20 | fashion_mnist_56
    [--seeds 0 1 2] [--processes N] [--images N --epochs N --out FILE]

A run is one variant with one seed, and one row of `benchmarks/results/study_NAME.csv`, which is
written at its end. Its weights are saved after each epoch in `study_NAME.partial.npz`, so a stopped
study continues with the next epoch. With `--processes`, each seed has a process of its own: one
small network does not fill a GPU. A seed determines the training images, the fresh weights and the
order of the batches; the variants of one seed see the same batches.
Prints the test errors over the seeds and the differences within a seed, both with 95 % intervals
(Student's t). Draws the loss of the last batch of each epoch next to the CSV file.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import se_keras
from benchmarks.results import file_run, read_rows, write_rows
from benchmarks.seeds import draw_curve, with_interval
from se_keras.models.recipes import Recipe, find_recipe
from se_keras.support.errors import InputError
from se_keras.support.files import written_beside
from se_keras.support.plotting import new_figure, save_figure
from se_keras.support.tables import format_table

RESULTS = Path(__file__).with_name("results")
# He et al. 2015, sec. 4.2; the SENet paper trains on small images in the same way.
MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4
TEST_BATCH = 500
# In TensorFlow, compiling takes longer than these runs. JAX needs it: otherwise it would run layer
# by layer.
JIT_COMPILE = "auto" if keras.backend.backend() != "tensorflow" else False


class Images(NamedTuple):
    """Pixels (N, H, W, 1) in 0..1, and numbers of classes (N,)."""

    pixels: np.ndarray
    labels: np.ndarray

    def take(self, rows: np.ndarray) -> "Images":
        return Images(self.pixels[rows], self.labels[rows])


@dataclass(frozen=True)
class Variant:
    """A network of the study.

    Attributes:
        name: name in the CSV file and the table.
        options: options of `se_keras.create`.
        source: table of the paper with this variant; empty if there is none.
        paper: top-1 error in that table, of a ResNet-50 on ImageNet, %.
    """

    name: str
    options: dict[str, Any]
    source: str = ""
    paper: str = ""


@dataclass(frozen=True, kw_only=True)
class Study:
    """The networks, the images and the length of the training.

    Attributes:
        name: name of the study, and of its files.
        network: name of the network that is varied.
        load: function from a seed and a number of training images to training and test images.
        images: number of training images.
        epochs, batch: number of epochs and batch size of every run.
        rate: peak of the learning rate, which falls to zero as a cosine.
        variants: rows of the table; all are compared with the `references`.
        references: names of variants.
        seeds: default seeds.
    """

    name: str
    network: Recipe
    load: Callable[[int, int], tuple[Images, Images]]
    images: int
    epochs: int
    batch: int
    rate: float
    variants: tuple[Variant, ...]
    references: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def path(self) -> Path:
        return RESULTS / f"study_{self.name}.csv"


@dataclass(frozen=True)
class Run:
    """One row of the CSV file.

    Attributes:
        run: name of the study's run; all rows of a file have the same.
        variant, seed: name of the variant, and the seed.
        images, epochs: number of training images and of epochs.
        parameters: number of trainable parameters.
        error: test error after the last epoch, %.
        cpu_seconds: CPU time of the whole run.
        last_losses: training loss of the last batch of each epoch, separated by spaces.
    """

    run: str
    variant: str
    seed: int
    images: int
    epochs: int
    parameters: int
    error: float
    cpu_seconds: float
    last_losses: str


# --- the studies ---------------------------------------------------------------------------------


def digits(seed: int, images: int) -> tuple[Images, Images]:
    """Return random digits of scikit-learn for training, and all other digits for the test."""
    pixels, labels = load_digits(return_X_y=True)
    every = Images(pixels.reshape(-1, 8, 8, 1).astype("float32") / 16, labels)
    order = np.random.default_rng(seed).permutation(len(labels))
    return every.take(order[:images]), every.take(order[images:])


def fashion_mnist(seed: int, images: int) -> tuple[Images, Images]:
    """Return random images of the training part, and the whole test part."""
    train, test = (
        Images(pixels[..., None].astype("float32") / 255, labels)
        for pixels, labels in keras.datasets.fashion_mnist.load_data()
    )
    return train.take(np.random.default_rng(seed).permutation(60_000)[:images]), test


PLAIN, SE = "plain", "SE"


def _ablation(
    name: str, source: str, paper: str, gate: dict[str, Any] | None = None, **options: Any
) -> Variant:
    # Paper, sec. 6: the ablations are without biases.
    return Variant(
        name, {**options, "se_options": {"use_bias": False, **(gate or {})}}, source, paper
    )


RATIO, POOL, GATE = "Table 10, ratio", "Table 11, squeeze", "Table 12, excitation"
STAGE, PLACE, CONV = "Table 13, stages", "Table 14, placement", "Table 15, on the 3x3"
KIN = "SE's kin"
ABLATIONS = (
    Variant(PLAIN, {"se": False}, RATIO, "23.30"),
    _ablation(SE, RATIO, "22.28"),
    _ablation("ratio 2", RATIO, "22.29", ratio=2),
    _ablation("ratio 4", RATIO, "22.25", ratio=4),
    _ablation("ratio 8", RATIO, "22.26", ratio=8),
    _ablation("ratio 32", RATIO, "22.72", ratio=32),
    _ablation("max pool", POOL, "22.57", {"pool": "max"}),
    _ablation("gate relu", GATE, "23.47", {"gate_activation": "relu"}),
    _ablation("gate tanh", GATE, "23.00", {"gate_activation": "tanh"}),
    _ablation("stage 2 only", STAGE, "23.03", se_stages=[2]),
    _ablation("stage 3 only", STAGE, "23.04", se_stages=[3]),
    _ablation("stage 4 only", STAGE, "22.68", se_stages=[4]),
    _ablation("placement pre", PLACE, "22.23", placement="pre"),
    _ablation("placement post", PLACE, "22.78", placement="post"),
    _ablation("placement identity", PLACE, "22.20", placement="identity"),
    _ablation("placement conv3x3", CONV, "22.48", placement="conv3x3"),
    # As their papers define them, with biases.
    Variant("eca", {"attention": "eca"}, KIN),
    Variant("ese", {"attention": "ese"}, KIN),
    Variant("scse", {"attention": "scse"}, KIN),
    Variant("ge", {"attention": "ge"}, KIN),
    Variant("ge, weights", {"attention": "ge", "se_options": {"extra_params": True}}, KIN),
)
PAIR = (Variant(PLAIN, {"se": False}), Variant(SE, {}))
STUDIES = {
    study.name: study
    for study in (
        Study(
            name="digits",
            # One bottleneck a stage: Fig. 5 and the 3x3 of Table 15 are about bottlenecks.
            network=replace(
                find_recipe("seresnet20"),
                name="bottlenecks",
                block="bottleneck",
                depths=(1, 1, 1),
                shortcut="projection",
            ),
            load=digits,
            images=500,
            epochs=12,
            batch=50,
            rate=0.1,
            variants=ABLATIONS,
            references=(PLAIN, SE),
            seeds=(0, 1, 2, 3, 4),
        ),
        Study(
            name="fashion_mnist",
            network=find_recipe("seresnet20"),
            load=fashion_mnist,
            images=4000,
            epochs=5,
            batch=50,
            rate=0.1,
            variants=PAIR,
            references=(PLAIN,),
            seeds=(0, 1, 2),
        ),
        *(
            Study(
                name=f"fashion_mnist_{depth}",
                network=find_recipe(f"seresnet{depth}"),
                load=fashion_mnist,
                images=60_000,
                epochs=15,
                batch=100,
                rate=0.1,
                variants=PAIR,
                references=(PLAIN,),
                seeds=(0, 1, 2, 3, 4),
            )
            for depth in (20, 56)
        ),
    )
}


# --- runs ----------------------------------------------------------------------------------------


def runs_so_far(study: Study, path: Path, name: str | None) -> tuple[list[Run], str]:
    """Return the runs in a file, and the name of the run that all its rows belong to.

    Raises:
        InputError: as in `go_on`.
    """
    runs = read_rows(Run, path)
    name = file_run(path, runs, name)
    for run in runs:
        if (run.images, run.epochs) != (study.images, study.epochs):
            raise InputError(
                f"{path} has runs of {run.images} images and {run.epochs} epochs, but the study "
                f"has {study.images} and {study.epochs}: remove the file to start again."
            )
    return runs, name


def go_on(study: Study, seeds: Sequence[int], path: Path, name: str | None = None) -> list[Run]:
    """Carry out the runs that are not in the file yet.

    Args:
        study: the study.
        seeds: seeds of the runs.
        path: CSV file; the weights of an unfinished run are saved next to it.
        name: name of the run that all rows belong to; see `file_run`.

    Raises:
        InputError: if the runs in the file had other numbers of images or epochs, or belong to
            another run.
    """
    runs, name = runs_so_far(study, path, name)
    done = {(run.variant, run.seed) for run in runs}
    for seed in seeds:
        for variant in study.variants:
            if (variant.name, seed) not in done:
                kept = path.with_suffix(".partial.npz")
                runs.append(run_one(study, variant, seed, name, kept))
                write_rows(Run, path, runs)
                kept.unlink()
                print(*astuple(runs[-1]), sep=", ", flush=True)
    return runs


def go_on_beside(
    study: Study,
    seeds: Sequence[int],
    path: Path,
    name: str | None,
    budget: Mapping[str, int],
    most: int,
) -> None:
    """Carry out the runs of each new seed in a process of its own; then add them to the file.

    Args:
        study, seeds, path, name: as in `go_on`.
        budget: numbers of images and epochs, if they are not the study's own.
        most: number of processes at the same time.

    Raises:
        InputError: if a process fails, or as in `go_on`.
    """
    runs, name = runs_so_far(study, path, name)
    begun = {run.seed for run in runs}
    parts = {seed: path.with_suffix(f".seed{seed}.csv") for seed in seeds if seed not in begun}
    # JAX would take three quarters of a device's memory for one process.
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ}

    def run(seed: int) -> int:
        command = [sys.executable, "-m", "benchmarks.study", study.name, "--seeds", str(seed)]
        command += ["--out", str(parts[seed]), "--run", name]
        command += [word for key, n in budget.items() for word in (f"--{key}", str(n))]
        return subprocess.run(command, env=environment, check=False).returncode

    with ThreadPoolExecutor(most) as pool:
        codes = list(pool.map(run, parts))
    if any(codes):
        raise InputError(
            f"{sum(map(bool, codes))} of {len(codes)} processes failed; the runs of the others are "
            "kept, and the same command continues."
        )
    write_rows(Run, path, runs + [row for part in parts.values() for row in read_rows(Run, part)])
    for part in parts.values():
        part.unlink()
        part.with_suffix(".png").unlink()


def run_one(study: Study, variant: Variant, seed: int, name: str, kept: Path) -> Run:
    """Train a variant; continue after the last epoch of this run that `kept` has."""
    start = time.process_time()
    train, test = study.load(seed, study.images)
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = se_keras.create(
        study.network,
        input_shape=train.pixels.shape[1:],
        classifier_activation=None,
        **variant.options,
    )
    model.compile(
        _optimizer(study, model),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=JIT_COMPILE,
    )
    what = (variant.name, seed, study.images, study.epochs)
    losses, seconds = _restore(model, kept, what)
    for epoch in range(len(losses), study.epochs):
        losses.append(_epoch(model, train, study.batch, (seed, epoch)))
        _keep(model, kept, what, losses, seconds + time.process_time() - start)
    return Run(
        run=name,
        variant=variant.name,
        seed=seed,
        images=study.images,
        epochs=study.epochs,
        parameters=se_keras.count(model).trainable,
        error=round(_error(model, test), 2),
        cpu_seconds=round(seconds + time.process_time() - start, 1),
        last_losses=" ".join(f"{loss:.4f}" for loss in losses),
    )


def _keep(
    model: keras.Model, path: Path, what: tuple, losses: Sequence[float], seconds: float
) -> None:
    """Save what the next epoch needs: weights, momenta, and the losses so far."""
    values = [keras.ops.convert_to_numpy(v) for v in _state(model)]
    with written_beside(path) as partial, open(partial, "wb") as file:
        np.savez(file, *values, what=str(what), losses=losses, seconds=seconds)


def _restore(model: keras.Model, path: Path, what: tuple) -> tuple[list[float], float]:
    """Return the losses and the seconds so far; none if the file has another run."""
    model.optimizer.build(model.trainable_variables)
    if not path.exists():
        return [], 0.0
    with np.load(path) as kept:
        if str(kept["what"]) != str(what):
            return [], 0.0
        for number, variable in enumerate(_state(model)):
            variable.assign(kept[f"arr_{number}"])
        return kept["losses"].tolist(), float(kept["seconds"])


def _state(model: keras.Model) -> list[keras.Variable]:
    return [*model.variables, *model.optimizer.variables]


def _optimizer(study: Study, model: keras.Model) -> keras.Optimizer:
    steps = study.epochs * (study.images // study.batch)
    schedule = keras.optimizers.schedules.CosineDecay(study.rate, steps)
    optimizer = keras.optimizers.SGD(
        schedule, momentum=MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    optimizer.exclude_from_weight_decay([v for v in model.trainable_variables if v.ndim < 2])
    return optimizer


def _epoch(model: keras.Model, train: Images, batch: int, seed: tuple[int, int]) -> float:
    """Return the loss of the last batch; the order of the images depends only on the seed."""
    order = np.random.default_rng(seed).permutation(len(train.labels))
    for rows in np.split(order, len(order) // batch):
        loss = model.train_on_batch(*train.take(rows))
    return float(loss)


def _error(model: keras.Model, test: Images) -> float:
    """Return the error in percent of the test images."""
    parts = np.array_split(test.pixels, -(-len(test.pixels) // TEST_BATCH))
    answers = np.concatenate([model.predict_on_batch(part) for part in parts]).argmax(axis=-1)
    return 100 * float(np.mean(answers != test.labels))


# --- results -------------------------------------------------------------------------------------


def complete_seeds(study: Study, runs: list[Run]) -> list[int]:
    """Return the seeds with which every variant was run."""
    each = [{run.seed for run in runs if run.variant == v.name} for v in study.variants]
    return sorted(set.intersection(*each))


def table(study: Study, runs: list[Run]) -> tuple[list[str], list[list[str]]]:
    """Return the header and rows: the error of each variant, and its differences to references."""
    seeds = complete_seeds(study, runs)
    found = {(run.variant, run.seed): run for run in runs}
    errors = {
        variant.name: np.array([found[variant.name, seed].error for seed in seeds])
        for variant in study.variants
    }
    rows = []
    for name, own in errors.items():
        against = ["" if name == r else with_interval(own - errors[r]) for r in study.references]
        parameters = found[name, seeds[0]].parameters
        rows.append([name, f"{parameters:,}", with_interval(own), *against])
    header = ["network", "parameters", "test error, %", *(f"minus {r}" for r in study.references)]
    if not any(variant.source for variant in study.variants):
        return header, rows
    papers = [[variant.source, variant.paper] for variant in study.variants]
    return [*header, "table of the paper", "error there, %"], [
        a + b for a, b in zip(rows, papers, strict=True)
    ]


def draw(study: Study, runs: list[Run]) -> Figure:
    """Draw the losses of the last batches, a panel for each table of the paper."""
    panels: dict[str, list[str]] = {}
    for variant in study.variants:
        names = panels.setdefault(variant.source, list(study.references))
        if variant.name not in names:
            names.append(variant.name)
    columns = min(len(panels), 4)
    lines = -(-len(panels) // columns)
    figure = new_figure(4 + 2.5 * columns, 1 + 3 * lines)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    seeds = complete_seeds(study, runs)
    epochs = range(1, study.epochs + 1)
    for spare in grid.flat[len(panels) :]:
        spare.remove()
    for number, (source, names) in enumerate(panels.items()):
        axes = grid.flat[number]
        for name in names:
            draw_curve(axes, name, epochs, losses(runs, name, seeds))
        axes.set(yscale="log", title=source)
        if number % columns == 0:
            axes.set_ylabel("loss, last batch")
        if number + columns >= len(panels):  # there is no panel below
            axes.set_xlabel("epoch")
            axes.tick_params(labelbottom=True)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.suptitle(f"{study.name}, mean and range of {len(seeds)} seeds")
    return figure


def losses(runs: list[Run], variant: str, seeds: Sequence[int]) -> np.ndarray:
    """Return the losses of the last batches, (seeds, epochs)."""
    return np.array(
        [
            [float(loss) for loss in run.last_losses.split()]
            for run in runs
            if run.variant == variant and run.seed in seeds
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument(
        "--seeds", type=int, nargs="+", help="seeds of the runs (default: as in the results)"
    )
    parser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="number of seeds at the same time"
    )
    for budget in ("--images", "--epochs"):
        parser.add_argument(budget, type=int, metavar="N", help="for a trial run, with --out")
    parser.add_argument("--out", type=Path, help="CSV file (default: that of the results)")
    parser.add_argument(
        "--run", metavar="NAME", help="name of the run (default: as in the file, or the date)"
    )
    options = parser.parse_args()
    if options.processes < 1:
        parser.error("--processes must be at least 1")
    study = STUDIES[options.study]
    budget = {name: n for name in ("images", "epochs") if (n := getattr(options, name))}
    if budget and not options.out:
        parser.error("other numbers of images or epochs need a file of their own: give --out")
    study, path = replace(study, **budget), options.out or study.path
    seeds = options.seeds or study.seeds
    try:
        if options.processes > 1:
            go_on_beside(study, seeds, path, options.run, budget, options.processes)
        runs = go_on(study, seeds, path, options.run)
    except InputError as error:
        parser.error(str(error))
    print(format_table(*table(study, runs)))
    save_figure(draw(study, runs), path.with_suffix(".png"))


if __name__ == "__main__":
    main()
