"""A notebook's parameters: read from its cell tagged `parameters`, and written there from dataclasses of knobs.

Where the notebook's metadata names dataclasses of `Knobs` (`{"kagglekit": {"knobs": ["module:class"]}}`), those knobs
that its cell does not show are parameters too: on the command line they stand beside the others, and the notebook gets
them in its parameter `recipe`. Their types, ranges and choices are those of the dataclasses, as is the cell itself.
"""

import ast
import importlib
import io
import json
import re
import textwrap
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kagglekit.annotations import Twice, accepts, read_text
from kagglekit.options import Knob, knobs_of

REST = "recipe"  # the parameter with the knobs that a cell does not show
HEADINGS = ("competition", "task", "run", "text", "model", "training", "ensemble", "folds")
OTHERS = "knobs that are not shown here, by name; the command line takes them like those above:"


@dataclass(frozen=True)
class Parameter:
    """One line of a parameter cell: `learning_rate: float | None = None  # of the head; None: that of the body`.

    knob: what a dataclass says of it, if one does. shown: whether it stands in the cell. kind: that dataclass.
    """

    name: str
    default: object
    annotation: str = ""  # as written; "" when there is none
    comment: str = ""
    knob: Knob | None = None
    shown: bool = True
    kind: type | None = None

    @property
    def takes(self) -> str:
        """The type it takes: that of the knob, the annotation, or the type of the default; `Any` for a bare None."""
        if self.knob:
            return self.knob.type
        return self.annotation or ("Any" if self.default is None else type(self.default).__name__)

    def accepts(self, value) -> bool:
        """Whether `value` has the right type. An int is a good float; True is no int."""
        return accepts(self.takes, value)

    def parse(self, text: str):
        """The value that `text` stands for on a command line, see `read_text`; in a text, \\n is a line break, as it is
        in the patterns that a notebook holds."""
        try:
            value = read_text(text, self.takes)
            return value.replace("\\n", "\n") if isinstance(value, str) else value
        except Twice as error:
            raise ValueError(f"{self.name}: {error}") from None

    def __str__(self):
        annotation = f": {self.annotation}" if self.annotation else ""
        return f"{self.name}{annotation} = {self.default!r}" + (f"  # {self.comment}" if self.comment else "")


def read_parameters(notebook: str | Path) -> dict[str, Parameter]:
    """The parameters of a notebook, in order; none when no cell has the tag `parameters`.

    Raises ValueError for a file that is no notebook, and for a cell that is not literals only, one assignment a line.
    """
    notebook = Path(notebook)
    content = read_notebook(notebook)
    cells = parameter_cells(content)
    if len(cells) > 1:
        raise ValueError(f"{notebook} has {len(cells)} cells tagged `parameters`: keep one")
    shown = _parse_cell(notebook.name, "".join(cells[0]["source"])) if cells else {}
    kinds = knob_classes(content)
    knobs, kind_of = knobs_of(*kinds), {name: kind for kind in kinds for name in knobs_of(kind)}
    found = {name: replace(one, knob=knobs.get(name), kind=kind_of.get(name)) for name, one in shown.items()}
    for name, knob in knobs.items() if REST in shown else ():
        hidden = Parameter(name, knob.default, knob.type, knob.words, knob, shown=False, kind=kind_of[name])
        found.setdefault(name, hidden)
    return found


def read_notebook(file: Path) -> dict[str, Any]:
    """A notebook as plain data; ValueError for what is none. (To import nbformat takes longer than all the checks.)"""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not a notebook: {error}") from error
    if not (isinstance(content, dict) and isinstance(content.get("cells"), list)):
        raise ValueError(f"{file} is not a notebook: it has no list of cells, as those of version 4 have")
    return content


def parameter_cells(notebook: Mapping[str, Any]) -> list:
    """The code cells tagged `parameters`."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])]


def knob_classes(notebook: Mapping[str, Any]) -> list[type]:
    """The dataclasses of knobs that a notebook's metadata names."""
    places = [text.split(":") for text in notebook.get("metadata", {}).get("kagglekit", {}).get("knobs", [])]
    return [getattr(importlib.import_module(module), name) for module, name in places]


def write_cell(kinds: Sequence[type]) -> str:
    """The parameter cell of dataclasses of knobs: those that are `shown`, each below its heading, and `recipe` for the
    others, if there are any."""
    knobs, lines = knobs_of(*kinds).values(), []
    for heading in HEADINGS:
        if below := [_line(knob) for knob in knobs if knob.shown == heading]:
            lines += [f"# {heading}", *below, ""]
    rest = [knob.name for knob in knobs if not knob.shown]
    return "\n".join([*lines[:-1], *([f"{REST}: dict = {{}}  # {OTHERS}", *_listed(rest, "#   ")] if rest else [])])


def _line(knob: Knob) -> str:
    """A knob as a line of a cell: `truncation = "head"  # what is kept of longer texts: head, tail, ...`."""
    kind = "" if knob.type in ("str", "int", "float", "bool") else f": {re.sub('^dict.*', 'dict', knob.type)}"
    default = json.dumps(knob.default) if isinstance(knob.default, str) else repr(knob.default)
    line = f"{knob.name}{kind} = {default}  # {knob.words}"
    listed = f"{line}: {', '.join(filter(None, knob.choices))}"
    return listed if knob.choices and not isinstance(knob.default, dict) and len(listed) <= 120 else line


def _listed(names: Sequence[str], indent: str) -> list[str]:
    return textwrap.wrap(", ".join(names), 116, initial_indent=indent, subsequent_indent=indent)


def write_table(kinds: Sequence[type]) -> str:
    """Every knob of dataclasses as a table in Markdown: name, default, meaning, and what fits."""
    lines = ["| knob | type | default | meaning | what fits |", "| --- | --- | --- | --- | --- |"]
    for knob in knobs_of(*kinds).values():
        cells = (f"`{knob.name}`", f"`{knob.type}`", f"`{knob.default!r}`", knob.words, knob.rule)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def rewrite_cell(notebook: str | Path) -> None:
    """Write a notebook's parameter cell again, as the knobs that its metadata names say."""
    content = read_notebook(Path(notebook))
    (cell,) = parameter_cells(content)
    cell["source"] = write_cell(knob_classes(content)).splitlines(keepends=True)
    Path(notebook).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _parse_cell(where: str, source: str) -> dict[str, Parameter]:
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise ValueError(
            f"{where}: line {error.lineno} of the parameter cell is not plain Python: {error.text}"
        ) from error
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    parameters, line = {}, 0
    for statement in statements:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                annotation = ""
            case ast.AnnAssign(target=ast.Name(id=name), annotation=kind, value=ast.expr() as value):
                annotation = kind.value if isinstance(kind, ast.Constant) and kind.value else ast.unparse(kind)
            case _:
                raise ValueError(
                    f"{where}: the parameter cell has {ast.unparse(statement)!r}, which is no `name = literal`"
                )
        if name in parameters or statement.lineno <= line:
            raise ValueError(f"{where}: {name} is not alone on its line of the parameter cell, or stands there twice")
        line = statement.end_lineno
        try:
            default = ast.literal_eval(value)
        except ValueError as error:
            raise ValueError(f"{where}: the parameter {name} = {ast.unparse(value)} is no literal") from error
        parameters[name] = Parameter(
            name, default, annotation, comments.get(line) or comments.get(statement.lineno, "")
        )
        if not parameters[name].accepts(default):
            raise ValueError(
                f"{where}: the default of `{parameters[name]}` has a type that a parameter cannot have: use lists, not "
                "tuples or sets; dicts with text for keys; and what its own annotation says"
            )
    return parameters
