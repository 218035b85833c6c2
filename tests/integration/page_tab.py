"""One tab that shows the page of the streaming example."""

from __future__ import annotations

import asyncio
import re

from playwright.async_api import ConsoleMessage, Locator, Page, expect

from tests.integration.page_server import Server

TEXT = "The quick brown fox jumps over the lazy dog and runs on through the quiet wood"
WORDS = [f"{word} " for word in TEXT.split()]


def tokens_on(subject: str) -> list[str]:
    """What the model says."""
    return [f"On {subject}: ", *WORDS]


class Tab:
    """One tab of the browser; what its console complains of fails the test.

    Args:
        page: The tab.
        server: The server of its page.
    """

    def __init__(self, page: Page, server: Server) -> None:
        self.page, self.server = page, server
        self.complaints: list[str] = []
        self.allowed = ""
        """A pattern of complaints that this test brings about."""
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._hear)
        self.run, self.state = page.locator("#run"), page.get_by_role("status")
        self.connection, self.fault = page.locator("#connection"), page.locator("#fault")
        self.problem = page.locator("#problem")
        self.stop = page.get_by_role("button", name="Stop")
        self.resume = page.get_by_role("button", name="Resume")

    def _hear(self, said: ConsoleMessage) -> None:
        if said.type in ("error", "warning"):
            self.complaints.append(said.text)

    async def open(self, run_id: str = "") -> None:
        """Go to the page, with a run shown in it."""
        await self.page.goto(f"{self.server.url}/{run_id and '#' + run_id}")

    async def start(self, prompt: str = "Tell me of foxes", failures: int = 0) -> str:
        """Open the page, and start a run with its form; gives the run's id."""
        await self.open()
        await self.page.get_by_label("Prompt").fill(prompt)
        await self.page.get_by_label("The model").select_option(str(failures))
        await self.page.get_by_role("button", name="Start a run").click()
        await expect(self.state).to_have_text("running")
        return await self.page.locator("#run-id").inner_text()

    async def let(self, run_id: str, tokens: int = len(WORDS) + 1) -> None:
        """Have the server say so many tokens more."""
        answer = await self.page.request.post(f"{self.server.url}/let/{run_id}?tokens={tokens}")
        assert answer.ok

    def step(self, path: str, state: str = "") -> Locator:
        """A step in the list, in that state."""
        wanted = f"[data-state={state}]" if state else ""
        return self.page.get_by_role("listitem").and_(
            self.page.locator(f"[data-path={path}]{wanted}")
        )

    async def says(self, tokens: list[str]) -> None:
        """Wait until the step that writes shows that many tokens, and see that it is those."""
        shown = self.step("write").locator("[data-void=false] .tokens")
        for token in tokens[-1:]:
            await expect(shown).to_have_text(re.compile(re.escape(token.strip()) + r"\s*$"))
        assert await shown.evaluate("node => [...node.childNodes].map(one => one.data)") == tokens

    async def voided(self) -> list[str]:
        """The text of the attempts that count no more."""
        return await self.step("write").locator("[data-void=true] .tokens").all_text_contents()

    async def received(self) -> list[str]:
        """The ids of the events that came, in order."""
        return await self.page.evaluate("() => received")

    async def has_all(self, run_id: str) -> None:
        """See that each event of the run came once, and in order."""
        assert await self.received() == await asyncio.to_thread(self.server.ids, run_id)
        await expect(self.fault).to_be_hidden()

    async def ended(self, state: str, run_id: str) -> None:
        """Wait until the page shows that the run has ended so, with all its events."""
        await expect(self.run).to_have_attribute("data-state", state)
        await expect(self.state).to_have_text(state)
        await expect(self.connection).to_have_text("ended")
        await expect(self.stop).to_be_hidden()
        await self.has_all(run_id)
