"""Compare SE-ResNet-50 and ResNet-50 of other libraries with this package's.

python -m benchmarks.peers --threads 1 --python timm=/venvs/timm/bin/python ...

The networks of timm, classification_models and zeromodels are made in the interpreter that
`--python NAME=PATH` gives (by default this one). A library that is missing is named and skipped.
Exported files run in the engines of this interpreter, so they differ in their contents alone. All
networks of one engine take turns, each in a process of its own; new processes start every third
round. The rows of an engine are written when it is done, so a stopped run continues with the next
engine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.results import (
    describe_machine,
    file_run,
    parse_pythons,
    read_rows,
    versions,
    write_rows,
)
from benchmarks.timing import (
    Specification,
    Worker,
    WorkerError,
    alternate,
    clock_of,
    compare,
    rounds_of_processes,
    working,
)
from se_keras.deploy.engines import find_engine
from se_keras.support.tables import format_table

SIDE = Path(__file__).with_name("peer_side.py")
RESULTS = Path(__file__).with_name("results") / "peers.csv"
NETWORKS = ("se", "plain")
OURS = "se_keras"
INSERTED = "se_keras, SE inserted into keras.applications"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A pair of networks, with SE and without, that a library makes for an engine.

    Attributes:
        name: description in words.
        python: name of the interpreter that makes it, for `--python`.
        engine: format of the engine that runs it; PyTorch runs in the library's interpreter.
        maker: name of the function of `peer_side.py`.
        precision: precision of the file.
        stride: convolution that has the stride of a unit: the 3x3 (4.09 G multiply-adds) or the
            first 1x1 (3.86 G).
        channels_first: whether images have the channels first.
        packages: packages whose versions are recorded.
    """

    name: str
    python: str
    engine: str
    maker: str
    precision: str = "float32"
    stride: str = "3x3"
    channels_first: bool = False
    packages: tuple[str, ...]


def _ours(engine: str, *precisions: str) -> tuple[Peer, ...]:
    return tuple(
        Peer(
            name=OURS,
            python=OURS,
            engine=engine,
            maker=f"se_keras_{engine}_{precision}",
            precision=precision,
            packages=("se_keras", "keras", find_engine(engine).package),
        )
        for precision in precisions
    )


def _on_applications(engine: str, stock_maker: str) -> tuple[Peer, ...]:
    """Return the peers with SE in keras.applications, by `insert_se` or in stock layers."""
    return tuple(
        Peer(
            name=name,
            python=OURS,
            engine=engine,
            maker=maker,
            stride="1x1",
            packages=(*packages, "keras", find_engine(engine).package),
        )
        for name, maker, packages in (
            (INSERTED, f"se_keras_{engine}_inserted", ("se_keras",)),
            ("keras.applications, four stock layers", stock_maker, ()),
        )
    )


def _timm(name: str, engine: str, maker: str) -> Peer:
    packages = ("timm", "torch")
    return Peer(
        name=f"timm, {name}",
        python="timm",
        engine=engine,
        maker=maker,
        channels_first=True,
        packages=packages,
    )


PEERS = (
    _timm("eager", "pytorch", "timm_eager"),
    _timm("torch.compile", "pytorch", "timm_compiled"),
    _timm("torch.compile, frozen", "pytorch", "timm_frozen"),
    *_ours("tf_saved_model", "float32"),
    Peer(
        name="classification_models",
        python="classification_models",
        engine="tf_saved_model",
        maker="classification_models_saved_model",
        stride="1x1",
        packages=("image-classifiers", "tf_keras"),
    ),
    Peer(
        name="zeromodels",
        python="zeromodels",
        engine="tf_saved_model",
        maker="zeromodels_saved_model",
        packages=("zeromodels", "keras"),
    ),
    *_on_applications("tf_saved_model", "stock_saved_model"),
    *_ours("onnx", "float32", "int8"),
    _timm("torch.onnx.export", "onnx", "timm_onnx"),
    *_on_applications("onnx", "stock_onnx"),
    *_ours("openvino", "float32", "bfloat16", "int8"),
    _timm("torch.onnx.export", "openvino", "timm_onnx"),
    *_on_applications("openvino", "stock_openvino"),
    *_ours("litert", "float32", "int8"),
    *_on_applications("litert", "stock_litert"),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the CSV file.

    Attributes:
        run: name of the run; all rows of the file have the same (see `file_run`).
        peer, engine, precision, stride: as in `Peer`.
        batch, size, threads, clock, rounds: as in `benchmarks.results`.
        ms, plain_ms: median milliseconds of a batch, for SE-ResNet-50 and ResNet-50.
        ratio, ratio_low, ratio_high: median and quartiles of the ratios of both within a round.
        to_ours: time of the SE network divided by the time of our SE network with the same stride,
            in float32 in this engine: the median of the ratios within a round.
        memory_mb: largest resident size of the process of the SE network.
        versions, machine: versions of the packages; the processor.
    """

    run: str
    peer: str
    engine: str
    precision: str
    stride: str
    batch: int
    size: int
    threads: int
    clock: str
    rounds: int
    ms: float
    plain_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    to_ours: float | None
    memory_mb: float | None
    versions: str
    machine: str


# --- interpreters --------------------------------------------------------------------------------


class Exports:
    """The exported files of the peers; each is made once."""

    def __init__(self, folder: Path, size: int):
        self.folder, self.size = folder, size
        self._made: dict[tuple[str, str], Path] = {}

    def path(self, peer: Peer, network: str, python: str) -> Path:
        key = (peer.maker, network)
        if key not in self._made:
            suffix = ".onnx" if peer.maker.endswith("onnx") else find_engine(peer.engine).suffix
            path = self.folder / f"{len(self._made)}{suffix}"
            _call([python, "-P", SIDE, "export", peer.maker, network, self.size, path])
            self._made[key] = path
        path = self._made[key]
        return _from_onnx(path) if (peer.engine, path.suffix) == ("openvino", ".onnx") else path


def _call(command: Sequence[object]) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorkerError((done.stderr.strip().splitlines() or ["it ended"])[-1])


def _from_onnx(path: Path) -> Path:
    import openvino

    folder = path.with_suffix(".openvino")
    if not folder.exists():
        converted = openvino.convert_model(path)
        openvino.save_model(converted, folder / "model.xml", compress_to_fp16=False)
    return folder


# --- the measurement -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The settings that all peers of one measurement share."""

    engine: str
    batch: int
    size: int
    threads: int
    rounds: int
    run: str

    def fits(self, row: Row) -> bool:
        ours = (self.engine, self.batch, self.size, self.threads, describe_machine())
        return ours == (row.engine, row.batch, row.size, row.threads, row.machine)


def start(peer: Peer, network: str, setting: Setting, exports: Exports, python: str) -> Worker:
    if peer.engine == "pytorch":
        given = {
            "network": network,
            "batch": setting.batch,
            "size": setting.size,
            "threads": setting.threads,
            "clock": clock_of(setting.threads),
        }
        return Worker([python, "-P", str(SIDE), "run", peer.maker, json.dumps(given)])
    image = (setting.size, setting.size, 3)
    specification = Specification(
        format=peer.engine,
        precision=peer.precision,
        path=str(exports.path(peer, network, python)),
        threads=setting.threads,
        shape=(setting.batch, *(image[::-1] if peer.channels_first else image)),
        dtype="float32",
        clock=clock_of(setting.threads),
    )
    return Worker(specification.command())


def measure(
    setting: Setting, peers: Sequence[tuple[Peer, str, str]], exports: Exports
) -> list[Row]:
    """Measure all peers of one engine in turn; each is given with its interpreter and versions."""
    parts: list[dict[Peer, np.ndarray]] = []
    for rounds in rounds_of_processes(setting.rounds):
        with ExitStack() as stack:
            pairs = {p: _start_both(p[0], setting, exports, p[1], stack) for p in peers}
            peers = [
                peer for peer, both in pairs.items() if both
            ]  # peers whose processes failed are left out
            workers = [worker for both in pairs.values() for worker in both]
            columns = np.split(alternate(workers, rounds), len(peers), axis=1)
            parts.append(dict(zip((peer for peer, *_ in peers), columns, strict=True)))
            peaks = [worker.peak_memory for worker in workers]
    seconds = np.concatenate([np.hstack([part[peer] for peer, *_ in peers]) for part in parts])
    ours = {p.stride: n for n, (p, *_) in enumerate(peers) if _is_reference(p)}
    return [
        Row(
            run=setting.run,
            peer=peer.name,
            engine=peer.engine,
            precision=peer.precision,
            stride=peer.stride,
            batch=setting.batch,
            size=setting.size,
            threads=setting.threads,
            clock=clock_of(setting.threads),
            rounds=setting.rounds,
            to_ours=_to_ours(seconds, number, ours.get(peer.stride)),
            memory_mb=peaks[2 * number] and round(peaks[2 * number] / 1e6, 1),
            versions=text,
            machine=describe_machine(),
            **_figures(seconds, number),
        )
        for number, (peer, _, text) in enumerate(peers)
    ]


def _start_both(
    peer: Peer, setting: Setting, exports: Exports, python: str, stack: ExitStack
) -> list[Worker]:
    """Start the processes of both networks, which `stack` ends; return none if one fails."""
    with ExitStack() as own:
        try:
            begin = partial(start, peer, setting=setting, exports=exports, python=python)
            both = own.enter_context(working(begin, NETWORKS))
        except WorkerError as error:
            print(f"skipped: {peer.name}, {peer.engine}, {peer.precision}: {error}", flush=True)
            return []
        stack.enter_context(own.pop_all())
        return both


def _is_reference(peer: Peer) -> bool:
    return peer.name in (OURS, INSERTED) and peer.precision == "float32"


def _to_ours(seconds: np.ndarray, number: int, ours: int | None) -> float | None:
    if ours is None:
        return None
    return round(compare(seconds[:, 2 * number], seconds[:, 2 * ours]).ratio, 4)


def _figures(seconds: np.ndarray, number: int) -> dict[str, float]:
    times = compare(seconds[:, 2 * number], seconds[:, 2 * number + 1])
    return {
        "ms": round(1e3 * times.seconds, 3),
        "plain_ms": round(1e3 * times.against_seconds, 3),
        "ratio": round(times.ratio, 4),
        "ratio_low": round(times.ratio_low, 4),
        "ratio_high": round(times.ratio_high, 4),
    }


# --- results -------------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> str:
    header = ["peer", "engine", "precision", "stride", "batch"]
    header += ["ms", "plain ms", "ratio", "to ours"]
    lines = [
        [
            *(row.peer, row.engine, row.precision, row.stride, row.batch),
            *(f"{row.ms:.1f}", f"{row.plain_ms:.1f}", f"{row.ratio:.3f}"),
            "" if row.to_ours is None else f"{row.to_ours:.3f}",
        ]
        for row in rows
    ]
    return format_table(header, lines)


def found_peers(pythons: dict[str, str]) -> dict[str, list[tuple[Peer, str, str]]]:
    """Return the installed peers by engine, with their interpreters and versions."""
    found: dict[str, list[tuple[Peer, str, str]]] = {}
    for peer in PEERS:
        python = pythons.get(peer.python, sys.executable)
        text = versions(python, peer.packages)
        if text is None:
            print(f"skipped: {peer.name}: {python} does not have all of {', '.join(peer.packages)}")
            continue
        if peer.engine != "pytorch" and peer.python != OURS:
            text += f", {find_engine(peer.engine).description}"
        found.setdefault(peer.engine, []).append((peer, python, text))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--engines", nargs="+", help="default all", metavar="ENGINE")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument(
        "--run", metavar="NAME", help="name of the run (default: as in the file, or the date)"
    )
    options = parser.parse_args()
    rows = read_rows(Row, options.out)
    run = file_run(options.out, rows, options.run)
    found = found_peers(parse_pythons(options.python))
    missing = set(options.engines or ()) - set(found)
    if missing:
        parser.error(f"no peer runs in {', '.join(sorted(missing))}; there are {', '.join(found)}")
    with tempfile.TemporaryDirectory() as folder:
        exports = Exports(Path(folder), options.size)
        for engine, batch in product(options.engines or found, options.batches):
            setting = Setting(
                engine=engine,
                batch=batch,
                size=options.size,
                threads=options.threads,
                rounds=options.rounds,
                run=run,
            )
            there = {(row.peer, row.precision) for row in rows if setting.fits(row)}
            if not {(peer.name, peer.precision) for peer, _, _ in found[engine]} <= there:
                rows = [row for row in rows if not setting.fits(row)]
                rows += measure(setting, found[engine], exports)
                write_rows(Row, options.out, rows)
    print(table(rows))


if __name__ == "__main__":
    main()
