"""The page of `timeline --html`, in a real Chromium, from a file."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Literal, Protocol

import pytest
import pytest_asyncio
from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    async_playwright,
    expect,
)

from runnable import ExecutionFailedError, Map, Pipeline, PythonTask, Stub
from tests.cli.called import PATIENCE, call
from tests.debian import need

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
QUIET = """--disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync"""
Scheme = Literal["light", "dark"]
Make = Callable[[int], Path]
HOSTILE = "<img src=x onerror=document[`title`]=`hit`>"
ERROR = "</script><script>document.title='hit'</script> \x1b[31m\u2028 it is away"


@pytest.fixture(scope="module", autouse=True)
def _patience() -> None:
    expect.set_options(timeout=PATIENCE * 1000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """A Chromium."""
    path = os.environ.get("CHROMIUM") or await asyncio.to_thread(need, CHROMIUM, "chromium")
    async with (
        async_playwright() as playwright,
        await playwright.chromium.launch(
            executable_path=path, chromium_sandbox=False, args=QUIET.split()
        ) as browser,
    ):
        yield browser


class Opened:
    """A page in a tab, and what must not have happened in it."""

    def __init__(self, page: Page, file: Path) -> None:
        self.page, self.file = page, file
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._hear)
        page.on("request", self._note)
        self.rows, self.details = page.locator("#rows"), page.locator("#details")

    def _hear(self, said: ConsoleMessage) -> None:
        if said.type in ("error", "warning"):
            self.complaints.append(said.text)

    def _note(self, request: Request) -> None:
        if not request.url.startswith("data:"):
            self.asked.append(request.url)

    def row(self, name: str) -> Locator:
        """The row of a step."""
        return self.page.get_by_role("treeitem", name=re.compile(re.escape(name)))

    async def names(self) -> list[str]:
        """The labels of the rows that are drawn."""
        return await self.page.locator(".row .name .text").all_inner_texts()


def _fetch(page: int) -> int:
    if page == 2:
        raise ValueError(ERROR)
    return page


@pytest.fixture
def make(own_folder: Path) -> Make:
    """Runs a map of so many items, and writes the page of the run."""

    def written(items: int) -> Path:
        branch = Pipeline(steps=[PythonTask(function=_fetch, name="fetch", returns=["got"])])
        pages = Map(name="pages", branch=branch, iterate_on="pages", iterate_as="page")
        pipeline = Pipeline(name=HOSTILE, steps=[Stub(name=HOSTILE.replace(".", "")), pages])
        with pytest.raises(ExecutionFailedError):
            pipeline.execute({"pages": list(range(items))}, run_id="one", tag=ERROR[:9])
        assert call("timeline", "one", "--html", "page.html").status == 0
        return own_folder / "page.html"

    return written


class OpenPage(Protocol):
    """Opens a page in a tab of its own."""

    async def __call__(
        self, file: Path, *, scheme: Scheme = "light", width: int = 1_000
    ) -> Opened: ...


@pytest_asyncio.fixture(loop_scope="module")
async def open_page(browser: Browser) -> AsyncIterator[OpenPage]:
    """Opens pages; at the end their consoles must be clean, and nothing else asked for."""
    opened: list[Opened] = []

    async def open_one(file: Path, *, scheme: Scheme = "light", width: int = 1_000) -> Opened:
        context = await browser.new_context(
            viewport={"width": width, "height": 700}, color_scheme=scheme
        )
        context.set_default_timeout(PATIENCE * 1000)
        one = Opened(await context.new_page(), file)
        opened.append(one)
        await one.page.goto(file.as_uri())
        await expect(one.page.locator(".row").first).to_be_visible()
        return one

    yield open_one
    for one in opened:
        assert one.complaints == []
        assert one.asked == [one.file.as_uri()]
        await one.page.context.close()


async def _made(make: Make, items: int) -> Path:
    return await asyncio.to_thread(make, items)


async def test_steps_stand_in_a_tree_with_their_errors(make: Make, open_page: OpenPage) -> None:
    tab = await open_page(await _made(make, 4))

    assert await tab.names() == [HOSTILE, "pages", "0.fetch", "1.fetch", "2.fetch", "3.fetch"]
    await tab.row("pages.2.fetch").hover()
    await expect(tab.details).to_contain_text("it is away")
    await expect(tab.details).to_contain_text(r"\x1b[31m")
    await expect(tab.page.locator("header")).to_contain_text("pages.2.fetch: ValueError")


async def test_nothing_that_a_run_tells_is_run(make: Make, open_page: OpenPage) -> None:
    tab = await open_page(await _made(make, 4))

    await tab.row("pages.2.fetch").click()
    assert await tab.page.title() == "Run one: fail"
    assert await tab.page.locator("img").count() == 0
    assert await tab.page.locator("script").count() == 2
    # Were it not escaped, it would not run either.
    await tab.page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'),"
        "{textContent: 'document.title = `hit`'}))"
    )
    assert await tab.page.title() == "Run one: fail"
    assert any("Content Security Policy" in said for said in tab.complaints)
    tab.complaints.clear()


async def test_the_keys_choose_close_and_zoom(make: Make, open_page: OpenPage) -> None:
    tab = await open_page(await _made(make, 4))
    await tab.rows.focus()

    for _ in range(2):
        await tab.page.keyboard.press("ArrowDown")
    await expect(tab.details.get_by_role("heading")).to_have_text("pages")
    await tab.page.keyboard.press("ArrowLeft")
    await expect(tab.page.locator(".row")).to_have_count(2)
    await expect(tab.row("pages")).to_have_attribute("aria-expanded", "false")
    await tab.page.keyboard.press("ArrowRight")
    await expect(tab.page.locator(".row")).to_have_count(6)

    bar = tab.page.locator(".row.chosen .bar")
    before = await bar.bounding_box()
    assert before is not None
    await tab.page.keyboard.press("+")
    await tab.page.wait_for_function(
        "width => document.querySelector('.row.chosen .bar').offsetWidth > 1.2 * width",
        arg=before["width"],
    )
    await tab.page.keyboard.press("0")
    await tab.page.wait_for_function(
        "width => Math.abs(document.querySelector('.row.chosen .bar').offsetWidth - width) < 2",
        arg=before["width"],
    )


async def test_rows_are_sieved_by_path_and_by_trouble(make: Make, open_page: OpenPage) -> None:
    tab = await open_page(await _made(make, 4))

    await tab.page.get_by_label("Filter by path").fill("3.FETCH")
    await expect(tab.page.locator(".row .text")).to_have_text(["pages", "3.fetch"])
    await tab.page.get_by_label("Filter by path").fill("")
    await tab.page.get_by_label("only what did not succeed").check()
    await expect(tab.page.locator(".row .text")).to_have_text(["pages", "2.fetch"])


async def test_ten_thousand_steps_are_drawn_as_far_as_they_are_seen(
    make: Make, open_page: OpenPage
) -> None:
    tab = await open_page(await _made(make, 10_000))

    await expect(tab.page.locator("#count")).to_have_text("10,002 rows")
    assert await tab.page.locator(".row").count() < 60
    await tab.rows.focus()
    await tab.page.keyboard.press("End")
    await expect(tab.row("pages.9999.fetch")).to_be_visible()
    await expect(tab.details.get_by_role("heading")).to_have_text("pages.9999.fetch")
    assert await tab.page.locator(".row").count() < 60


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
async def test_the_page_takes_the_colours_that_are_wished_for(
    make: Make, open_page: OpenPage, scheme: Scheme, is_dark: bool
) -> None:
    tab = await open_page(await _made(make, 4), scheme=scheme)

    colour = await tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, re.findall(r"\d+", colour)[:3]))
    assert (light < 200) == is_dark


async def test_the_page_fits_a_phone(make: Make, open_page: OpenPage) -> None:
    tab = await open_page(await _made(make, 4), width=360)

    assert await tab.page.evaluate("document.documentElement.scrollWidth") == 360
    await tab.row("pages.2.fetch").click()
    await expect(tab.details).to_contain_text("it is away")
