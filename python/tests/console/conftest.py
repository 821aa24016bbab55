"""A coordinator with a scene, and a headless Chromium that looks at its console.

Needs Debian's `chromium` package (`apt-get install chromium`) or a Chromium at BOWSTRING_CHROMIUM. Where there is none,
these tests are skipped; with BOWSTRING_BROWSER=required, as in CI, they fail instead. Screenshots lie in
BOWSTRING_SCREENSHOTS, or else in `bowstring-console` in the folder of temporary files, for people to look at.
BOWSTRING_BINARY names a `bowstring` that was built by cargo, to be looked at instead of the wheel's.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..support import Child, Served, server
from .scene import Scene, scene

INSTALL = "there is no Chromium: install it with `apt-get install chromium`, or name one in BOWSTRING_CHROMIUM"


def chromium() -> str | None:
    """Where Chromium is."""
    return os.environ.get("BOWSTRING_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def screenshots() -> Path:
    folder = Path(os.environ.get("BOWSTRING_SCREENSHOTS") or Path(tempfile.gettempdir()) / "bowstring-console")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    path = chromium()
    if path is None:
        if os.environ.get("BOWSTRING_BROWSER") == "required":
            pytest.fail(INSTALL)
        pytest.skip(INSTALL)
    from playwright.sync_api import sync_playwright

    # Ended with the module: while it lasts, its event loop runs on this thread, and asyncio.run() is refused.
    with sync_playwright() as playwright:
        # Chromium's sandbox wants more than a container gives its root; the pages are our own.
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def shown(browser: object) -> Iterator[Scene]:
    """One coordinator for all of these tests: they only look."""
    del browser  # Nothing is started where there is nobody to look.
    with ExitStack() as running:

        def start(*arguments: str) -> Child:
            # A binary that was built by cargo instead of the wheel's.
            binary = os.environ.get("BOWSTRING_BINARY")
            child = Child(*(arguments[2:] if binary else arguments), program=binary)
            running.callback(child.end)
            return child

        served: Served = server(start)()
        yield running.enter_context(scene(served.url, served.http_url))


@pytest.fixture
def look(browser: object, shown: Scene) -> Iterator[Callable[..., object]]:
    """Opens the console at an address in a window of this size and scheme. Any error of the page fails the test at its
    end, but for answers that a test has made fail."""
    errors: list[str] = []

    def told(said: object, fails: bool) -> None:
        if said.type in ("error", "warning") and not (fails and "Failed to load resource" in said.text):
            errors.append(said.text)

    with ExitStack() as running:

        def open_page(
            address: str = "#/", width: int = 1280, height: int = 900, scheme: str = "light", fails: bool = False
        ) -> object:
            size = {"width": width, "height": height}
            context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
            running.callback(context.close)
            page = context.new_page()
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("console", lambda said: told(said, fails))
            page.on(
                "request",
                lambda asked: None if asked.url.startswith(shown.http_url) else errors.append(f"asks {asked.url}"),
            )
            page.goto(f"{shown.http_url}/{address}")
            page.wait_for_selector("main:not([aria-busy]) h1")
            return page

        yield open_page
    assert errors == []
