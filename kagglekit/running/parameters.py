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

from kagglekit.files import check_run_name
from kagglekit.options import (
    Knob,
    accepts,
    check_idle,
    did_you_mean,
    explain_renamed,
    find_idle,
    knobs_of,
    named,
)

WORDS = {"true": True, "false": False, "none": None, "null": None}
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
        """The value that `text` stands for on a command line; what fits nothing comes back for the check to name.

        `2e-5` is a number; a text parameter takes its text literally; `true`, `false`, `none` and `null` count in any
        case where a bool or None is taken; lists and dicts may be written as in Python or as in JSON.
        """
        read = [WORDS[text.lower()]] if text.lower() in WORDS else []
        for reader in (_read_python, _read_json):
            try:
                read.append(reader(text))
            except Twice as error:
                raise ValueError(f"{self.name}: {error}") from None
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                continue
        read = [value for value in read if not isinstance(value, str)]
        return next((value for value in [*read, text] if self.accepts(value)), (read or [text])[0])

    def __str__(self):
        annotation = f": {self.annotation}" if self.annotation else ""
        return f"{self.name}{annotation} = {self.default!r}" + (f"  # {self.comment}" if self.comment else "")


class Twice(Exception):
    """A key stands twice in a dict of the command line."""


def _read_python(text: str) -> Any:
    tree = ast.parse(text.strip(), mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            _refuse_twice([key.value for key in node.keys if isinstance(key, ast.Constant)])
    return ast.literal_eval(tree)


def _read_json(text: str) -> Any:
    def make(pairs):
        _refuse_twice([key for key, _ in pairs])
        return dict(pairs)

    return json.JSONDecoder(object_pairs_hook=make).decode(text)


def _refuse_twice(names: Sequence[str]) -> None:
    if twice := [name for name in names if names.count(name) > 1]:
        raise Twice(f"{twice[0]!r} stands there twice: say it once")


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


def check_parameters(notebook: str, parameters: dict[str, Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, when each is a parameter of the notebook, of its type and in its range, and they go together; else a
    ValueError.

    What `recipe` holds stands beside the others in what comes back.
    """
    values = check_each(notebook, parameters, values)
    whole = with_defaults(parameters, values)
    kinds, known = _kinds(parameters), {name for name, one in parameters.items() if one.kind}
    try:
        for kind in kinds:
            kind(**{name: value for name, value in whole.items() if name in known and parameters[name].kind is kind})
        check_idle(kinds, {name: whole[name] for name in known})
        if isinstance(whole.get("run"), str):
            check_run_name("run", whole["run"])
        for label, name in names_in(parameters, whole, "run"):
            check_run_name(label, name, path=label != "runs")
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(f"{notebook}: ") else f"{notebook}: {text}") from None
    return values


def _kinds(parameters: Mapping[str, Parameter]) -> list[type]:
    return list(dict.fromkeys(one.kind for one in parameters.values() if one.kind))


def drop_idle(
    notebook: str, parameters: dict[str, Parameter], shared: Mapping[str, Any], own: Mapping[str, Any]
) -> dict[str, Any]:
    """Shared values, of several notebooks, without those that have no effect in this one: each is told.

    own: the notebook's own values, which win.
    """
    shared = {name: value for name, value in _flat(notebook, parameters, shared).items() if name not in own}
    whole = with_defaults(parameters, {**shared, **_flat(notebook, parameters, own)})
    known = {name: whole[name] for name, one in parameters.items() if one.kind}
    for name, why in find_idle(_kinds(parameters), known).items():
        if name in shared:
            reason = why.split(": leave it out")[0]
            print(f"{notebook}: {name}={shared.pop(name)!r} has no effect {reason}, and is left out", flush=True)
    return shared


def check_each(notebook: str, parameters: dict[str, Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, with those of `recipe` beside the others, when each is a parameter of the notebook, of its type and in
    its range; else a ValueError."""
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
    if twice := [name for name in rest if name in values]:
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
    """Texts of the command line as values that were checked one by one, see `check_each`."""
    values = {name: known[name].parse(text) if name in known else text for name, text in texts.items()}
    return check_each(notebook.stem, known, values)


def read_arguments(texts: list[str]) -> dict[str, str]:
    """["epochs=3"] -> {"epochs": "3"}."""
    for text in texts:
        if not text.partition("=")[0].isidentifier() or "=" not in text:
            raise ValueError(f"{text!r} is no name=value")
    names = [text.split("=", 1)[0] for text in texts]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]} is given twice: say it once")
    return dict(text.split("=", 1) for text in texts)


def choose_shared(notebook: Path, texts: dict[str, str], own: Mapping[str, Any] | None = None) -> dict:
    """The values after `--` that this notebook takes, each checked against every notebook of the folder that has it.

    own: the notebook's own values, which win, and with which some of the others have no effect, see `drop_idle`.
    """
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
    return drop_idle(notebook.stem, all_known[notebook], chosen[notebook], own or {})
