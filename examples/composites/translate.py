"""One text into four languages at once: the tokens of all of them come in one stream.

    python examples/composites/translate.py

Each event tells by its `path` which branch it is from. The "model" is a small dictionary: it needs
no network.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from functools import partial

from runnable import AsyncPipeline, AsyncPythonTask, Parallel

WORDS = {
    "french": {"one": "un", "two": "deux", "three": "trois", "four": "quatre", "five": "cinq"},
    "german": {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf"},
    "italian": {"one": "uno", "two": "due", "three": "tre", "four": "quattro", "five": "cinque"},
    "spanish": {"one": "uno", "two": "dos", "three": "tres", "four": "cuatro", "five": "cinco"},
}


async def translate(text: str, language: str) -> AsyncIterator[str]:
    """Word by word, as a model gives its tokens."""
    for word in text.split():
        await asyncio.sleep(0.02)
        yield WORDS[language].get(word, word) + " "


async def compare(french: str, german: str, italian: str, spanish: str) -> str:
    """Name the shortest of the four texts."""
    return min(french, german, italian, spanish, key=len)


def into(language: str) -> AsyncPipeline:
    """The branch of one language, which returns its text under the language's name."""
    function = partial(translate, language=language)
    return AsyncPythonTask(function=function, name="call", returns=[language]).as_async_pipeline()


pipeline = AsyncPipeline(
    name="translation",
    steps=[
        Parallel(name="translate", branches={language: into(language) for language in WORDS}),
        AsyncPythonTask(function=compare, name="compare", returns=["shortest"]),
    ],
)


async def main() -> None:
    """Show each token as it comes, with its branch; then what they came to."""
    texts: dict[str, str] = defaultdict(str)
    async for event in pipeline.execute_stream({"text": "one two three four five"}):
        if event.type == "task_chunk":
            _, language, _ = event.path.split(".")
            texts[language] += str(event.chunk)
            print(f"{language:8} {event.chunk}")
        elif event.type == "branch_completed":
            print(f"{event.branch:8} is whole: {texts[event.branch]}")
        elif event.type == "pipeline_completed":
            print(f"the shortest: {event.outputs['shortest']}")


if __name__ == "__main__":
    asyncio.run(main())
