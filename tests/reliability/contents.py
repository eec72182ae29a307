"""Read the output of a command without times, dates and pictures of them, which differ by run."""

import csv
import hashlib
import io
import json
import zipfile

import h5py
import tensorflow as tf

TIMED = ("seconds", "images_per_second", "waiting_for_input", "training_seconds")
# Drawn at random, a place in the memory, and the checksum of a file with a time in it.
DRAWN = ("seed", "shared_object_id", "sha256", "date_saved", "checksum", "files")
LATENCY = ("latency", "_ms", "speed")
# They show times, or hold names that TensorFlow draws at random.
LEFT_OUT = ("report.html", "report.txt", "saved_model.pb", "fingerprint.pb")
LEFT_OUT += ("variables.data-00000-of-00001",)  # read through variables.index


def contents(path):
    """Return the contents of a file, or of all files of a folder by name."""
    files = [path] if path.is_file() else sorted(x for x in path.rglob("*") if x.is_file())
    return {
        str(file.relative_to(path.parent)): of_file(file)
        for file in files
        if file.name not in LEFT_OUT
    }


def of_file(file):
    """Return the content of a file as a text for comparison."""
    try:
        return _of_file(file)
    except Exception as error:  # a damaged checkpoint that nothing needs any more may stay
        return f"can't be read: {error}"


def _of_file(file):
    if file.suffix == ".keras":
        with zipfile.ZipFile(file) as archive, archive.open("model.weights.h5") as weights:
            config = without_times(json.loads(archive.read("config.json")))
            return digest(str(config).encode()), values(weights)
    if file.suffix == ".h5":
        return values(file)
    if file.name == "variables.index":
        reader = tf.train.load_checkpoint(str(file.with_suffix("")))
        names = [name for name in reader.get_variable_to_shape_map() if "ATTRIBUTES" in name]
        return sorted(digest(reader.get_tensor(name).tobytes()) for name in names)  # in any order
    if file.suffix == ".csv":
        rows = csv.DictReader(io.StringIO(file.read_text()))
        return str([{k: v for k, v in row.items() if k not in TIMED} for row in rows])
    if file.suffix == ".json":
        return str(without_times(json.loads(file.read_text())))
    return digest(file.read_bytes())


def values(file):
    """The variables of an HDF5 file, which has the time of its writing too."""
    found = {}

    def look(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = digest(item[()].tobytes())

    with h5py.File(file) as opened:
        opened.visititems(look)
    return found


def digest(content):
    return hashlib.sha256(content).hexdigest()


def without_times(value):
    if isinstance(value, list):
        return [without_times(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {k: v for k, v in value.items() if k not in (*TIMED, *DRAWN)}
    if isinstance(kept.get("data"), dict):
        kept["data"] = {k: v for k, v in kept["data"].items() if k != "name"}
    if isinstance(kept.get("data"), str):  # where the images are
        del kept["data"]
    return {
        name: without_times(each)
        for name, each in kept.items()
        if not any(word in name for word in LATENCY)
    }
