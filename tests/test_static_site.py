from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.web.http_requests import HttpRequest, HttpResponse
from netsvc.web.static_site import CONTENT_SECURITY_POLICY, StaticSite, accepts_gzip, files_in, text_response

FILES = {
    "index.html": b'<link href="page.css"><script src=\'./app.js\'></script><img src="logo.svg"> page.css "other.css"',
    "page.css": b'body { background: url("logo.svg") } /* page.cs "page.css.map" \'logo.svg" */',
    "app.js": b'import { x } from "./lib.js"; const name = "index.html";' + b"\n// padding" * 50,
    "lib.js": b"export const x = 'lib_js';",
    "logo.svg": b"<svg/>",
}


def site(path: str = "/") -> StaticSite:
    return StaticSite(FILES, path)


def get(site: StaticSite, target: str, method: str = "GET", **headers: str) -> HttpResponse:
    """Return the answer to a request. Names of headers have ``_`` for ``-``."""
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return site.answer(HttpRequest(method, target, named))


def header(response: HttpResponse, name: str) -> str:
    """Return the only header of this name; empty without one."""
    values = [value for known, value in response.headers if known == name]
    assert len(values) < 2
    return values[0] if values else ""


def names_in(body: bytes) -> list[str]:
    """Return the names between quotes that have a hash."""
    return [name.decode() for name in re.findall(rb"[\"'](?:\./)?(\w+\.[0-9a-f]{12}\.\w+)[\"']", body)]


def test_the_page_names_its_files_by_their_hashes_and_each_is_served() -> None:
    page = get(site(), "/").body
    assert [name.partition(".")[0] for name in names_in(page)] == ["page", "app", "logo"]
    for name in names_in(page):
        assert get(site(), f"/{name}").status == 200
    assert page.endswith(b'> page.css "other.css"')  # no name between quotes, and the name of no file


def test_names_are_replaced_in_style_sheets_and_in_scripts() -> None:
    css, js, logo = (get(site(), f"/{name}").body for name in names_in(get(site(), "/").body))
    assert css == FILES["page.css"].replace(b'url("logo.svg")', f'url("{names_in(css)[0]}")'.encode())
    assert get(site(), f"/{names_in(css)[0]}").body == logo == b"<svg/>"
    assert js.startswith(b'import { x } from "./lib.')
    assert b'"index.html"' in js
    assert get(site(), f"/{names_in(js)[0]}").body == FILES["lib.js"]


def test_a_file_that_has_changed_and_each_that_names_it_has_another_name() -> None:
    before, after = (
        names_in(get(StaticSite({**FILES, "lib.js": content}), "/").body) for content in (b"let a;", b"let b;")
    )
    changed = [old.partition(".")[0] for old, new in zip(before, after, strict=True) if old != new]
    assert changed == ["app"]


@pytest.mark.parametrize(
    "files",
    [
        {"index.html": b"", "a.js": b"'a.js'"},
        {"index.html": b"", "a.js": b"'b.js'", "b.js": b"'./a.js'"},
        {"index.html": b"'a.js'", "a.js": b"'b.js'", "b.js": b"'c.js'", "c.js": b"'a.js'"},
    ],
)
def test_files_that_name_each_other_in_a_circle_are_refused(files: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="names itself"):
        StaticSite(files)


def test_two_files_may_name_the_same_one() -> None:
    served = StaticSite({"index.html": b"'a.js' 'b.js'", "a.js": b"'c.js'", "b.js": b"'c.js'", "c.js": b""})
    a, b = (get(served, f"/{name}").body for name in names_in(get(served, "/").body))
    assert a == b


def test_a_page_may_have_no_other_file() -> None:
    assert get(StaticSite({"index.html": b"hello"}), "/").body == b"hello"


def test_the_page_is_checked_at_each_visit_and_its_files_are_kept_for_ever() -> None:
    page = get(site(), "/")
    assert header(page, "cache-control") == "no-cache"
    for name in names_in(page.body):
        assert header(get(site(), f"/{name}"), "cache-control") == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("", "text/html; charset=utf-8"),
        ("page", "text/css; charset=utf-8"),
        ("app", "text/javascript; charset=utf-8"),
        ("logo", "image/svg+xml"),
    ],
)
def test_a_file_has_the_type_of_its_ending(name: str, kind: str) -> None:
    [target] = [full for full in ["", *names_in(get(site(), "/").body)] if full.partition(".")[0] == name]
    assert header(get(site(), f"/{target}"), "content-type") == kind


def test_a_file_is_compressed_for_a_browser_that_accepts_it() -> None:
    plain, compressed = get(site(), "/"), get(site(), "/", accept_encoding="gzip, deflate, br")
    assert header(plain, "content-encoding") == ""
    assert header(compressed, "content-encoding") == "gzip"
    assert gzip.decompress(compressed.body) == plain.body
    assert header(plain, "vary") == header(compressed, "vary") == "accept-encoding"


@pytest.mark.parametrize(
    ("accepted", "is_accepted"),
    [
        ("gzip", True),
        ("x-gzip", True),
        ("GZip", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("gzip ; q=0.001", True),
        ("*", True),
        ("identity, *", True),
        ("", False),
        ("identity", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("gzip;Q=0", False),
        ("*;q=0", False),
        ("gzipped", False),
        ("*;q=0, gzip", True),
        ("*, gzip;q=0", False),
        ("gzip;q=0, *", False),
        (";q=0,,=;", False),
    ],
)
def test_gzip_is_used_as_the_client_allows_it(accepted: str, is_accepted: bool) -> None:
    assert accepts_gzip(accepted) == is_accepted


def test_a_file_that_the_browser_has_is_not_sent_again() -> None:
    page = get(site(), "/")
    tag = header(page, "etag")
    assert re.fullmatch(r'"[0-9a-f]{32}"', tag)
    for known in (tag, f"W/{tag}", f'"other", {tag}', f'"a",{tag},"b"'):
        again = get(site(), "/", if_none_match=known, accept_encoding="gzip")
        assert (again.status, again.body) == (304, b"")
        for name in ("etag", "cache-control", "vary", "content-security-policy"):  # RFC 9110, section 15.4.5
            assert header(again, name) == header(page, name)
        assert header(again, "content-encoding") == ""
    for other in ('"other"', tag.strip('"'), tag[:-2], ""):
        assert get(site(), "/", if_none_match=other).status == 200


def test_a_page_that_has_changed_is_sent_again() -> None:
    tag = header(get(site(), "/"), "etag")
    changed = StaticSite({**FILES, "lib.js": b"let b;"})
    assert get(changed, "/", if_none_match=tag).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get", "CONNECT", "TRACE"])
def test_other_methods_are_not_allowed(method: str) -> None:
    refused = get(site(), "/", method)
    assert refused.status == 405
    assert header(refused, "allow") == "GET, HEAD"


def test_head_is_answered_as_get() -> None:
    assert get(site(), "/", "HEAD") == get(site(), "/")


@pytest.mark.parametrize(
    "target",
    [
        *(
            "/index.html",
            "/app.js",
            "/x",
            "//",
            "/../index.html",
            "/%2e%2e/",
            "/./",
            "index.html",
            "*",
            "x:1",
            "http://a/",
        ),
        *("/ws", "/favicon.ico", "/etc/passwd", "/..\\", "/.git/config", "/%00", "/%69ndex.html"),
    ],
)
def test_what_is_no_file_of_the_page_is_not_found(target: str) -> None:
    missing = get(site(), target)
    assert missing.status == 404
    assert missing.body == b"there is no such page\n"
    assert header(missing, "cache-control") == "no-store"


def test_a_query_is_ignored() -> None:
    assert get(site(), "/?utm=1&a=/x") == get(site(), "/")
    [name, *_] = names_in(get(site(), "/").body)
    assert get(site(), f"/{name}?x") == get(site(), f"/{name}")
    assert get(site(), "/x?/").status == 404


def test_a_page_below_a_path_is_served_there_and_nowhere_else() -> None:
    below = site("/chat/")
    page = get(below, "/chat/")
    assert page == get(site(), "/")
    for name in names_in(page.body):
        assert get(below, f"/chat/{name}").status == 200
        assert get(below, f"/{name}").status == 404
    for target in ("/", "", "/chatter", "/chat//", "/chat/x", "/other/chat/", "/CHAT/", "chat/"):
        assert get(below, target).status == 404


@pytest.mark.parametrize("target", ["/chat", "/chat?x=1"])
def test_a_path_without_its_last_slash_leads_to_the_page(target: str) -> None:
    moved = get(site("/chat/"), target)
    assert moved.status == 308
    assert header(moved, "location") == "/chat/"


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E)))
def test_no_target_leads_to_anything_but_the_files(target: str) -> None:
    served = site("/chat/")
    answer = get(served, target)
    assert answer.status in (200, 308, 404)
    if answer.status == 200:
        assert target.partition("?")[0] == "/chat/"


@pytest.mark.parametrize(
    "response",
    [
        *(get(site(), "/"), get(site(), "/x"), get(site(), "/", "POST"), get(site("/a/"), "/a")),
        *(get(site(), "/", if_none_match=header(get(site(), "/"), "etag")), text_response(400, "no")),
    ],
    ids=lambda response: str(response.status),
)
def test_every_answer_has_the_strict_policy(response: HttpResponse) -> None:
    policy = header(response, "content-security-policy")
    assert policy == CONTENT_SECURITY_POLICY
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives["default-src"] == directives["frame-ancestors"] == directives["base-uri"] == "'none'"
    assert directives["script-src"] == directives["connect-src"] == "'self'"
    assert "unsafe" not in policy
    assert header(response, "x-content-type-options") == "nosniff"
    assert header(response, "referrer-policy") == "no-referrer"


def test_the_files_of_a_folder_are_those_that_a_page_may_have(tmp_path: Path) -> None:
    for name in ("index.html", "a.js", "b.css", "c.svg", "d.py", "e.js.bak", "js"):
        (tmp_path / name).write_bytes(name.encode())
    assert files_in(tmp_path) == {name: name.encode() for name in ("index.html", "a.js", "b.css", "c.svg")}


def test_the_weight_is_that_of_all_files() -> None:
    plain, compressed = site().weight
    assert plain > sum(map(len, FILES.values()))  # the hashes
    assert compressed < plain
