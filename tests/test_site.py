"""The documentation site: it builds without a warning, and a real browser finds its way in it."""

import functools
import http.server
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import quote, unquote, urlparse

import pytest
from checks import REPO, real_browser

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("furo", reason="needs the extra `docs`")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "docs", str(folder)]
    built = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def address(site):
    handler = functools.partial(_Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


def test_every_page_is_whole_in_a_browser(site, address):
    pages = [p for p in site.rglob("*.html") if "_static" not in p.parts]
    assert len(pages) > 25
    with real_browser() as browser:
        for page in pages:
            browser.get(f"{address}/{page.relative_to(site)}")
            check_links(browser, site, address)
            pictures = browser.execute_script(
                "return [...document.images].map(i => {i.loading = 'eager'; return i.decode()"
                ".then(() => i.naturalWidth > 0, () => false)}).reduce((all, one) => "
                "all.then(a => one.then(b => a && b)), Promise.resolve(true))"
            )
            assert pictures, page


def check_links(browser, site, address):
    anchors = "return [...document.querySelectorAll('a[href]')].map(a => a.href)"
    for link in browser.execute_script(anchors):
        if not link.startswith(address):
            assert urlparse(link).scheme in ("https", "mailto"), link
            continue
        path = site / unquote(urlparse(link).path).lstrip("/")
        path = path / "index.html" if path.is_dir() else path
        assert path.is_file(), (browser.current_url, link)
        target = unquote(urlparse(link).fragment)
        assert not target or f'id="{target}"' in read(path), (browser.current_url, link)


@functools.cache
def read(path: Path) -> str:
    return path.read_text("utf-8")


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("SqueezeExcite", "reference/layer.html"),
        ("timm", "moving.html"),
        ("move from timm", "moving.html"),
        ("migrate from timm", "moving.html"),
        ("int8", "export.html"),
    ],
)
def test_the_search_finds(address, query, page):
    with real_browser() as browser:
        browser.get(f"{address}/search.html?q={quote(query)}")
        results = "return [...document.querySelectorAll('#search-results a')].map(a => a.href)"
        found = browser.execute_async_script(
            f"""const done = arguments[arguments.length - 1];
            const poll = () => {{
              const hrefs = (() => {{{results}}})();
              document.querySelector('.search-summary')?.textContent.match(/found/)
                ? done(hrefs) : setTimeout(poll, 50);
            }};
            poll();"""
        )
        assert any(href.partition("#")[0].endswith(page) for href in found), found
