"""A hub on loopback with answers drawn by a seed: wrong, cut, slow, redirected, harmful."""

import copy
import hashlib
import json
import math
import random
import re
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from damage import places, with_value

COMMIT = "a" * 40
REPOSITORY = "me/flowers"
PAGE = b"<!DOCTYPE html>\n<html><body>Please log in</body></html>"
STATUSES = (200, 201, 204, 206, 301, 302, 304, 307, 308, 400, 401, 403, 404, 410, 416, 418, 429)
STATUSES += (451, 500, 502, 503, 504)
ERROR_CODES = ("GatedRepo", "RepoNotFound", "RevisionNotFound", "EntryNotFound", "x\x7f", "é")
ELSEWHERE = (
    *("file:///etc/passwd", "http://127.0.0.1:1/", "gopher://127.0.0.1/", "//", "", "http://["),
    *("data:,x", "../../..", "{self}", "{self}/", "ftp://127.0.0.1:1/x", "http://127.0.0.1:99999/"),
)
NAMES = ("../../../home/thesis.txt", "{thesis}", '"{thesis}"', 'W/"abc"', "..", ".", "", "x" * 300)
NAMES += ('"abc"', "a b", "a\\b", "0" * 64, "é", "con")
NAMING = ("X-Repo-Commit", "X-Linked-Etag", "ETag", "X-Xet-Hash")
LENGTHS = ("0", "1", "-1", "x", "999999999999999999", "1e3", "")
VALUES = (
    *(None, True, -1, 0, 1, 7, 10**9, 10**400, 1e308, 1e-320, math.nan, math.inf, "", "x", "5"),
    *("\ud800", "a\nb", "\x1b[31m", "x" * 5000, [], {}, [[]], [None], {"0": "a"}, {"-1": "a"}),
    *([3, 8, 8], [3, 1e5, 1e5], [math.nan] * 3, [0, 0, 0], list(range(300)), "../../x"),
)
DROPPED = object()


def mutated(config, generator):
    """The text of an object with some other values; or a text that is no object."""
    for _ in range(generator.randint(1, 3)):
        at = generator.choice(list(places(config))[1:] or [None])
        if at is None:
            break
        value = generator.choice((*VALUES, DROPPED))
        config = with_value(config, at, copy.deepcopy(value), drop=value is DROPPED)
    text = json.dumps(config)
    odd = (
        "[" * 50_000,
        '{"a":' * 5000,
        "null",
        text[:-3],
        text + text,
        " " * 2**24 + text,
        "\ufeff{}",
    )
    if generator.random() < 0.15:
        text = generator.choice(odd)
    elif generator.random() < 0.2:
        key = generator.choice(list(config) or ["a"])
        text = text.replace("{", f'{{"{key}": 1, ', 1)
    return text.encode("utf-8", "surrogatepass")


def damaged(content, generator):
    """The same bytes cut, with others in them, or others in all."""
    kind = generator.choice(("cut", "bits", "zeros", "page", "longer", "random", "empty"))
    if kind == "bits":
        content = bytearray(content)
        for _ in range(generator.randint(1, 30)):
            # The head of the file decides most, the numbers nothing.
            place = generator.randrange(min(len(content), generator.choice((4096, len(content)))))
            content[place] = generator.randrange(256)
        return bytes(content)
    return {
        "cut": content[: generator.randrange(len(content))],
        "zeros": bytes(len(content)),
        "page": PAGE,
        "longer": content + b"x" * generator.randint(1, 100),
        "random": generator.randbytes(len(content)),
        "empty": b"",
    }[kind]


class HostileHub(ThreadingHTTPServer):
    """Serves `files` of one repository, and after `turn_hostile` something else.

    Attributes:
        harm: what it answers in place of what is right, by the kind of answer: see `_HARM`.
    """

    daemon_threads = True

    def __init__(self, files, thesis):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.cdn = f"http://localhost:{self.server_port}/cdn"
        self.good, self.thesis = files, str(thesis)
        self.turn_good()

    def turn_good(self):
        self.files, self.sent, self.harm = dict(self.good), {}, {}

    def turn_hostile(self, generator):
        """Draw one to three harms."""
        self.turn_good()
        kinds = generator.sample(sorted(_HARM), generator.choice((1, 1, 2, 3)))
        for kind in kinds:
            _HARM[kind](self, generator)
        return kinds

    def handle_error(self, request, address):
        pass  # of a client that went away

    def whole(self, text):
        return text.replace("{self}", f"{self.address}/loop").replace("{thesis}", self.thesis)


def _some(server, generator):
    return generator.choice(sorted(server.files))


def _harm_status(server, generator):
    where = generator.choice(("head", "body", "both"))
    server.harm["status"] = (
        where,
        generator.choice(STATUSES),
        generator.choice((None, *ERROR_CODES)),
    )


def _harm_page(server, generator):
    server.harm["page"] = True


def _harm_redirect(server, generator):
    place = generator.choice(("resolve", "cdn", "api"))
    server.harm["redirect"] = place, server.whole(generator.choice(ELSEWHERE))


def _harm_names(server, generator):
    header = generator.choice(NAMING)
    server.harm["headers"] = {header: server.whole(generator.choice(NAMES))}
    if generator.random() < 0.3:
        server.harm["headers"] = {header: None}


def _harm_size(server, generator):
    server.harm.setdefault("headers", {})["X-Linked-Size"] = generator.choice(LENGTHS)


def _harm_length(server, generator):
    server.harm["length"] = generator.choice(LENGTHS)


def _harm_cut(server, generator):
    server.harm["cut"] = generator.random()


def _harm_slow(server, generator):
    server.harm["slow"] = generator.uniform(0.001, 0.02)


def _harm_sent(server, generator):
    """The sent content differs from the hub's description of it."""
    name = _some(server, generator)
    server.sent[name] = damaged(server.files[name], generator)


def _harm_published(server, generator):
    """The published content is harmful, and has the hash that the hub states."""
    name = _some(server, generator)
    server.files[name] = damaged(server.files[name], generator)


def _harm_config(server, generator):
    server.files["config.json"] = mutated(json.loads(server.good["config.json"]), generator)


def _harm_missing(server, generator):
    del server.files[_some(server, generator)]


_HARM = {
    "status": _harm_status,
    "page": _harm_page,
    "redirect": _harm_redirect,
    "names": _harm_names,
    "size": _harm_size,
    "length": _harm_length,
    "cut": _harm_cut,
    "slow": _harm_slow,
    "sent": _harm_sent,
    "published": _harm_published,
    "config": _harm_config,
    "config again": _harm_config,
    "missing": _harm_missing,
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        harm = self.server.harm
        resolve = re.fullmatch(rf"/{REPOSITORY}/resolve/([^/]+)/(.+)", self.path)
        of_body = self.path.startswith("/cdn/")
        where, status, code = harm.get("status", (None, None, None))
        if where == "both" or where == ("body" if of_body else "head"):
            self.reply(status, {"X-Error-Code": code} if code else {})
        elif harm.get("page"):
            self.reply(200, {"Content-Type": "text/html"}, PAGE)
        elif self.path.startswith("/loop"):
            self.reply(302, {"Location": self.path})
        elif resolve:
            self.resolve(*resolve.groups())
        elif of_body:
            self.send_file(self.path.removeprefix("/cdn/"))
        else:
            self.reply(401, {"X-Error-Code": "RepoNotFound"})

    def resolve(self, revision, file):
        place, target = self.server.harm.get("redirect", (None, None))
        content = self.server.files.get(file)
        headers = {"X-Repo-Commit": COMMIT}
        if revision not in ("main", COMMIT):
            self.reply(404, {"X-Error-Code": "RevisionNotFound"})
        elif place == "resolve":
            self.reply(302, headers | {"Location": target, "ETag": '"abc"'})
        elif content is None:
            self.reply(404, headers | {"X-Error-Code": "EntryNotFound"})
        elif file.endswith(".json"):
            sent = self.server.sent.get(file, content)
            self.reply(200, headers | {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'}, sent)
        else:
            headers["X-Linked-Etag"] = f'"{hashlib.sha256(content).hexdigest()}"'
            headers["X-Linked-Size"] = str(len(content))
            where = target if place == "cdn" else f"{self.server.cdn}/{file}"
            self.reply(302, headers | {"Location": where})

    def send_file(self, name):
        content = self.server.sent.get(name, self.server.files.get(name))
        if content is None:
            self.reply(404, {})
            return
        start = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0, 0])[1])
        headers = {"Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.reply(206 if start else 200, headers, content[start:])

    def reply(self, status, headers, body=b""):
        harm = self.server.harm
        self.send_response(status)
        headers = {"Content-Length": str(len(body)), **headers, **harm.get("headers", {})}
        if "length" in harm and self.command == "GET":
            headers["Content-Length"] = harm["length"]
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value.encode("utf-8", "replace").decode("latin-1"))
        self.close_connection = bool(harm)
        if harm:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return
        if "cut" in harm:
            body = body[: int(len(body) * harm["cut"])]
        step = max(1, len(body) // 10) if "slow" in harm else max(1, len(body))
        for start in range(0, len(body), step):
            self.wfile.write(body[start : start + step])
            time.sleep(harm.get("slow", 0))


@contextmanager
def hub(files, thesis):
    """Provide a running hub, which is good at first."""
    server = HostileHub(files, thesis)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def drawn(*words):
    """Return a random generator that these words seed."""
    return random.Random(" ".join(map(str, words)))
