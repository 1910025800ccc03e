"""A notebook's parameters: read from its cell tagged `parameters`, and checked before a kernel starts."""

import ast
import difflib
import io
import json
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat

from kagglekit.options import accepts

WORDS = {"true": True, "false": False, "none": None, "null": None}


@dataclass(frozen=True)
class Parameter:
    """One line of a parameter cell: `learning_rate: float | None = None  # of the head; None: that of the body`."""

    name: str
    default: object
    annotation: str = ""  # as written; "" when there is none
    comment: str = ""

    @property
    def takes(self) -> str:
        """The type it takes: the annotation, or else the type of the default; `Any` for a bare None."""
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
        cells = nbformat.read(notebook, as_version=4).cells
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"{notebook} is not a notebook: {error}") from error
    cells = [c.source for c in cells if c.cell_type == "code" and "parameters" in c.metadata.get("tags", [])]
    if len(cells) > 1:
        raise ValueError(f"{notebook} has {len(cells)} cells tagged `parameters`: keep one")
    return _parse_cell(notebook.name, cells[0]) if cells else {}


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


def check_parameters(notebook: str, parameters: dict[str, Parameter], values: dict) -> dict:
    """`values`, when each is a parameter of the notebook and of its type; else a ValueError that lists them."""
    for name, value in values.items():
        if name not in parameters:
            problem = f"{notebook} has no parameter {name!r}{did_you_mean(name, parameters)}"
        elif not parameters[name].accepts(value):
            takes = parameters[name].takes
            problem = f"{notebook}: {name}={value!r} is of type {type(value).__name__}, and {name} takes {takes}"
        else:
            continue
        listed = "\n".join(f"  {parameter}" for parameter in parameters.values())
        raise ValueError(f"{problem}\n{notebook} takes\n{listed or '  no parameters'}")
    return dict(values)


def with_defaults(parameters: dict[str, Parameter], given: Mapping[str, object]) -> dict:
    """All values that a notebook runs with: its own defaults, and over them those that were given."""
    return {name: parameter.default for name, parameter in parameters.items()} | dict(given)


def did_you_mean(name: str, known) -> str:
    """`: did you mean epochs?`, or nothing when no known name is close."""
    close = difflib.get_close_matches(name, known, cutoff=0.5)
    return f": did you mean {' or '.join(close)}?" if close else ""


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
            takes = "\n".join(f"{path.stem} takes {', '.join(known)}" for path, known in all_known.items() if known)
            raise ValueError(f"no notebook has a parameter {name!r}{did_you_mean(name, names)}\n{takes}")
    chosen = {}
    for path, known in all_known.items():
        chosen[path] = parse_arguments(path, known, {name: text for name, text in texts.items() if name in known})
    return chosen[notebook]
