"""The page in a real browser: sorting, console, network, width, light and dark. Skips where there is no Chromium."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from figures_drawn import unpainted
from rich_runs import NUM_DATA, rich_sweep
from synthetic_runs import write_run

from vem.report.figures.catalogue import draw
from vem.report.findings import Sentence
from vem.report.page import render
from vem.report.read import findings

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
if CHROMIUM is None or DRIVER is None:
    pytest.skip("chromium or chromedriver is not installed", allow_module_level=True)

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
HOSTILE = "<script>window.broken = true</script><img src=x onerror='window.broken = true'>"
ORDER = "return Array.from(document.querySelectorAll('table.comparison tbody tr'), r => r.cells[0].dataset.value)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A report with everything, an undefined number, and labels that would break a page that trusts them."""
    root = rich_sweep(tmp_path_factory.mktemp("report"), seeds=1)
    write_run(root / "none", "hmc", elbo={"value": None, "reason": "q has no density"}, num_data=NUM_DATA)
    found = findings([root])
    table = found.tables[0]
    labels = [HOSTILE, *table.groups["label"][1:]]
    table = replace(
        table,
        groups=table.groups.assign(label=labels),
        answer=(*table.answer, Sentence(HOSTILE, "caution")),
    )
    found = replace(found, tables=(table,), title=HOSTILE)
    path = root / "report.html"
    with unpainted():
        path.write_text(render(found, draw(found, root / "figures")), encoding="utf-8")
    return found, path


def opened(browser: Any, path: Path, width: int = 1280, scheme: str = "light") -> None:
    """Open the page at that width and colour scheme, with empty logs."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(path.as_uri())
    browser.execute_script("sessionStorage.clear()")  # the order that an earlier test has left
    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(path.as_uri())


def shown(browser: Any, column: int) -> list[str]:
    cells = ORDER.replace("cells[0].dataset.value", "cells[arguments[0]].innerText")
    return list(browser.execute_script(cells, column))


def heads(browser: Any) -> list[Any]:
    return list(browser.find_elements("css selector", "table.comparison thead tr:last-child button"))


def expected(found: Any, column: str, falling: bool) -> list[str]:
    """The labels sorted by Python, those without a number last in either direction."""
    groups = found.tables[0].groups
    pairs = [(value, str(label)) for value, label in zip(groups[column], groups["label"], strict=True)]
    known = sorted((p for p in pairs if p[0] is not None and p[0] == p[0]), key=lambda p: p[0], reverse=falling)
    return [label for _, label in known] + [label for value, label in pairs if value is None or value != value]


def test_a_click_sorts_and_a_second_one_turns_the_order(browser, report):
    found, path = report
    opened(browser, path)
    buttons = heads(browser)
    names = [button.get_attribute("textContent") for button in buttons]
    for title, column, first in (
        ("Train", "train_elbo_mean", "descending"),
        ("Seconds", "training_seconds_mean", "ascending"),
    ):
        at = names.index(title)
        for direction in (first, "ascending" if first == "descending" else "descending"):
            browser.execute_script("arguments[0].click()", buttons[at])
            falling = direction == "descending"
            order = browser.execute_script(ORDER)
            values = dict(zip(found.tables[0].groups["label"], found.tables[0].groups[column], strict=True))
            assert [values[label] for label in order] == pytest.approx(
                [values[label] for label in expected(found, column, falling)], nan_ok=True
            )
            head = buttons[at].find_element("xpath", "..")
            assert head.get_attribute("aria-sort") == direction
    sorted_heads = browser.find_elements("css selector", "table.comparison th[aria-sort$='ending']")
    assert len(sorted_heads) == 1


def test_the_keyboard_sorts_and_the_undefined_stay_last(browser, report):
    found, path = report
    opened(browser, path)
    button = heads(browser)[1]
    assert shown(browser, 1)[-1].startswith("undefined")
    for _ in range(2):  # descending as it stands; ascending, then descending again
        browser.execute_script("arguments[0].focus()", button)
        button.send_keys("\n")
        assert shown(browser, 1)[-1].startswith("undefined")
    assert browser.execute_script(ORDER) == expected(found, "test_elbo_mean", True)


def test_a_page_that_reloads_itself_keeps_its_order(browser, report):
    _, path = report
    opened(browser, path)
    browser.execute_script("arguments[0].click()", heads(browser)[0])
    order = browser.execute_script(ORDER)
    browser.refresh()
    assert browser.execute_script(ORDER) == order
    assert heads(browser)[0].find_element("xpath", "..").get_attribute("aria-sort") == "ascending"
    browser.execute_script("sessionStorage.clear()")
    browser.refresh()
    assert browser.execute_script(ORDER) != order


def test_names_sort_as_text(browser, report):
    _, path = report
    opened(browser, path)
    browser.execute_script("arguments[0].click()", heads(browser)[0])
    order = browser.execute_script(ORDER)
    assert order.index("local, latent_dim=2") < order.index("local, latent_dim=10")  # numbers in them as numbers


def test_the_reason_is_shown_on_focus(browser, report):
    _, path = report
    opened(browser, path)
    cell = browser.find_element("css selector", "a.undefined")
    browser.execute_script("arguments[0].focus({preventScroll: false})", cell)
    tip = browser.find_element("id", "tip")
    assert tip.is_displayed() and tip.text == cell.get_attribute("data-tip")
    browser.execute_script("document.activeElement.blur()")
    assert not tip.is_displayed()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_its_window_is_quiet_and_fetches_nothing(browser, report, width, scheme):
    _, path = report
    opened(browser, path, width, scheme)
    assert browser.execute_script("return window.innerWidth") == width
    assert browser.execute_script("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == (
        "rgb(251, 251, 249)" if scheme == "light" else "rgb(20, 23, 27)"
    )
    assert browser.execute_script("return Array.from(document.images).every(i => i.complete && i.naturalWidth > 0)")
    entries = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert all(name.startswith("data:") for name in entries)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
    assert [url for url in asked if url.startswith("file:") and url != path.as_uri()] == []
    assert browser.get_log("browser") == []


def test_labels_are_inert(browser, report):
    _, path = report
    opened(browser, path)
    assert browser.execute_script("return window.broken === undefined && document.scripts.length === 1")
    assert browser.title == HOSTILE and browser.find_element("tag name", "h1").text == HOSTILE
    assert HOSTILE in browser.execute_script(ORDER)


def test_no_text_overlaps_its_neighbour(browser, report):
    """No cell's text is wider than its cell, and no section is empty."""
    _, path = report
    for width in (390, 1280):
        opened(browser, path, width)
        wide = browser.execute_script(
            "return Array.from(document.querySelectorAll('th, td, p, li, h1, h2, h3, figcaption, dd'))"
            ".filter(e => e.getClientRects().length && e.scrollWidth > e.clientWidth + 1"
            " && getComputedStyle(e).display !== 'inline' && !e.closest('caption') && !e.querySelector('pre'))"
            ".map(e => e.tagName + ': ' + e.innerText.slice(0, 40))"
        )
        assert wide == []
        heights = browser.execute_script(
            "return Array.from(document.querySelectorAll('section'), s => s.innerText.length)"
        )
        assert len(heights) == 7 and min(heights) > 40
