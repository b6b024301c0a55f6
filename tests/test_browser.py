"""The report in a browser: offline, at two widths, in two colour schemes, by keyboard, and by axe's rules.

Debian's Chromium is driven by Playwright; without it these tests are skipped, and ``.ci/run`` installs it.
"""

from __future__ import annotations

import math
import shutil
from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from blmm_bids.cli import main
from tests.datasets import longitudinal

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# WebGL is drawn in software, and containers have no sandbox of their own.
ARGUMENTS = (
    "--no-sandbox", "--disable-quic", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
)  # fmt: skip
WIDTHS = (1280, 400)
SERIOUS = {"serious", "critical"}
# Drawing in software on a busy machine.
PATIENCE = 60_000

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tmp_path_factory.mktemp("browser")
    dataset = longitudinal(root / "data", subjects=tuple(f"{number:02d}" for number in range(1, 9)))
    arguments = [str(dataset), str(root / "out"), "group", "--nprocs", "1", "-q"]
    arguments += ["--formula", "1 + time + (1 | subject)", "--threshold", "z>0.2", "--cluster-min", "1"]
    assert main(arguments) == 0
    (page,) = (root / "out").glob("node-*.html")
    return page.as_uri()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield started
        started.close()


@contextmanager
def opened(browser, report, width=1280, scheme="light"):
    """A page without a network, and what it complained of."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    complaints = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if "http" in request.url[:5] else None)
    page.goto(report)
    yield page, complaints
    context.close()


def shown_map(page):
    page.locator("#viewer").scroll_into_view_if_needed()
    page.wait_for_function("Object.keys(document.getElementById('viewer').dataset).length > 0")
    return page.evaluate("document.getElementById('viewer').dataset.shown")


def colours(page, path):
    """How many colours the viewer's canvas has on the screen."""
    from PIL import Image

    page.locator("#viewer-canvas").screenshot(path=path)
    return len(Image.open(path).convert("RGB").getcolors(maxcolors=1_000_000))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_report__opens_offline_fits_and_passes_axe(browser, report, width, scheme):
    with opened(browser, report, width, scheme) as (page, complaints):
        assert shown_map(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        violations = Axe().run(page).response["violations"]
        serious = [(each["id"], [node["html"][:120] for node in each["nodes"]]) for each in violations
                   if each["impact"] in SERIOUS]  # fmt: skip
        assert serious == []
        assert complaints == []


def test_report__schemes_differ(browser, report):
    found = []
    for scheme in ("light", "dark"):
        with opened(browser, report, scheme=scheme) as (page, _):
            found.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert found[0] != found[1]


def test_viewer__shows_maps_and_answers_to_threshold_and_keys(browser, report, tmp_path):
    with opened(browser, report) as (page, complaints):
        first = shown_map(page)
        assert colours(page, tmp_path / "one.png") > 10
        options = page.locator("#viewer-map option").all_text_contents()
        other = next(name for name in options if name != first)
        page.select_option("#viewer-map", label=other)
        page.wait_for_function(f"document.getElementById('viewer').dataset.shown === {other!r}")
        page.locator("#viewer-canvas").focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("document.getElementById('viewer-place').textContent.startsWith('x ')")
        page.fill("#viewer-threshold", "1000")
        page.fill("#viewer-high", "2000")
        assert complaints == []


def test_tables__sort_by_click_and_by_keyboard(browser, report):
    with opened(browser, report) as (page, _):
        heading = page.locator("[id$=-images] table th", has_text="Mean")

        def column():
            cells = page.locator("[id$=-images] table tbody td:nth-child(3)").all_text_contents()
            return [float(cell) for cell in cells]

        heading.locator("button").click()
        assert column() == sorted(column())
        assert heading.get_attribute("aria-sort") == "ascending"
        heading.locator("button").press("Enter")
        assert column() == sorted(column(), reverse=True)


def test_tables__are_searched(browser, report):
    with opened(browser, report) as (page, _):
        rows = page.locator("[id$=-images] tbody tr:visible")
        n_all = rows.count()
        page.locator("[id$=-images] input[type=search]").fill("subject 03")
        assert 0 < rows.count() < n_all


def test_inspector__answers_a_peak_and_a_choice(browser, report):
    with opened(browser, report) as (page, complaints):
        dots = page.locator("#inspector-chart circle")
        assert dots.count() > 10
        button = page.locator("button.peak").last
        wanted = [float(value) for value in button.get_attribute("data-mm").split(",")]
        button.press("Enter")
        position = page.locator("#inspector-numbers tr", has_text="Position").locator("td")
        assert [float(value) for value in position.text_content().split(", ")] == pytest.approx(wanted)
        lines = page.locator("#inspector-chart polyline.level")
        assert lines.count() == 8
        page.uncheck("#inspector-lines")
        assert lines.count() == 0
        page.select_option("#inspector-x", label="time")
        assert page.locator("#inspector-chart .fixed").count() == 1
        assert complaints == []


def test_inspector__follows_the_crosshair_of_the_viewer(browser, report):
    with opened(browser, report) as (page, complaints):
        shown_map(page)
        options = page.locator("#inspector-voxel option").all_text_contents()
        kept = [tuple(map(float, text.removesuffix(" mm").split(", "))) for text in options]
        # Whichever is chosen first, the crosshair is led from voxel to voxel to the one that is farthest.
        page.locator("#viewer-canvas").focus()
        seen = set()
        for key in ("ArrowLeft", "ArrowDown", "PageDown", *["ArrowRight"] * 3, "ArrowUp", "PageUp"):
            page.keyboard.press(key)
            words = page.locator("#viewer-place").text_content().partition(" mm")[0].split(", ")
            place = [float(word.split()[1]) for word in words]
            distances = [math.dist(place, voxel) for voxel in kept]
            text = page.locator("#inspector-numbers tr", has_text="Position").locator("td").text_content()
            chosen = tuple(map(float, text.split(", ")))
            assert distances[kept.index(chosen)] == pytest.approx(min(distances))
            seen.add(chosen)
        assert len(seen) > 1
        assert complaints == []


def test_pictures__can_be_moved_where_they_are_wider_than_the_screen(browser, report):
    with opened(browser, report, width=400) as (page, _):
        frame = page.locator(".scroll.wide").first
        frame.focus()
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        page.wait_for_function("document.activeElement.scrollLeft > 0")
    with opened(browser, report) as (page, _):
        assert page.locator(".scroll.wide[tabindex]").count() == 0


def test_keyboard__reaches_the_content_first(browser, report):
    with opened(browser, report) as (page, _):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == "#content"
