"""The page of the streaming example, in a real Chromium, over real TCP."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import pytest
import pytest_asyncio
from playwright.async_api import (
    Browser,
    BrowserContext,
    Request,
    Route,
    async_playwright,
    expect,
)

from tests.debian import need
from tests.integration.page_server import PATIENCE, Server, served
from tests.integration.page_tab import Tab, tokens_on

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
QUIET = """--disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync"""


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


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that nobody ends."""
    with served(tmp_path_factory.mktemp("shared")) as server:
        yield server


@pytest.fixture
def mortal(own_folder: Path) -> Iterator[Server]:
    """A server of one test."""
    with served(own_folder) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A browser without a past."""
    async with await browser.new_context(viewport={"width": 360, "height": 740}) as context:
        context.set_default_timeout(PATIENCE * 1000)
        yield context


OpenTab = Callable[[Server], Awaitable[Tab]]


@pytest_asyncio.fixture(loop_scope="module")
async def open_tab(context: BrowserContext) -> AsyncIterator[OpenTab]:
    """Opens tabs, whose consoles must be clean at the end."""
    tabs: list[Tab] = []

    async def open_one(server: Server) -> Tab:
        tabs.append(Tab(await context.new_page(), server))
        return tabs[-1]

    yield open_one
    for tab in tabs:
        unwanted = [one for one in tab.complaints if not re.fullmatch(tab.allowed or "$.", one)]
        assert unwanted == []


@pytest_asyncio.fixture(loop_scope="module")
async def tab(open_tab: OpenTab, shared: Server) -> Tab:
    """A tab of the server that nobody ends."""
    return await open_tab(shared)


async def test_tokens_appear_one_by_one_with_their_step(tab: Tab) -> None:
    run_id = await tab.start()
    await expect(tab.step("plan", "done")).to_contain_text("planning an answer to")
    await expect(tab.connection).to_have_text("live")
    said = tokens_on("foxes")
    for count in range(1, len(said)):
        await expect(tab.step("write", "running")).to_be_visible()
        await tab.let(run_id, 1)
        await tab.says(said[:count])
    assert await tab.step("summarise").count() == 0

    await tab.let(run_id, 1)
    await tab.ended("done", run_id)
    await tab.says(said)
    names = await tab.page.get_by_role("listitem").get_by_role("heading").all_inner_texts()
    assert names == ["plan", "write", "summarise"]
    await expect(tab.page.locator("#outputs")).to_contain_text("18 words, from 'On' to 'wood'")
    await expect(tab.page.locator("#counts")).to_contain_text("3 of 3 steps")
    assert await tab.voided() == []


async def test_a_reload_in_mid_stream_shows_all_once_and_goes_on(tab: Tab) -> None:
    run_id, said = await tab.start(), tokens_on("foxes")
    await tab.let(run_id, 4)
    await tab.says(said[:4])
    before = await tab.received()

    await tab.page.reload()
    await tab.says(said[:4])
    assert await tab.received() == before
    await expect(tab.step("write", "running")).to_be_visible()

    await tab.let(run_id, 2)
    await tab.says(said[:6])
    await tab.let(run_id)
    await tab.ended("done", run_id)
    await tab.says(said)


async def test_a_finished_run_is_shown_whole_after_a_reload(tab: Tab) -> None:
    run_id, said = await tab.start(), tokens_on("foxes")
    await tab.let(run_id)
    await tab.ended("done", run_id)

    await tab.page.reload()
    await tab.ended("done", run_id)
    await tab.says(said)
    await expect(tab.resume).to_be_hidden()


async def test_two_tabs_show_the_same_also_when_one_stops_and_resumes_the_run(
    tab: Tab, open_tab: OpenTab, shared: Server
) -> None:
    run_id, said = await tab.start(), tokens_on("foxes")
    await tab.let(run_id, 3)
    other = await open_tab(shared)
    await other.open(run_id)
    for one in (tab, other):
        await one.says(said[:3])

    await other.stop.click()
    for one in (tab, other):
        await one.ended("stopped", run_id)
    await tab.resume.click()
    await tab.let(run_id)
    for one in (tab, other):
        await one.ended("done", run_id)
        await one.says(said)
    assert await tab.voided() == await other.voided() == ["".join(said[:3])]


async def test_a_run_is_stopped_and_resumed_with_the_keyboard(tab: Tab, shared: Server) -> None:
    await tab.open()
    await tab.page.get_by_label("Prompt").fill("foxes")
    await tab.page.keyboard.press("Enter")
    await expect(tab.state).to_have_text("running")
    run_id, said = await tab.page.locator("#run-id").inner_text(), tokens_on("foxes")
    await tab.let(run_id, 2)
    await tab.says(said[:2])

    for _ in range(4):
        await tab.page.keyboard.press("Tab")
    await expect(tab.stop).to_be_focused()
    await tab.page.keyboard.press("Space")
    await tab.ended("stopped", run_id)
    assert await asyncio.to_thread(shared.status, run_id) == "cancelled"
    await expect(tab.step("write", "stopped")).to_be_visible()
    await expect(tab.page.locator("#why")).to_contain_text("asked for it")

    await expect(tab.resume).to_be_focused()
    await tab.page.keyboard.press("Enter")
    await expect(tab.step("plan", "skipped")).to_be_visible()
    await expect(tab.stop).to_be_focused()
    await tab.let(run_id)
    await tab.ended("done", run_id)
    await tab.says(said)
    assert await tab.voided() == ["".join(said[:2])]
    assert (await tab.received())[-1].startswith("2-")


async def test_a_step_that_fails_is_retried_then_fails_the_run_which_can_be_resumed(
    tab: Tab,
) -> None:
    run_id, said = await tab.start(failures=2), tokens_on("foxes")
    await tab.let(run_id, 10)
    await tab.ended("failed", run_id)
    await tab.says(said[:5])
    assert await tab.voided() == ["".join(said[:5])]
    await expect(tab.page.locator("#why")).to_have_text("write: ConnectionError: the model hung up")
    await expect(tab.step("write", "failed").locator(".error")).to_have_text(
        ["ConnectionError: the model hung up"] * 2
    )

    await tab.resume.click()
    await tab.let(run_id)
    await tab.ended("done", run_id)
    await tab.says(said)
    assert await tab.voided() == ["".join(said[:5])] * 2


@pytest.mark.parametrize("between", ["nothing", "a proxy that answers 502"])
async def test_a_server_that_is_killed_and_started_again_goes_unnoticed(
    open_tab: OpenTab, mortal: Server, between: str
) -> None:
    tab = await open_tab(mortal)
    tab.allowed = r"Failed to load resource: (net::ERR_\w+|.*status of 502 .*)"
    run_id, said = await tab.start(), tokens_on("foxes")
    await tab.let(run_id, 5)
    await tab.says(said[:5])
    turned_away = asyncio.Event()
    if between == "nothing":
        tab.page.on("requestfailed", _noting_refusal(turned_away))
    else:
        await tab.page.route("**/events*", _answering_502(turned_away))
    await asyncio.to_thread(mortal.end)
    await expect(tab.connection).to_have_text("reconnecting")
    await turned_away.wait()
    await tab.says(said[:5])

    await asyncio.to_thread(mortal.start)
    await tab.page.unroute_all()
    await expect(tab.step("plan", "skipped")).to_be_visible()
    await expect(tab.connection).to_have_text("live")
    await tab.let(run_id, 2)
    await tab.says(said[:2])
    assert await tab.voided() == ["".join(said[:5])]
    await expect(tab.step("write", "running")).to_contain_text(
        "Attempt 1: interrupted; its 5 tokens are void"
    )
    await tab.let(run_id)
    await tab.ended("done", run_id)
    await tab.says(said)
    assert (await tab.received())[-1].startswith("2-")


def _noting_refusal(refused: asyncio.Event) -> Callable[[Request], None]:
    def note(failed: Request) -> None:
        if "REFUSED" in (failed.failure or ""):
            refused.set()

    return note


def _answering_502(answered: asyncio.Event) -> Callable[[Route], Awaitable[None]]:
    async def answer(route: Route) -> None:
        await route.fulfill(status=502, body="Bad gateway")
        answered.set()

    return answer


async def test_a_browser_that_was_offline_gets_the_rest(
    tab: Tab, context: BrowserContext, shared: Server
) -> None:
    tab.allowed = r"Failed to load resource: net::ERR_\w+"
    run_id, said = await tab.start(), tokens_on("foxes")
    await tab.let(run_id, 2)
    await tab.says(said[:2])

    await context.set_offline(True)
    await tab.page.go_back()  # a connection that stands would go on: have the page make a new one
    await expect(tab.run).to_be_hidden()
    await tab.page.go_forward()
    await expect(tab.connection).to_have_text("reconnecting")
    await tab.let(run_id, 3)
    assert await tab.received() == []
    await context.set_offline(False)
    await tab.says(said[:5])
    await tab.let(run_id)
    await tab.ended("done", run_id)


async def test_a_prompt_of_html_stays_text(tab: Tab) -> None:
    subject = "<img/src=x/onerror=document.title='hit'>"
    run_id, said = await tab.start(f"<script>alert(1)</script> {subject}"), tokens_on(subject)
    await tab.let(run_id)
    await tab.ended("done", run_id)
    await tab.says(said)
    assert await tab.page.locator("img, main script").count() == 0
    assert await tab.page.title() == "done – Streaming pipeline"


async def test_a_run_that_does_not_exist_is_said_to_be_unknown(tab: Tab) -> None:
    tab.allowed = r"Failed to load resource: .* status of 404 \(Not Found\)"
    await tab.open("nowhere")
    await expect(tab.problem).to_have_text("There is no run nowhere here.")
    await expect(tab.run).to_be_hidden()

    run_id = await tab.start()
    await expect(tab.problem).to_be_hidden()
    await tab.page.go_back()
    await expect(tab.run).to_be_hidden()
    await tab.page.go_forward()
    await expect(tab.page.locator("#run-id")).to_have_text(run_id)
    await expect(tab.state).to_have_text("running")


def _frame(epoch: int, seq: int, kind: str, about: Mapping[str, object]) -> str:
    event = {"type": kind, "run_id": "told", "seq": seq, **about}
    return f"event: {kind}\ndata: {json.dumps(event)}\nid: {epoch}-{seq}\n\n"


def _started(epoch: int, seq: int) -> str:
    about = {"epoch": epoch, "total_tasks": 1, "resumed": epoch > 1}
    return _frame(epoch, seq, "pipeline_started", about)


def _chunk(epoch: int, seq: int, text: str) -> str:
    return _frame(epoch, seq, "task_chunk", {"path": "write", "attempt": 1, "chunk": text})


@pytest.mark.parametrize(
    ("wrong", "told"), [("gap", "1-4 came after 1-2"), ("repeat", "1-2 came after 1-2")]
)
async def test_an_event_that_does_not_follow_is_shown_as_an_error(
    tab: Tab, wrong: Literal["gap", "repeat"], told: str
) -> None:
    seq = {"gap": 4, "repeat": 2}[wrong]
    body = _started(1, 1) + _chunk(1, 2, "one ") + _chunk(1, seq, "two ")
    await _tell(tab, body)
    await tab.open("told")

    await expect(tab.fault).to_have_text(f"A {wrong} in the stream: event {told}.")
    await tab.says(["one ", "two "] if wrong == "gap" else ["one "])


async def test_events_that_the_power_took_are_taken_back(tab: Tab) -> None:
    lost = _started(1, 1) + _chunk(1, 2, "one ") + _chunk(1, 3, "two ") + _chunk(1, 4, "three ")
    await _tell(tab, lost + _started(2, 3) + _chunk(2, 4, "other "))
    await tab.open("told")

    await tab.says(["one ", "other "])
    await expect(tab.fault).to_be_hidden()
    assert await tab.received() == ["1-1", "1-2", "1-3", "1-4", "2-3", "2-4"]


async def _tell(tab: Tab, body: str) -> None:
    """Answer the first request for events with these, and say that nothing follows."""
    bodies = [body]

    async def answer(route: Route) -> None:
        if bodies:
            await route.fulfill(content_type="text/event-stream", body=bodies.pop())
        else:
            await route.fulfill(status=204)

    await tab.page.route("**/runs/told/events*", answer)


async def test_the_page_fits_a_phone(tab: Tab) -> None:
    run_id = await tab.start("x" * 990)
    await tab.let(run_id)
    await tab.ended("done", run_id)
    assert await tab.page.evaluate("() => document.documentElement.scrollWidth") == 360
