"""The console in a real browser: under load, by keyboard, on a phone, names and values that would be markup."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from .scene import HOSTILE, RESTING, SCRIPT

VIEWS = {
    "overview": "#/",
    "streams": "#/streams?sort=level",
    "blocked": "#/stream/clicks",
    "flowing": "#/stream/flights",
    "subscriptions": "#/stream/flights/subscriptions",
    "shared": "#/stream/jobs/subscriptions",
    "partitions": "#/stream/flights/partitions",
    "schema": "#/stream/types/schema",
    "rows": "#/stream/types/rows",
    "hostile": f"#/stream/{quote(SCRIPT, safe='')}/rows",
    "configuration": "#/configuration",
    "health": "#/health",
}
#: Widths of a desk and of a phone, in both schemes.
WINDOWS = {
    "light": (1280, 900, "light"),
    "dark": (1280, 900, "dark"),
    "phone": (390, 844, "light"),
    "phone-dark": (390, 844, "dark"),
}

Look = Callable[..., Any]


def wait_for(page: Any, text: str) -> None:
    page.wait_for_function("text => document.querySelector('main').textContent.includes(text)", arg=text)


def test_the_overview_says_who_is_blocked_and_why(look: Look) -> None:
    page = look()
    wait_for(page, "1 stream is blocked")
    reasons = page.locator(".reasons .reason.blocked").inner_text()
    assert re.search(
        r"Producer ingest-\d waits .*subscription warehouse holds it back: consumer etl-4/4211", reasons, re.S
    )
    wait_for(page, "flights")
    page.wait_for_function("() => parseFloat(document.querySelector('.tile.in .large').textContent) > 0")
    assert page.locator(".tile.blocked .large").inner_text() == "2"


def test_the_blocked_edge_is_marked_in_the_drawing_and_said_in_words(look: Look) -> None:
    page = look("#/stream/clicks")
    page.wait_for_selector(".flow svg")
    assert page.locator(".flow .edge.blocked").count() >= 3
    assert page.locator(".flow .node.blocked").count() >= 3
    label = page.locator(".flow svg").get_attribute("aria-label")
    assert "2 producers wait for room" in label
    assert "held back by warehouse" in label
    page.locator(".flow summary").focus()
    page.keyboard.press("Enter")
    text = page.locator(".flow-text").inner_text()
    assert re.search(r"ingest-1 \(producer\): waits .* for room", text)
    assert re.search(r"warehouse .*holds the stream back", text)
    # What somebody has opened stays open when the page looks again.
    before = page.locator("#looked").inner_text()
    page.wait_for_function("before => document.getElementById('looked').textContent !== before", arg=before)
    assert page.locator(".flow details[open]").count() == 1


def test_a_spark_query_and_its_epochs_are_seen(look: Look) -> None:
    page = look("#/stream/flights")
    page.wait_for_selector("svg .commit", timeout=60_000)
    assert "Spark" in page.locator(".flow-text, table").all_inner_texts()[-1]
    assert re.search(
        r"Epochs of the past (hour|ten minutes): \d+ committed",
        page.locator("svg[aria-label^=Epochs]").get_attribute("aria-label"),
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_names_and_values_are_text_whatever_they_say(look: Look, name: str) -> None:
    address = quote(name, safe="")
    page = look(f"#/stream/{address}/rows")
    page.wait_for_selector(".cells tbody tr")
    assert page.locator(".cells tbody tr").count() == 9
    assert page.locator("main img, main script, main iframe").count() == 0
    cells = page.locator(".cells tbody tr td:nth-child(3)").all_inner_texts()
    assert cells[0] == SCRIPT
    assert cells[3:5] == ["null", "null"]
    assert page.locator(".cells .null").all_inner_texts() == ["empty", "null"]
    assert cells[6] == "U+202Egnp.exe"
    for tab in ["", "subscriptions", "partitions", "schema"]:
        page.goto(page.url.split("#")[0] + f"#/stream/{address}/{tab}")
        page.wait_for_selector(".tabs [aria-current]")
    assert "taken" not in page.title() or page.title().startswith(name)
    assert page.title().endswith(" \u2013 bowstring")


def test_values_of_all_types_are_shown_unambiguously(look: Look) -> None:
    page = look("#/stream/types/rows")
    page.wait_for_selector(".cells tbody tr")
    cells = page.locator(".cells tbody tr:first-child td").all_inner_texts()[2:]
    assert cells == [
        "4611686018427387905",
        "0.1",
        "true",
        "123456789012345678.90",
        "null",
        "0x00ff3c",
        "2026-11-01",
        "2026-11-01T12:30:15.123456",
        "2026-11-01T12:30:15.123456Z",
        "[1, null, 3]",
        '{"a": "x", "b": null}',
        '{"k": 1, "l": null}',
        "red",
        '[{"when": ["2026-11-01T12:30:15.123Z"]}]',
        "null",
    ]
    assert page.locator(".cells tbody tr:nth-child(3) .null").count() == 15


def test_a_thousand_streams_are_filtered_and_paged_and_the_page_stays_quick(look: Look) -> None:
    page = look("#/streams")
    wait_for(page, f"{RESTING + len(HOSTILE) + 5:,} streams")
    assert page.locator("tbody tr").count() == 50
    started = time.monotonic()
    page.get_by_label("Name contains").press_sequentially("resting-07")
    wait_for(page, "100 of")
    # Generous, for a machine that others use too: a page that drew a thousand rows for each letter would take longer.
    assert time.monotonic() - started < 10
    assert page.get_by_label("Name contains").input_value() == "resting-07"
    page.get_by_role("link", name="Next").click()
    wait_for(page, "Page 2 of 2")
    assert page.locator("tbody tr th").first.inner_text() == "resting-0750"
    page.go_back()
    page.go_back()
    assert page.evaluate("document.querySelectorAll('*').length") < 3000


def test_everything_is_reached_by_keyboard(look: Look) -> None:
    page = look()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.get_by_role("link", name="Streams", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("main:not([aria-busy]) .filters")
    seen = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.add(
            page.evaluate(
                "document.activeElement.name || document.activeElement.id || document.activeElement.className"
            )
        )
    assert {"filter", "level", "sort"} <= seen


def test_pausing_holds_the_page_still(look: Look) -> None:
    page = look()
    page.get_by_role("button", name="Pause").click()
    assert page.locator("#pause").get_attribute("aria-pressed") == "true"
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(3000)
    assert asked == []
    page.locator("#pause").click()
    page.wait_for_function("() => document.getElementById('pause').getAttribute('aria-pressed') === 'false'")


def test_a_chosen_theme_stays(look: Look) -> None:
    page = look(scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Theme: system").click()
    page.get_by_role("button", name="Theme: light").click()
    assert page.evaluate(ground) != light
    page.reload()
    page.get_by_role("button", name="Theme: dark").wait_for()
    assert page.evaluate(ground) != light


def test_a_token_is_asked_for_once_kept_in_the_tab_and_sent_as_bearer(look: Look) -> None:
    page = look("#/configuration", fails=True)
    sent: list[str | None] = []

    def answer(route: Any) -> None:
        token = route.request.headers.get("authorization")
        sent.append(token)
        if token == "Bearer right":
            route.continue_()
        else:
            error = {"error": {"code": "unauthenticated", "message": "say who you are <b>now</b>"}}
            route.fulfill(status=401, json=error)

    page.route("**/api/v1/*", answer)
    # The browser itself tells its console of each refusal.
    page.evaluate("location.hash = '#/'")
    dialog = page.get_by_role("dialog", name="This coordinator asks for a token")
    dialog.wait_for()
    assert dialog.locator("#sign-in-why").inner_text() == "say who you are <b>now</b>"
    assert page.evaluate("document.activeElement.id") == "token"
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.getElementById('token').value === ''")
    dialog.wait_for()
    page.keyboard.type("right")
    page.keyboard.press("Enter")
    wait_for(page, "is blocked")
    assert not dialog.is_visible()
    assert sent[0] is None
    assert "Bearer wrong" in sent
    assert page.evaluate("Object.values(localStorage).concat(document.cookie).join()").find("right") < 0
    assert page.evaluate("sessionStorage.getItem('bowstring-token')") == "right"


def test_a_coordinator_that_is_gone_is_said_and_the_page_goes_on(look: Look) -> None:
    page = look("#/health", fails=True)
    page.route("**/api/v1/health", lambda route: route.abort())
    page.get_by_role("alert").get_by_text("does not answer").wait_for()
    assert "does well" in page.locator("h1").inner_text()
    page.unroute("**/api/v1/health")
    page.wait_for_function("() => document.getElementById('trouble').textContent === ''")


@pytest.mark.parametrize("window", WINDOWS)
def test_every_view_fits_its_window_and_passes_axe(look: Look, window: str, screenshots: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe

    width, height, scheme = WINDOWS[window]
    page = look(width=width, height=height, scheme=scheme)
    faults = []
    options = {"resultTypes": ["violations"]}
    for view, address in VIEWS.items():
        page.goto(page.url.split("#")[0] + address)
        page.wait_for_selector("main:not([aria-busy]) h1")
        if view in ("rows", "hostile"):
            page.wait_for_selector(".cells tbody tr")
        page.screenshot(path=screenshots / f"{view}-{window}.png", full_page=True)
        # What is small and dark is made of what is small and what is dark.
        found = [] if window == "phone-dark" else Axe().run(page, options=options).response["violations"]
        faults += [f"{view}: {fault['id']}: {[node['html'][:200] for node in fault['nodes'][:3]]}" for fault in found]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            faults.append(f"{view}: it is wider than its window")
    assert faults == []
