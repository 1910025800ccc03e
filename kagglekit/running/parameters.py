"""A notebook's parameters: read from its cell tagged `parameters`, and checked before a kernel starts.

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

import nbformat

from kagglekit.options import Knob, accepts, did_you_mean, explain_renamed, knobs_of, named

WORDS = {"true": True, "false": False, "none": None, "null": None}
REST = "recipe"  # the parameter with the knobs that a cell does not show
HEADINGS = ("competition", "task", "run", "text", "model", "training", "folds")
OTHERS = "knobs that are not shown here, by name; the command line takes them like those above:"


@dataclass(frozen=True)
class Parameter:
    """One line of a parameter cell: `learning_rate: float | None = None  # of the head; None: that of the body`.

    knob: what a dataclass says of it, if one does. shown: whether it stands in the cell.
    """

    name: str
    default: object
    annotation: str = ""  # as written; "" when there is none
    comment: str = ""
    knob: Knob | None = None
    shown: bool = True

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
        """The value that `text` stands for on a command line; what fits nothing comes back for the check to name.

        `2e-5` is a number; a text parameter takes its text literally; `true`, `false`, `none` and `null` count in any
        case where a bool or None is taken; lists and dicts may be written as in Python or as in JSON.
        """
        read = [WORDS[text.lower()]] if text.lower() in WORDS else []
        for reader in (ast.literal_eval, json.loads):
            try:
                read.append(reader(text))
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                continue
        read = [value for value in read if not isinstance(value, str)]
        return next((value for value in [*read, text] if self.accepts(value)), (read or [text])[0])

    def __str__(self):
        annotation = f": {self.annotation}" if self.annotation else ""
        return f"{self.name}{annotation} = {self.default!r}" + (f"  # {self.comment}" if self.comment else "")


def read_parameters(notebook: str | Path) -> dict[str, Parameter]:
    """The parameters of a notebook, in order; none when no cell has the tag `parameters`.

    Raises ValueError for a file that is no notebook, and for a cell that is not literals only, one assignment a line.
    """
    notebook = Path(notebook)
    try:
        content = nbformat.read(notebook, as_version=4)
        cells = _parameter_cells(content)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"{notebook} is not a notebook: {error}") from error
    if len(cells) > 1:
        raise ValueError(f"{notebook} has {len(cells)} cells tagged `parameters`: keep one")
    shown = _parse_cell(notebook.name, cells[0].source) if cells else {}
    knobs = knobs_of(*knob_classes(content))
    found = {name: replace(parameter, knob=knobs.get(name)) for name, parameter in shown.items()}
    for name, knob in knobs.items() if REST in shown else ():
        found.setdefault(name, Parameter(name, knob.default, knob.type, knob.words, knob, shown=False))
    return found


def _parameter_cells(notebook) -> list:
    return [c for c in notebook.cells if c.cell_type == "code" and "parameters" in c.metadata.get("tags", [])]


def knob_classes(notebook) -> list[type]:
    """The dataclasses of knobs that a notebook's metadata names."""
    places = [text.split(":") for text in notebook.metadata.get("kagglekit", {}).get("knobs", [])]
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
    listed = f"{line}: {', '.join(knob.choices)}"
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
    content = nbformat.read(notebook, as_version=4)
    (cell,) = _parameter_cells(content)
    cell.source = write_cell(knob_classes(content))
    nbformat.write(content, notebook)


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


def check_parameters(notebook: str, parameters: dict[str, Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, when each is a parameter of the notebook, of its type and in its range; else a ValueError.

    What `recipe` holds stands beside the others in what comes back.
    """
    values = _flat(notebook, parameters, values)
    for name, value in values.items():
        if name not in parameters:
            problem = explain_renamed(name, parameters)
            unknown = f"{notebook} has no parameter {name!r}{did_you_mean(name, parameters)}"
            problem = f"{notebook}: {problem}" if problem else unknown
        elif not parameters[name].accepts(value):
            takes = parameters[name].takes
            problem = f"{notebook}: {name}={value!r} is of type {type(value).__name__}, and {name} takes {takes}"
        else:
            if parameters[name].knob:
                parameters[name].knob.check(value, notebook)
            continue
        listed = "\n".join(f"  {parameter}" for parameter in parameters.values() if parameter.shown)
        rest = "\n".join(_listed([name for name, parameter in parameters.items() if not parameter.shown], "  "))
        raise ValueError(f"{problem}\n{notebook} takes\n{listed or '  no parameters'}\n{rest}".rstrip())
    return values


def _flat(notebook: str, parameters: Mapping[str, Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values with what `recipe` holds beside the others, where the notebook has knobs that its cell does not show."""
    values = dict(values)
    if all(parameter.shown for parameter in parameters.values()) or not isinstance(values.get(REST), dict):
        return values
    rest = values.pop(REST)
    if twice := [name for name in rest if name in values and rest[name] != values[name]]:
        raise ValueError(
            f"{notebook}: {twice[0]} is {values[twice[0]]!r}, and in recipe {rest[twice[0]]!r}: say it once"
        )
    return values | rest


def with_defaults(parameters: dict[str, Parameter], given: Mapping[str, object]) -> dict[str, Any]:
    """All values that a notebook runs with: its own defaults, and over them those that were given."""
    defaults = {name: parameter.default for name, parameter in parameters.items() if parameter.shown}
    hidden = {name: parameter.default for name, parameter in parameters.items() if not parameter.shown}
    return hidden | _flat("", parameters, defaults) | _flat("", parameters, given)


def fold(parameters: dict[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """Given values as the notebook takes them: those that its cell does not show are in `recipe`."""
    given = _flat("", parameters, given)
    rest = {name: value for name, value in given.items() if name in parameters and not parameters[name].shown}
    shown = {name: value for name, value in given.items() if name not in rest}
    return shown | {REST: {**parameters[REST].default, **rest}} if rest else shown


def names_in(parameters: dict[str, Parameter], values: Mapping[str, Any], kind: str) -> list[tuple[str, str]]:
    """What the values name of a kind, see `named`."""
    return named([parameter.knob for parameter in parameters.values() if parameter.knob], values, kind)


def parse_arguments(notebook: Path, known: dict[str, Parameter], texts: dict[str, str]) -> dict:
    """Texts of the command line as checked values."""
    values = {name: known[name].parse(text) if name in known else text for name, text in texts.items()}
    return check_parameters(notebook.stem, known, values)


def read_arguments(texts: list[str]) -> dict[str, str]:
    """["epochs=3"] -> {"epochs": "3"}."""
    for text in texts:
        if not text.partition("=")[0].isidentifier() or "=" not in text:
            raise ValueError(f"{text!r} is no name=value")
    return dict(text.split("=", 1) for text in texts)


def choose_shared(notebook: Path, texts: dict[str, str]) -> dict:
    """The values after `--` that this notebook takes, each checked against every notebook of the folder that has it."""
    all_known = {path: read_parameters(path) for path in sorted(notebook.parent.glob("*.ipynb"))}
    names = {name for known in all_known.values() for name in known}
    for name in texts:
        if name not in names:
            if renamed := explain_renamed(name, names):
                raise ValueError(renamed)
            takes = "\n".join(f"{path.stem} takes {', '.join(known)}" for path, known in all_known.items() if known)
            raise ValueError(f"no notebook has a parameter {name!r}{did_you_mean(name, names)}\n{takes}")
    chosen = {}
    for path, known in all_known.items():
        chosen[path] = parse_arguments(path, known, {name: text for name, text in texts.items() if name in known})
    return chosen[notebook]
