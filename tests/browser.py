"""A real Chromium for tests, driven by Playwright. Tests that use it have the marker ``browser``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

#: The names of the program, and its flags: no sandbox, which containers do not allow, and no traffic of its own.
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

#: Milliseconds in which something that a test waits for must happen.
PATIENCE = 10_000


@contextmanager
def browser_page(folder: Path, **options: Any) -> Iterator[Page]:
    """Open a page in Chromium during a block. A script of the page that fails, fails the block.

    :param folder: gets a screenshot, ``failed.png``, if the block fails.
    :param options: of the context, such as ``color_scheme`` and ``viewport``.
    """
    program = chromium()
    from playwright.sync_api import sync_playwright

    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        page = browser.new_page(**options)
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: errors.append(str(error)))
        try:
            yield page
            assert errors == []
        except BaseException as failure:
            page.screenshot(path=folder / "failed.png", full_page=True)
            failure.add_note(f"the page looked like {folder / 'failed.png'}")
            raise
        finally:
            browser.close()


def chromium() -> str:
    """Return the path of Chromium. Without it, or without Playwright, the test is skipped; with ``CI`` set it fails."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is not None and find_spec("playwright") is not None:
        return program
    missing = "Chromium" if program is None else "Playwright"
    if os.environ.get("CI"):
        pytest.fail(f"{missing} is not installed")
    pytest.skip(f"{missing} is not installed")


def violations(page: Page) -> str:
    """Return which rules of accessibility a page violates, by axe-core; empty if none."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return "\n".join(f"{each['id']}: {node['html']}" for each in found for node in each["nodes"])
