"""A page of HTML in one file: sections, tables, pictures inside, no script and nothing from elsewhere.

Everything that is not made here is escaped: texts of a competition may hold HTML. Known folders of this machine are
taken out at the end. The colours are those of the reader's system, light or dark; pictures are drawn on white, and
turned for dark ground without a change of hue.
"""

import base64
import html
import io
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from kagglekit.files.writing import replacing
from kagglekit.show.tables import render, shorten

START = 140  # characters of a text that are seen before it is unfolded
DPI = 150  # pixels of a picture per inch, of which the page shows 100
STYLE = """\
:root { color-scheme: light dark; --ink: #1f2328; --soft: #57606a; --ground: #ffffff; --card: #f6f8fa;
  --line: #d0d7de; --link: #0550ae; --warn: #953800 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #a3adb8; --ground: #14171c; --card: #1d222a;
  --line: #3a424d; --link: #79c0ff; --warn: #ffb77c } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: break-word }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .6rem; padding-top: .7rem; border-top: 1px solid var(--line) }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem }
summary h3 { display: inline; margin: 0; font-weight: 600 }
p, ul { margin: .5rem 0 } ul { padding-left: 1.2rem } a { color: var(--link) }
.lead { font-size: 1.1rem } .soft, figcaption, caption { color: var(--soft); font-size: .9rem }
.warn { border-left: 4px solid var(--warn); padding: .3rem .8rem; background: var(--card) }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; list-style: none; padding: 0; margin: 1rem 0 }
.scroll { overflow-x: auto; margin: .8rem 0; max-width: 100% }
.scroll:focus-visible, summary:focus-visible, a:focus-visible { outline: 2px solid var(--link); outline-offset: 2px }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
caption { text-align: left; padding-bottom: .3rem }
caption span { display: inline-block; position: sticky; left: 0; max-width: calc(100vw - 2.5rem) }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); max-width: 26rem; vertical-align: top;
  text-align: left } .number { text-align: right } tbody th { font-weight: 500 }
thead th { border-bottom-width: 2px; font-weight: 600; white-space: nowrap }
figure { margin: 1rem 0 } figcaption { margin-top: .2rem }
img { display: block; max-width: 100%; height: auto }
@media (max-width: 40rem) { .scroll img { max-width: none; width: max(100%, 32rem) }
  .scroll table { width: max-content } th, td { max-width: 15rem } }
@media (prefers-color-scheme: dark) { img { filter: invert(1) hue-rotate(180deg); mix-blend-mode: screen } }
ul.rows { list-style: none; padding: 0 } ul.rows > li { margin: .9rem 0 } ul.rows p { margin: .2rem 0 }
details { margin: .5rem 0; border: 1px solid var(--line); border-radius: 6px; padding: .4rem .8rem }
details > summary { cursor: pointer; margin: -.4rem -.8rem; padding: .45rem .8rem }
details[open] > summary { margin-bottom: .4rem; border-bottom: 1px solid var(--line) }
pre { background: var(--card); padding: .7rem .9rem; border-radius: 6px; overflow-x: auto; font-size: .85rem }
pre.words { white-space: pre-wrap } code { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .92em }
@media print { details > * { display: block } nav { display: none } }
"""


@dataclass
class Section:
    """A section of a page: its heading and the pieces of HTML below it."""

    title: str
    parts: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        """What a link to it names."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


def escape(text: object) -> str:
    """A text as HTML that shows it as it is."""
    return html.escape(str(text))


def paragraph(text: object, kind: str = "") -> str:
    """A paragraph of plain text; what stands between backticks is code. kind: lead, soft or warn."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return f'<p class="{kind}">{marked}</p>' if kind else f"<p>{marked}</p>"


def listing(texts: Iterable[object]) -> str:
    """A list of plain texts; nothing where there are none."""
    items = "".join(f"<li>{paragraph(text)[3:-4]}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def table(frame: pd.DataFrame, caption: str) -> str:
    """A table that a narrow screen scrolls sideways. caption: what it shows; the headings are told as such."""
    head, _, body = render(frame).partition("</thead>")
    head, body = head.replace("<th ", '<th scope="col" '), body.replace("<th ", '<th scope="row" ')
    head = head.replace("<thead>", f"<caption><span>{escape(caption)}</span></caption><thead>", 1)
    return scrolled(f"{head}</thead>{body}", caption)


def scrolled(content: str, label: str) -> str:
    """Content that is wider than a narrow screen: it scrolls, also by keyboard."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">{content}</div>'


def text_rows(frame: pd.DataFrame) -> str:
    """Rows of train with their texts, whatever the width of the screen: what is said of each, and its text below, of
    which the end is folded where it is long. frame: the columns id and text, and others that are told by name."""
    rows = []
    for row in frame.to_dict("records"):
        text, said = str(row.pop("text")), [f"<b>{escape(row.pop('id'))}</b>"]
        said += [f"{escape(name)} <b>{escape(value)}</b>" for name, value in row.items()]
        start = shorten(text, START)
        shown = details(start, f"<p>{escape(text)}</p>") if len(text) > START else f'<p class="soft">{escape(text)}</p>'
        rows.append(f"<li><p>{' · '.join(said)}</p>{shown}</li>")
    return f'<ul class="rows">{"".join(rows)}</ul>' if rows else ""


def picture(figure: Figure | None, alt: str, caption: str = "") -> str:
    """A matplotlib figure as a picture inside the page. alt: what it shows, in words, for those who do not see it."""
    if figure is None:
        return ""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    width, height = (round(100 * size) for size in figure.get_size_inches())
    return image(base64.b64encode(file.getvalue()).decode(), alt, caption, f' width="{width}" height="{height}"')


def image(png: str, alt: str, caption: str = "", size: str = "") -> str:
    """A PNG picture, given in base64."""
    data = re.sub(r"[^A-Za-z0-9+/=]", "", png)
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    shown = scrolled(f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}"{size}>', "picture")
    return f"<figure>{shown}{below}</figure>"


def details(title: str, *parts: str, shown: bool = False, heading: bool = False) -> str:
    """Parts that are folded until they are asked for."""
    name = f"<h3>{escape(title)}</h3>" if heading else escape(title)
    return f"<details{' open' if shown else ''}><summary>{name}</summary>{''.join(parts)}</details>"


def code(text: str, words: bool = False) -> str:
    """Code or output as it is; words: long lines are wrapped."""
    kind = ' class="words"' if words else ""
    return f'<pre tabindex="0"{kind}><code>{escape(text)}</code></pre>'


def write_page(path: Path, title: str, lead: Sequence[str], sections: Sequence[Section], work: Path, data="") -> Path:
    """Write a page, whole or not at all, and return its path. lead: pieces of HTML below the title. work, data: folders
    that are named without the place where they are."""
    sections = [section for section in sections if any(section.parts)]
    links = "".join(f'<li><a href="#{section.id}">{escape(section.title)}</a></li>' for section in sections)
    links = f'<nav aria-label="Sections"><ul>{links}</ul></nav>' if len(sections) > 1 else ""
    body = "".join(
        f'<section aria-labelledby="{section.id}"><h2 id="{section.id}">{escape(section.title)}</h2>'
        f"{''.join(section.parts)}</section>\n"
        for section in sections
    )
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><header><h1>{escape(title)}</h1>"
        f"{''.join(lead)}</header>\n{links}\n"
        f"<main>{body}</main></body></html>\n"
    )
    with replacing(path) as part:
        part.write_text(hide_places(page, work, data), encoding="utf-8")
    return path


def hide_places(text: str, work: Path, data: str = "") -> str:
    """A text without the folders of this machine: the work folder is runs/NAME, files have their own name alone."""
    known = [
        (str(work), f"runs/{work.name}"),
        (str(data), Path(data).name),
        (str(Path.cwd()), "."),
        (str(Path.home()), "~"),
    ]
    known += [(str(Path(__file__).parents[2]), "kagglekit"), (os.path.realpath(data or "."), Path(data or ".").name)]
    for place, name in sorted(known, key=lambda pair: -len(pair[0])):
        if len(Path(place).parts) > 2 or place == str(Path.home()) != "/":  # "/tmp" may well stand in a text
            for written, new in ((place, name), (escape(place), escape(name))):
                text = re.sub(rf"(?<![\w/]){re.escape(written)}(?![\w.-])", lambda _, new=new: new, text)
    return text
