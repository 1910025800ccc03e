"""Sections of an executed notebook: its words, tables, pictures and printed lines as safe HTML, its code folded.

Tables are read cell by cell and written again as text, so that no HTML of a notebook's output reaches the page.
"""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from kagglekit.files import read_json
from kagglekit.reports.page import code, details, escape, image, paragraph, scrolled
from kagglekit.show.tables import NUMBER

HOME = re.compile(r"(?<![\w/~.])(?:/(?:home|Users)/[^\s/\"'<>]+|/root|[A-Za-z]:\\Users\\[^\s\\\"'<>]+)")


@dataclass
class Shown:
    """What a notebook shows below one of its headings: words and outputs as HTML, in order, and the code behind it.

    waiting: words whose output has not come yet; where none comes they are left out.
    """

    title: str
    parts: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)

    def add(self, output: str, source: str) -> None:
        """Add an output of a cell, behind the words above it."""
        self.parts += [*(paragraph(text, "soft") for text in self.waiting), output]
        self.code += [] if source in self.code else [source]
        self.waiting = []

    def as_details(self, title: str = "", shown: bool = False) -> str:
        """The section, folded unless `shown`."""
        folded = details("Code", code("\n\n".join(self.code)))
        return details(title or self.title, *self.parts, folded, shown=shown, heading=True)


def read_sections(notebook: Path) -> dict[str, Shown]:
    """The sections of an executed notebook that show something, by their headings (of the second level, in cells of
    Markdown or shown by code). Raises Damaged for a damaged file."""
    found = [Shown("")]
    for cell in read_json(notebook).get("cells", []):
        source = "".join(cell.get("source", ""))
        if cell.get("cell_type") == "markdown":
            _add_words(found, source)
        for output in cell.get("outputs", []):
            if words := "".join(output.get("data", {}).get("text/markdown", "")):
                _add_words(found, words)
            elif html := show_output(output, found[-1].title):
                found[-1].add(html, source)
    return {section.title: section for section in found if section.title and section.parts}


def _add_words(found: list[Shown], words: str) -> None:
    """Add words of Markdown to the last section; a heading of the second level begins another."""
    for part in re.split(r"(?m)^(?=#)", words):
        heading, _, rest = part.partition("\n") if part.startswith("#") else ("", "", part)
        if heading.startswith("## "):
            found.append(Shown(heading[3:].strip()))
        found[-1].waiting = [text.strip() for text in rest.split("\n\n") if text.strip()]


def show_output(output: dict[str, Any], title: str) -> str:
    """One output of a cell as HTML: a picture, tables, or lines as they were printed; "" for what shows nothing."""
    data = output.get("data", {})
    if "image/png" in data:
        return image("".join(data["image/png"]), f"{title}: a picture of the notebook")
    parser = Tables()
    parser.feed("".join(data.get("text/html", "")))
    parser.close()
    if parser.tables:
        return "".join(scrolled(_write_table(rows), title) for rows in parser.tables)
    text = "".join(data.get("text/plain", "") or output.get("text", ""))
    text = HOME.sub("~", text).strip()
    return code(text, words=True) if text and output.get("name") != "stderr" and text != "None" else ""


@dataclass
class Cell:
    """A cell of a table: its tag (td or th), its plain text, and how many rows and columns it spans."""

    tag: str
    text: str = ""
    rows: int = 1
    columns: int = 1


class Tables(HTMLParser):
    """The tables in a piece of HTML: lists of rows, which are lists of cells with plain texts."""

    def __init__(self):
        super().__init__()
        self.tables: list[list[list[Cell]]] = []
        self.cell: Cell | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr" and self.tables:
            self.tables[-1].append([])
        elif tag in ("td", "th") and self.tables and self.tables[-1]:
            spans = [dict(attrs).get(name) or "1" for name in ("rowspan", "colspan")]
            self.cell = Cell(tag, "", *(int(span) if span.isdecimal() else 1 for span in spans))
            self.tables[-1][-1].append(self.cell)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "table"):
            self.cell = None

    def handle_data(self, data: str) -> None:
        if self.cell is not None:
            self.cell.text += data


def _write_table(rows: list[list[Cell]]) -> str:
    heads = next((k for k, row in enumerate(rows) if any(cell.tag == "td" for cell in row)), len(rows))
    lines = ["".join(_write_cell(cell, "col" if k < heads else "row") for cell in row) for k, row in enumerate(rows)]
    head, body = ("".join(f"<tr>{line}</tr>" for line in some) for some in (lines[:heads], lines[heads:]))
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def _write_cell(cell: Cell, scope: str) -> str:
    text = " ".join(HOME.sub("~", cell.text).split())
    spans = "".join(
        f' {name}="{count}"' for name, count in (("rowspan", cell.rows), ("colspan", cell.columns)) if count > 1
    )
    of = f' scope="{scope}"' if cell.tag == "th" else ""
    kind = ' class="number"' if cell.tag == "td" and NUMBER.fullmatch(text) else ""
    return f"<{cell.tag}{of}{spans}{kind}>{escape(text)}</{cell.tag}>"
