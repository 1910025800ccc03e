"""Pictures and tables for the notebooks."""

from typing import Any


def section(words: str, *things: Any) -> None:
    """Show a heading and words (Markdown), and below them things, where there is one: of an empty table, or of None, a
    notebook shows nothing, nor the heading above it."""
    from IPython.display import Markdown, display

    there = [thing for thing in things if thing is not None and not getattr(thing, "empty", False)]
    for thing in [Markdown(words), *there] if there else ():
        display(thing)
