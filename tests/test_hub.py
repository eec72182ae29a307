"""Downloads, against a hub and a file server that the tests run on loopback."""

import hashlib
import json
import os
import re
import resource
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from checks import run_python
from huggingface_hub import constants, get_session
from safetensors.numpy import load_file, save

import se_keras
from se_keras.cli import main
from se_keras.support.errors import InputError
from se_keras.weights import hub, presets
from se_keras.weights.preprocessing import Pixels
from se_keras.weights.readers import open_file

COMMITS = {"main": "a" * 40, "v1": "b" * 40}
CONFIG = {"architecture": "seresnet20", "num_classes": 3}
TENSORS = {"fc.weight": np.arange(30_000, dtype="float32"), "fc.bias": np.ones(3, "float32")}
WEIGHTS = save(TENSORS)
PAGE = b"<!DOCTYPE html>\n<html><body>Please log in to the network</body></html>"


class Server(ThreadingHTTPServer):
    """A hub with `me/flowers` and two repositories of timm, its CDN, and a folder `/files/`.

    All repositories have the same files.

    `faults` says what goes wrong with the large file: what `serve_file` takes.
    """

    daemon_threads = True
    repositories = r"me/flowers|timm/seresnet50\.a[13]_in1k"

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        # Of another host name: huggingface_hub follows redirects within the hub's own at once.
        self.cdn = f"http://localhost:{self.server_port}/cdn"
        self.files = {"config.json": json.dumps(CONFIG).encode(), hub.WEIGHTS_FILE: WEIGHTS}
        self.content = {}  # content that is sent instead of a file
        self.cut_at = None  # a response does not go beyond this byte
        self.cuts = 0  # how many responses are cut
        self.refusal = None  # (status, X-Error-Code) for everything
        self.metadata = True  # whether the hub's header as a hub
        self.headers = {}  # what it answers in place of its own
        self.requests = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        server = self.server
        server.requests.append((self.command, self.path, self.headers.get("Range")))
        resolve = re.fullmatch(rf"/(?:{server.repositories})/resolve/([^/]+)/(.+)", self.path)
        if server.refusal:
            status, code = server.refusal
            self.reply(status, {"X-Error-Code": code} if code else {})
        elif not server.metadata:
            self.reply(200, {"Content-Type": "text/html"}, PAGE)
        elif resolve:
            self.resolve(*resolve.groups())
        elif self.path.startswith(("/cdn/", "/files/")):
            self.send_file(self.path.split("/", 2)[2])
        else:
            self.reply(401, {"X-Error-Code": "RepoNotFound"})

    def resolve(self, revision, file):
        commit = COMMITS.get(revision, revision if revision in COMMITS.values() else None)
        content = self.server.files.get(file)
        if commit is None:
            return self.reply(404, {"X-Error-Code": "RevisionNotFound"})
        headers = {"X-Repo-Commit": commit}
        if content is None:
            return self.reply(404, headers | {"X-Error-Code": "EntryNotFound"})
        if file.endswith(".json"):
            return self.reply(
                200, headers | {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'}, content
            )
        headers["X-Linked-Etag"] = f'"{hashlib.sha256(content).hexdigest()}"'
        headers["X-Linked-Size"] = str(len(content))
        return self.reply(302, headers | {"Location": f"{self.server.cdn}/{file}"})

    def send_file(self, name):
        content = self.server.content.get(name, self.server.files.get(name))
        if content is None:
            return self.reply(404, {})
        start = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0, 0])[1])
        headers = {"Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self.reply(206 if start else 200, headers, content[start:], start)

    def reply(self, status, headers, body=b"", start=0):
        self.send_response(status)
        for name, value in (headers | self.server.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server.cuts and start + len(body) > (self.server.cut_at or 0) > 0:
            self.server.cuts -= 1
            body = body[: self.server.cut_at - start]
            self.close_connection = True
        self.wfile.write(body)


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def the_hub(server, tmp_path, monkeypatch):
    """The server instead of huggingface.co, with an empty cache; waiting takes no time."""
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    template = f"{server.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return server


@pytest.fixture
def keras_home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras"


def files_below(folder):
    """Return the files with content: no locks, no marks, no partial downloads."""
    return [
        path
        for path in Path(folder).rglob("*")
        if path.is_file()
        and path.suffix not in (".lock", ".incomplete")
        and path.name != "CACHEDIR.TAG"
    ]


def fetch(source):
    return hub.fetch(hub.parse_address(source))


def refused(source, *words):
    """Return the message of the error, which must name the source."""
    with pytest.raises(InputError) as caught:
        fetch(source)
    message = str(caught.value)
    assert source in message
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


def with_hash(server, content=WEIGHTS, name=hub.WEIGHTS_FILE):
    return f"{server.address}/files/{name}#sha256={hashlib.sha256(content).hexdigest()[:8]}"


# --- the hub -------------------------------------------------------------------------------------


def test_a_repository_gives_weights_and_config(the_hub):
    fetched = fetch("hf://me/flowers")
    assert fetched.config == CONFIG
    tensors = load_file(fetched.path)
    assert all((tensors[name] == array).all() for name, array in TENSORS.items())
    assert ("GET", f"/cdn/{hub.WEIGHTS_FILE}", None) in the_hub.requests


def test_the_config_alone_is_one_small_download(the_hub):
    assert hub.fetch_config(hub.parse_address("hf://me/flowers")) == CONFIG
    assert [path for command, path, _ in the_hub.requests if command == "GET"] == [
        "/me/flowers/resolve/main/config.json"
    ]


def test_a_second_time_nothing_is_downloaded(the_hub):
    first = fetch("hf://me/flowers")
    the_hub.requests.clear()
    assert fetch("hf://me/flowers") == first
    assert {command for command, *_ in the_hub.requests} == {"HEAD"}


def test_a_revision_is_pinned_and_config_and_weights_are_of_one_commit(the_hub):
    path = fetch("hf://me/flowers@v1").path
    assert path.parent.name == COMMITS["v1"]
    wanted = [path for _, path, _ in the_hub.requests if path.endswith("config.json")]
    assert set(wanted) == {f"/me/flowers/resolve/{COMMITS['v1']}/config.json"}


def test_a_file_of_a_folder(the_hub):
    the_hub.files = {"best/weights.safetensors": WEIGHTS, "config.json": b'{"num_classes": 7}'}
    fetched = fetch("hf://me/flowers@main/best/weights.safetensors")
    assert fetched.path.name == "weights.safetensors"
    assert fetched.config == {"num_classes": 7}


INDEX = f"{hub.WEIGHTS_FILE}{hub.INDEX_SUFFIX}"


def shards(folder="", **weight_map):
    """The files of a repository whose weights are split, a tensor a file."""
    files = {
        f"{folder}{n}.safetensors": save({name: TENSORS[name]}) for n, name in enumerate(TENSORS)
    }
    listed = {name: f"{n}.safetensors" for n, name in enumerate(TENSORS)} | weight_map
    return files | {f"{folder}{INDEX}": json.dumps({"weight_map": listed}).encode()}


@pytest.mark.parametrize(("folder", "source"), [("", ""), ("best/", f"/best/{INDEX}")])
def test_split_weights_come_whole_and_also_offline(folder, source, the_hub, monkeypatch):
    the_hub.files = shards(folder)
    first = fetch(f"hf://me/flowers{source}")
    assert {path.name for path in first.path.parent.iterdir()} == {
        INDEX,
        "0.safetensors",
        "1.safetensors",
    }
    with open_file(first.path, called="a") as checkpoint:
        for name, array in TENSORS.items():
            np.testing.assert_array_equal(checkpoint.tensors[name].read(), array)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    the_hub.requests.clear()
    assert fetch(f"hf://me/flowers{source}") == first
    assert the_hub.requests == []


def test_a_part_of_split_weights_that_came_damaged_is_refused_and_removed(the_hub, tmp_path):
    the_hub.files = shards()
    the_hub.content["1.safetensors"] = b"x" * len(the_hub.files["1.safetensors"])
    refused("hf://me/flowers", "the download was damaged")
    kept = {path.name for path in files_below(tmp_path / "cache")}
    assert "0.safetensors" in kept
    assert "1.safetensors" not in kept


@pytest.mark.parametrize("place", ["../config.json", "/etc/1.safetensors", "a/1.safetensors", ".."])
def test_split_weights_elsewhere_are_refused_before_they_are_asked_for(place, the_hub):
    the_hub.files = shards(**{"fc.bias": place})
    with pytest.raises(InputError, match=r"must be the name of a file in the same folder"):
        fetch("hf://me/flowers")
    assert not any(
        ".safetensors" in path and INDEX not in path for _, path, _ in the_hub.requests[2:]
    )


def test_a_repository_of_a_pickle_alone_is_read(the_hub):
    the_hub.files = {"pytorch_model.bin": b"tensors", "config.json": b"{}"}
    assert fetch("hf://me/flowers").path.name == "pytorch_model.bin"
    the_hub.files = {}
    refused("hf://me/flowers@v1", f"the repository has no file {hub.WEIGHTS_FILE}")


def test_a_repository_without_a_config_works_also_offline(the_hub, monkeypatch):
    del the_hub.files["config.json"]
    first = fetch("hf://me/flowers")
    assert first.config is None
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    the_hub.requests.clear()
    assert fetch("hf://me/flowers") == first
    assert the_hub.requests == []


def test_what_is_not_in_the_cache_is_refused_offline(the_hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("hf://me/flowers", "not in the cache", "HF_HUB_OFFLINE")
    assert the_hub.requests == []


ENVIRONMENT = """
from se_keras.weights import hub
print(hub.fetch(hub.parse_address("hf://me/flowers")).path)
"""


@pytest.mark.slow
def test_the_variables_of_the_environment_are_heeded(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    path = Path(run_python(ENVIRONMENT).strip())
    assert path.is_relative_to(tmp_path / "hub")
    assert path.read_bytes() == WEIGHTS


def test_a_connection_that_is_cut_half_way_is_taken_up_again(the_hub, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 14)  # what is kept of a cut one
    the_hub.cut_at, the_hub.cuts = (3 << 14) + 100, 1
    try:
        path = fetch("hf://me/flowers").path
    except InputError:  # huggingface_hub 1.0 takes it up at the next call only
        path = fetch("hf://me/flowers").path
    assert path.read_bytes() == WEIGHTS
    ranges = [wanted for _, path, wanted in the_hub.requests if path.startswith("/cdn/")]
    assert ranges == [None, f"bytes={3 << 14}-"]


def test_a_connection_that_is_always_cut_leaves_nothing(the_hub, tmp_path):
    the_hub.cut_at, the_hub.cuts = len(WEIGHTS) // 2, 100
    refused("hf://me/flowers", "the download failed", "try again")
    assert files_below(tmp_path / "cache") == [
        path for path in files_below(tmp_path / "cache") if path.name == "main"
    ]


def test_a_hub_that_is_down_is_named(the_hub, server):
    server.shutdown()
    server.server_close()
    refused("hf://me/flowers", server.address, "check the connection")


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((403, "GatedRepo"), "access on request"),
        ((401, "GatedRepo"), "access on request"),
        ((403, None), "access on request"),
        ((401, "RepoNotFound"), "no such repository"),
        ((404, "RepoNotFound"), "no such repository"),
        ((401, None), "no such repository"),
        ((404, "RevisionNotFound"), "no such revision"),
        ((404, "EntryNotFound"), "no file model.safetensors"),
        ((500, None), "500"),
    ],
)
def test_a_refusal_is_put_into_plain_words(the_hub, refusal, words, tmp_path):
    the_hub.refusal = refusal
    refused("hf://me/flowers", words)
    assert files_below(tmp_path / "cache") == []


DAMAGES = {
    "shorter": (WEIGHTS[:-4], "the download failed"),
    "other bytes": (WEIGHTS[:-4] + b"\x00" * 4, "its sha256 differs from"),
    "a page": (PAGE.ljust(len(WEIGHTS)), "it is a web page"),
    "zeros": (bytes(len(WEIGHTS)), "no safetensors header"),
    "a header beyond the end": (b"\xff" * 6 + WEIGHTS[6:], "no safetensors header"),
}


@pytest.mark.parametrize(("content", "words"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_refused_and_removed(the_hub, content, words, tmp_path):
    the_hub.content = {hub.WEIGHTS_FILE: content}
    refused("hf://me/flowers", words)
    kept = files_below(tmp_path / "cache")
    assert [path.name for path in kept if path.name != "main"] == []
    the_hub.content = {}
    assert fetch("hf://me/flowers").path.read_bytes() == WEIGHTS


def test_a_file_that_was_damaged_in_the_cache_is_refused_and_removed(the_hub):
    path = fetch("hf://me/flowers").path
    path.resolve().write_bytes(WEIGHTS[:-1] + b"\x01")
    refused("hf://me/flowers", "its sha256 differs from")
    assert fetch("hf://me/flowers").path.read_bytes() == WEIGHTS


@pytest.mark.parametrize("published", [WEIGHTS[:-4], WEIGHTS + b"\x00" * 4])
def test_a_file_that_was_published_broken_is_told_by_its_header(the_hub, published):
    the_hub.files[hub.WEIGHTS_FILE] = published
    refused(
        "hf://me/flowers", f"it has {len(published):,} bytes", f"in place of the {len(WEIGHTS):,}"
    )


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 100_000], ids=range(4))
def test_a_config_that_is_none_is_refused(the_hub, content):
    the_hub.files["config.json"] = content
    refused("hf://me/flowers", "config.json")


def test_a_page_in_place_of_the_hub_is_refused(the_hub, tmp_path):
    the_hub.metadata = False
    refused("hf://me/flowers", "HF_ENDPOINT")
    assert files_below(tmp_path / "cache") == []


@pytest.fixture
def small_disk():
    """Limit files to 64 KiB, so that a write fails half-way, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_write_that_fails_leaves_nothing(the_hub, small_disk, tmp_path):
    refused("hf://me/flowers", "File too large", "HF_HOME")
    assert [path.name for path in files_below(tmp_path / "cache")] == ["main"]


def test_a_cache_that_can_not_be_made_is_named(the_hub, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    refused("hf://me/flowers", str(tmp_path / "cache"), "HF_HOME")


@pytest.mark.parametrize(
    "source",
    [
        "hf://",
        "hf://flowers",
        "hf://me/flowers@",
        "hf://me/flowers@a@b",
        "hf:///flowers",
        "hf://a b/c",
    ],
)
def test_a_source_that_is_none_says_what_it_must_be(source):
    refused(source, "hf://owner/repo")


# --- files of a release --------------------------------------------------------------------------


def test_a_release_is_downloaded_once(server, keras_home):
    path = fetch(with_hash(server)).path
    assert path.is_relative_to(keras_home)
    assert path.read_bytes() == WEIGHTS
    assert list(path.parent.iterdir()) == [path]  # nothing of the download is left beside
    assert fetch(with_hash(server)).path == path
    assert len(server.requests) == 1


def test_a_release_is_known_by_its_md5(server, keras_home):
    source = f"{server.address}/files/{hub.WEIGHTS_FILE}#md5={hashlib.md5(WEIGHTS).hexdigest()}"
    assert fetch(source).path.read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (WEIGHTS[:-1], "its sha256 is"),
        (PAGE, "it is a web page"),
        (b"", "its sha256 is"),
    ],
)
def test_a_release_with_another_hash_is_refused_and_removed(server, keras_home, content, words):
    server.content = {hub.WEIGHTS_FILE: content}
    refused(with_hash(server), words, "try again")
    assert files_below(keras_home) == []
    server.content = {}
    assert fetch(with_hash(server)).path.read_bytes() == WEIGHTS


def test_a_release_that_was_damaged_in_the_cache_is_refused_and_removed(server, keras_home):
    path = fetch(with_hash(server)).path
    path.write_bytes(WEIGHTS[:100])
    refused(with_hash(server), "its sha256 is")
    assert not path.exists()


def test_files_of_one_name_do_not_take_each_others_place(server, keras_home):
    first = fetch(with_hash(server)).path
    server.content = {hub.WEIGHTS_FILE: b"another"}
    second = fetch(with_hash(server, b"another")).path
    assert (first.read_bytes(), second.read_bytes()) == (WEIGHTS, b"another")


def test_a_release_that_is_cut_half_way_leaves_nothing(server, keras_home):
    server.cut_at, server.cuts = len(WEIGHTS) // 2, 100
    refused(with_hash(server), "the download failed", "try again")
    assert files_below(keras_home) == []


def test_a_dead_link_is_named(server, keras_home):
    with pytest.raises(InputError, match=r"gone\.pth.* 404") as caught:
        fetch(with_hash(server, name="gone.pth"))
    caught.value.__cause__.__context__.close()  # get_file leaves the answer open
    assert files_below(keras_home) == []


def test_no_connection_is_named(server, keras_home):
    source = with_hash(server)
    server.shutdown()
    server.server_close()
    refused(source, "Connection refused", "check the connection")


def test_a_release_that_does_not_fit_leaves_nothing(server, keras_home, small_disk):
    refused(with_hash(server), "File too large", "KERAS_HOME")
    assert files_below(keras_home) == []


def test_a_folder_that_can_not_be_made_is_named(server, keras_home):
    keras_home.write_text("a file where the folder should be")
    refused(with_hash(server), str(keras_home), "KERAS_HOME")


@pytest.mark.parametrize(
    "source",
    [
        "https://example.org/weights.pth",
        "https://example.org/weights.pth#sha256=",
        "https://example.org/weights.pth#sha256=XYZ12345",
        "https://example.org/weights.pth#sha1=ce0d4300",
        "https://example.org/#sha256=ce0d4300",
    ],
)
def test_an_address_without_a_hash_is_refused(source):
    refused(source, "#sha256=")


# --- predicting with what was downloaded ---------------------------------------------------------

PHOTO = Path(sklearn.datasets.__file__).parent / "images" / "flower.jpg"
FLOWERS = {
    "architecture": "seresnet20",
    "num_classes": 3,
    "label_names": ["rose", "dahlia", "daisy"],
    "pretrained_cfg": {
        "input_size": [3, 48, 48],
        "crop_pct": 0.75,
        "interpolation": "bicubic",
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.2, 0.2],
    },
}


def trained(classes, path):
    """A network whose answer depends on the image, and the content of its file."""
    model = se_keras.create("seresnet20", classes=classes, input_shape=(None, None, 3))
    rng = np.random.default_rng(0)
    for weight in model.get_layer("predictions").weights:
        weight.assign(rng.normal(scale=4, size=weight.shape))
    model.save_weights(path)
    return model, path.read_bytes()


def printed(capsys, *arguments):
    """(name, percentage) of each line that `se-keras predict` prints below the photo's."""
    assert main(["predict", *map(str, arguments), str(PHOTO)]) == 0
    lines = capsys.readouterr().out.split(f"{PHOTO}\n")[1].splitlines()
    found = [re.fullmatch(r"  (.+?) +([\d.]+) %.*", line).groups() for line in lines]
    return [(name, float(share)) for name, share in found]


def test_predicting_with_a_repository(the_hub, tmp_path, capsys):
    model, content = trained(3, tmp_path / "a.weights.h5")
    the_hub.files = {"config.json": json.dumps(FLOWERS).encode(), "a.weights.h5": content}
    source = "hf://me/flowers@main/a.weights.h5"
    image = se_keras.load_image(PHOTO, source)
    assert image.shape == (48, 48, 3)
    shares = model.predict((image[None] / np.float32(255) - (0.4, 0.5, 0.6)) / 0.2, verbose=0)[0]
    expected = sorted(zip(FLOWERS["label_names"], 100 * shares, strict=True), key=lambda p: -p[1])
    found = printed(capsys, "--weights", source)
    assert [name for name, _ in found] == [name for name, _ in expected]
    np.testing.assert_allclose([s for _, s in found], [s for _, s in expected], atol=0.06)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label_names": ["rose", "dahlia"]}, "`label_names` of its config.json must be 3 names"),
        ({"architecture": 5}, "`architecture` of its config.json must be the name of a network"),
        ({"num_classes": 10**8}, "must be a whole number from 0 to 200,000, got 100000000"),
        ({"pretrained_cfg": {"mean": [float("nan")] * 3}}, "must be 3 numbers from"),
        ({"pretrained_cfg": {}}, "does not say how to prepare images"),
    ],
)
def test_predicting_with_a_bad_config_ends_in_one_line(the_hub, change, words, capsys):
    the_hub.files = {"config.json": json.dumps(FLOWERS | change).encode()}
    assert main(["predict", "--weights", "hf://me/flowers", str(PHOTO)]) == 2
    error = capsys.readouterr().err
    assert "hf://me/flowers" in error
    assert words in error
    assert error.count("\n") == 1


WEIGHTS_PAGE = Path(__file__).parent.parent / "docs" / "weights.md"


def example_of_the_docs():
    """The lines that load the a1 weights and classify a photo with them."""
    blocks = WEIGHTS_PAGE.read_text().split("```")
    start = 'model = se_keras.create("seresnet50", weights="hf://timm/seresnet50.a1_in1k")\n'
    (block,) = [block for block in blocks if block.startswith(f"text\n{start}")]
    return block.removeprefix("text\n")


@pytest.fixture(scope="module")
def seresnet50(tmp_path_factory):
    """The content of a file of weights, which all of timm's repositories here have."""
    path = tmp_path_factory.mktemp("weights") / hub.WEIGHTS_FILE
    se_keras.save_timm(se_keras.create("seresnet50"), path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("tag", "size"), [pytest.param("a1", 224, marks=pytest.mark.slow), ("a3", 160)]
)
def test_the_example_of_the_docs_cuts_the_photo_as_timm(
    tag, size, the_hub, seresnet50, tmp_path, monkeypatch
):
    the_hub.files = {"config.json": b"{}", hub.WEIGHTS_FILE: seresnet50}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(PHOTO.read_bytes())
    names = {"se_keras": se_keras}
    exec(example_of_the_docs().replace("a1_in1k", f"{tag}_in1k"), names)
    assert names["model"].name == f"seresnet50.{tag}_in1k"
    timm = np.load(Path(__file__).parent / "golden" / "preprocessing.npz")
    assert names["image"].shape == (size, size, 3)
    expected = timm[f"seresnet50.{tag}_in1k/flower.jpg/pixels"].astype(int)
    assert np.abs(names["image"][::7, ::7] - expected).max() <= 1
    assert names["scores"].shape == (1, 1000)


def test_predicting_with_the_best_published_weights(
    server, keras_home, monkeypatch, tmp_path, capsys
):
    model, content = trained(1000, tmp_path / "a.weights.h5")
    server.files = {"a.weights.h5": content}
    preset = presets.Preset(
        recipe="seresnet20",
        tag="test",
        source=with_hash(server, content, "a.weights.h5"),
        pixels=Pixels(**presets.USUAL | {"size": 40, "crop": 0.5}, labels="imagenet"),
        top1=0.0,
        origin="this test",
        best=True,
    )
    monkeypatch.setattr(presets, "PRESETS", (preset,))
    image = se_keras.load_image(PHOTO, "seresnet20")
    assert image.shape == (40, 40, 3)
    scores = model.predict(se_keras.preprocess_input(image[None], "seresnet20"), verbose=0)
    expected = se_keras.decode_predictions(scores, top=2)[0]
    found = printed(capsys, "--weights", "imagenet", "--model", "seresnet20", "--top", "2")
    assert [name for name, _ in found] == [name for _, name, _ in expected]
    np.testing.assert_allclose([s for _, s in found], [100 * s for *_, s in expected], atol=0.06)


def test_predicting_with_a_file(tmp_path, capsys):
    trained(4, tmp_path / "a.weights.h5")
    weights = ["--weights", tmp_path / "a.weights.h5", "--model", "seresnet20"]
    found = printed(capsys, *weights, "--pixels", "cm_seresnet18")
    assert sorted(name for name, _ in found) == [f"class {number}" for number in range(4)]
    assert sum(share for _, share in found) == pytest.approx(100, abs=0.3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--weights tuned.safetensors", "give it with --model"),
        ("--weights imagenet", "name the network (--model"),
        ("--weights imagenet --model semobilenet", "no weights are published for semobilenet"),
        ("--weights imagenet --model resnet50", "must be a model of the catalog"),
        (
            "--weights missing.safetensors --model seresnet20 --pixels seresnet50.a1_in1k",
            "missing.safetensors",
        ),
        ("--weights tuned.safetensors --model seresnet50", "Give --pixels"),
        (
            "--weights tuned.safetensors --model seresnet50 --pixels seresnet50",
            "take different images",
        ),
        ("--pixels seresnet50.a1_in1k", "MODEL IMAGE"),
        ("--weights hf://me", "hf://owner/repo"),
        ("--model seresnet20", "--model needs --weights"),
        ("", "--weights SOURCE IMAGE"),
    ],
)
def test_predicting_with_bad_arguments_says_so_in_a_line(
    arguments, words, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("tuned.safetensors").touch()
    assert main(["predict", *arguments.split(), str(PHOTO)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_predicting_says_which_image_is_none(tmp_path, capsys):
    (tmp_path / "bad.jpg").write_bytes(PHOTO.read_bytes()[:3000])
    trained(4, tmp_path / "a.weights.h5")
    weights = ["--weights", str(tmp_path / "a.weights.h5"), "--model", "seresnet20"]
    weights += ["--pixels", "seresnet50.a1_in1k"]
    assert main(["predict", *weights, str(tmp_path / "bad.jpg")]) == 2
    assert "bad.jpg" in capsys.readouterr().err


def test_a_repository_that_names_no_network_is_refused(the_hub, capsys):
    the_hub.files["config.json"] = b"{}"
    assert main(["predict", "--weights", "hf://me/flowers", str(PHOTO)]) == 2
    assert "give it with --model" in capsys.readouterr().err


# --- a hub that means harm -----------------------------------------------------------------------


@pytest.fixture
def thesis(tmp_path):
    """A file of the user, which no download may touch."""
    path = tmp_path / "home" / "thesis.txt"
    path.parent.mkdir()
    path.write_text("three years of work")
    yield path
    assert path.read_text() == "three years of work"
    assert not path.is_symlink()
    assert os.listdir(path.parent) == ["thesis.txt"]


HARMFUL_NAMES = {
    "absolute": "{thesis}",
    "quoted": '"{thesis}"',
    "weak": 'W/"{thesis}"',
    "up": '"../../../home/thesis.txt"',
    "new": '"../../../home/new.txt"',
    "up only": '".."',
    "other slash": '"..\\\\..\\\\home"',
    "hidden": '".ssh"',
    "empty": '""',
}


@pytest.mark.parametrize("header", hub.NAMING_HEADERS)
@pytest.mark.parametrize("name", HARMFUL_NAMES.values(), ids=HARMFUL_NAMES)
def test_a_hub_does_not_choose_paths(name, header, the_hub, thesis, tmp_path):
    the_hub.headers = {header: name.format(thesis=thesis)}
    refused("hf://me/flowers", f"the hub's header {header}", "must be a file name")
    assert {path.name for path in tmp_path.iterdir()} <= {"home", "cache"}
    assert files_below(tmp_path) == [thesis]


def test_a_hub_does_not_choose_where_a_missing_file_is_noted(the_hub, thesis, tmp_path):
    del the_hub.files[hub.CONFIG_FILE]
    the_hub.headers = {"X-Repo-Commit": "../../../home"}
    with pytest.raises(InputError, match="the hub's header X-Repo-Commit"):
        hub.fetch_config(hub.parse_address("hf://me/flowers"))
    assert files_below(tmp_path) == [thesis]


@pytest.mark.parametrize("file", [hub.WEIGHTS_FILE, hub.CONFIG_FILE])
def test_a_link_out_of_the_cache_is_neither_followed_nor_removed(file, the_hub, thesis):
    fetch("hf://me/flowers")
    (link,) = (path for path in Path(constants.HF_HUB_CACHE).rglob(file) if path.is_symlink())
    link.unlink()
    link.symlink_to(thesis)
    refused("hf://me/flowers", str(link), "is a link out of the cache")
    if file == hub.CONFIG_FILE:
        with pytest.raises(InputError, match="is a link out of the cache"):
            hub.cached_config(hub.parse_address("hf://me/flowers"))


def test_a_link_out_of_the_folder_of_releases_is_not_followed(server, keras_home, thesis):
    source = with_hash(server)
    path = fetch(source).path
    path.unlink()
    path.symlink_to(thesis)
    refused(source, "is a link out of the cache")


def test_a_cache_on_another_disk_is_one(the_hub, tmp_path):
    (tmp_path / "disk").mkdir()
    Path(constants.HF_HUB_CACHE).symlink_to(tmp_path / "disk")
    assert fetch("hf://me/flowers").config == CONFIG


def test_the_session_of_huggingface_hub_is_left_as_it_was(the_hub):
    before = get_session().event_hooks
    fetch("hf://me/flowers")
    assert get_session().event_hooks == before
