"""Map-reduce over files: each is counted for itself, several at once, and the counts are added up.

    python examples/composites/count_words.py

Which files there are is known only when the run has begun.
"""

import re
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from runnable import Map, Pipeline, PythonTask

TEXTS = {
    "fox.txt": "The fox sees the moon. The moon does not see the fox.",
    "owl.txt": "An owl sees all: the fox, the moon and the wood.",
    "empty.txt": "",
    "wood.txt": "In the wood is an owl.",
}


def find_files(folder: str) -> list[str]:
    """The text files of a folder."""
    return sorted(str(path) for path in Path(folder).glob("**/*.txt"))


def count_words(file: str) -> dict[str, int]:
    """How often each word is in one file."""
    text = Path(file).read_text(errors="replace").lower()
    return dict(Counter(re.findall(r"[a-z]+", text)))


def add_up(counts: list[dict[str, int]]) -> dict[str, int]:
    """How often each word is in all files together."""
    total = Counter[str]()
    for count in counts:
        total.update(count)
    return dict(total)


def most_frequent(words: dict[str, int]) -> list[str]:
    """The four most frequent words, with their numbers."""
    return [f"{word} {count}" for word, count in Counter(words).most_common(4)]


pipeline = Pipeline(
    name="count words",
    steps=[
        PythonTask(function=find_files, name="find", returns=["files"]),
        Map(
            name="each",
            iterate_on="files",
            iterate_as="file",
            branch=PythonTask(function=count_words, name="count", returns=["words"]).as_pipeline(),
            reducer=add_up,
            max_concurrency=8,
        ),
        PythonTask(function=most_frequent, name="rank", returns=["ranking"]),
    ],
)


def main() -> None:
    """Write some files, and count their words."""
    with TemporaryDirectory() as folder:
        for name, text in TEXTS.items():
            Path(folder, name).write_text(text)
        run = pipeline.execute({"folder": folder})
    print(*run.steps, sep="\n")
    print(run.parameters["ranking"])


if __name__ == "__main__":
    main()
