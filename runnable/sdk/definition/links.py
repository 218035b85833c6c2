"""Which steps of a file follow which, and which run only when another has failed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from runnable.graph import SUCCESS
from runnable.sdk.pipeline import follow


@dataclass(frozen=True)
class Links:
    """What the keys `next` and `on_failure` of the steps of a pipeline come to.

    Attributes:
        main: The steps that run if none fails, and those that nothing leads to.
        following: Step → what follows it; nothing follows an end.

    Example:
        >>> links = Links.of(["a", "b", "tidy"], {}, {}, {"a": "tidy"}, "")
        >>> links.main, links.following, [*links.way("tidy")]
        (['a', 'b'], {'a': 'b', 'b': 'success', 'tidy': 'success'}, ['tidy', 'success'])
    """

    main: Sequence[str]
    following: Mapping[str, str]

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        arrows: Mapping[str, str],
        ends: Mapping[str, str],
        failures: Mapping[str, str],
        start_at: str,
    ) -> Links:
        """The links of a pipeline.

        Args:
            names: Its steps, in the order of the file.
            arrows: Step → its `next`.
            ends: Step → the end that it leads to; empty for one that is an end.
            failures: Step → the step that its `on_failure` names.
            start_at: The first step, where the file says so.
        """
        aside = set(failures.values()) - set(arrows.values()) - {start_at}
        only_then = _reached(aside, arrows)
        main = _reached((name for name in names if name not in only_then), arrows)
        kept = [name for name in names if name in main]
        others = {name: arrows[name] for name in names if name not in main and name in arrows}
        named = {name: arrows[name] for name in kept if name in arrows}
        following = follow(kept, named, ends) | others
        for name in names:
            if name not in following and (end := ends.get(name, SUCCESS)):
                following[name] = end
        return cls(kept, {name: following[name] for name in names if name in following})

    @property
    def start(self) -> str:
        """The first of the main steps that follows none."""
        targets = {self.following.get(name) for name in self.main}
        return next((name for name in self.main if name not in targets), self.main[0])

    def way(self, start: str) -> Iterator[str]:
        """The steps from one on, until an end, or one that was there before."""
        seen = set[str]()
        while start and start not in seen:
            seen.add(start)
            yield start
            start = self.following.get(start, "")

    def circle(self) -> Sequence[str]:
        """The steps of a circle, the first one again at its end; empty if there is none."""
        looked_at = set[str]()
        for start in self.following:
            name, way = start, dict[str, None]()
            while name and name not in looked_at:
                looked_at.add(name)
                way[name] = None
                name = self.following.get(name, "")
            if name in way:
                steps = [*way]
                return [*steps[steps.index(name) :], name]
        return []


def _reached(starts: Iterable[str], arrows: Mapping[str, str]) -> Collection[str]:
    reached = set[str]()
    for start in starts:
        while start and start not in reached:
            reached.add(start)
            start = arrows.get(start, "")
    return reached
