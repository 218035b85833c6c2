"""When each step of a run was: drawn with characters, and as a page of HTML."""

from runnable.timeline.page import timeline_page
from runnable.timeline.text import ASCII, UNICODE, Marks, Part, timeline_rows

__all__ = ["ASCII", "UNICODE", "Marks", "Part", "timeline_page", "timeline_rows"]
