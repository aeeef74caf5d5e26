"""Crawl 200 local pages with Scrapy, and print the number of pages: ``scrapy_crawl.py REACTOR HOW``.

HOW is ``by-name`` if Scrapy installs the reactor, ``preinstalled`` if it finds it installed.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from typing import Any

import scrapy
from scrapy.crawler import CrawlerProcess

PAGES = 200
REACTORS = {
    "netsvc.reactor.asyncio": "netsvc.reactor.asyncio.AsyncioReactor",
    "netsvc.reactor.uvloop": "netsvc.reactor.uvloop.UvloopReactor",
}


class Page(BaseHTTPRequestHandler):
    """A page with links to two further pages, so that the crawl branches."""

    def do_GET(self) -> None:
        number = int(self.path.strip("/") or 1)
        links = "".join(f'<a href="/{n}">{n}</a>' for n in (2 * number, 2 * number + 1) if n <= PAGES)
        body = f"<html><title>page {number}</title>{links}</html>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name in the base class
        pass


class Spider(scrapy.Spider):  # type: ignore[misc]
    name = "pages"

    def parse(self, response: Any) -> Iterator[Any]:
        yield {"title": response.css("title::text").get()}
        yield from response.follow_all(css="a")


def main(module: str, how: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = {
        "LOG_LEVEL": "ERROR",
        "CONCURRENT_REQUESTS_PER_DOMAIN": 16,
        "DOWNLOAD_DELAY": 0,
        "ROBOTSTXT_OBEY": False,
        "TELNETCONSOLE_ENABLED": False,
        "TWISTED_REACTOR": REACTORS[module] if how == "by-name" else None,
    }
    if how == "preinstalled":
        import_module(module).install()
    process = CrawlerProcess(settings)
    crawler = process.create_crawler(Spider)
    process.crawl(crawler, start_urls=[f"http://127.0.0.1:{server.server_port}/1"])
    process.start()

    from twisted.internet import reactor  # noqa: TID251  Scrapy has installed it

    assert crawler.stats is not None
    sys.stdout.write(f"{crawler.stats.get_value('item_scraped_count')} pages on {type(reactor).__name__}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
