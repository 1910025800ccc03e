"""Checks of a kernel's notebook before a push: size, credentials, local paths, and what needs the internet."""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kagglekit.kaggle.cells import MARK
from kagglekit.kaggle.secrets import find_secrets, local_paths
from kagglekit.running import nbformat
from kagglekit.running.arguments import check_parameters, with_defaults
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import knob_classes, read_notebook, read_parameters

MOST = 1_000_000  # bytes: Kaggle's own limit is about 1 MB, which its client does not check
CALLS = ("run_step", "run_in_parallel", "train_in_parallel", "run_notebook")  # with a notebook's name and parameters


@dataclass(frozen=True)
class Finding:
    """One thing to fix. level: "error" stops a push. key: of a JSON file, "cell 3" (from 1), or ""."""

    level: Literal["error", "warning"]
    file: str
    key: str
    message: str

    def __str__(self):
        return ": ".join(filter(None, [self.level, self.file, self.key, self.message]))


def lint_text(text: str, where: str, key: str = "", level: str = "error") -> Iterator[Finding]:
    """Findings about credentials and local paths in a text. level: that of the paths."""
    for kind in find_secrets(text):
        yield Finding("error", where, key, f"holds {kind}: remove it, and make a new one if it was ever pushed")
    for path in local_paths(text):
        yield Finding(level, where, key, f"names {path}, which is on this machine and not in the kernel")


def lint_notebook(file: Path, internet: bool, notebook: bool = True) -> Iterator[Finding]:
    """The findings about a kernel's code. notebook: whether it has to be one, or is a script."""
    where = f"{file.resolve().parent.name}/{file.name}"
    if not file.is_file():
        yield Finding("error", where, "", "is not there, and code_file names it")
        return
    text, sent = file.read_text(encoding="utf-8", errors="replace"), None
    if notebook:
        try:
            content, cells = json.loads(text), _read_cells(text)
        except (ValueError, AttributeError, nbformat.ValidationError) as error:
            yield Finding("error", where, "", f"is no valid notebook: {str(error).splitlines()[0]}")
        else:
            for number, cell in enumerate(cells, 1):
                level = "error" if cell.cell_type == "code" else "warning"
                yield from lint_text(cell.source, where, f"cell {number}", level)
                rest = json.dumps([cell.metadata, cell.get("outputs", [])], ensure_ascii=False)
                yield from lint_text(rest, where, f"cell {number}, metadata")
            yield from lint_text(json.dumps(content.get("metadata", {}), ensure_ascii=False), where, "metadata")
            yield from _lint_parameters(file, cells, where)
            if not internet:
                yield from _lint_offline(cells, where)
            # as the client sends it: without outputs, in ASCII (a Chinese letter takes six bytes)
            sent = json.dumps({**content, "cells": [{**cell, "outputs": []} for cell in cells]})
    if sent is None:
        yield from lint_text(text, where)
    if len(sent or text) > MOST:
        message = f"has {len(sent or text):,} bytes as it is sent, more than {MOST:,}: move data into a data set"
        yield Finding("error", where, "", message)


def _read_cells(text: str) -> list:
    content, invalid = json.loads(text), {}
    listed = content.get("cells") if isinstance(content, dict) and content.get("nbformat") == 4 else None
    if not isinstance(listed, list) or not all(isinstance(cell, dict) for cell in listed):
        raise ValueError("it must be an object with nbformat 4 and a list of cells")
    cells = nbformat.reads(text, as_version=4, capture_validation_error=invalid).cells
    for error in invalid.values():
        raise error
    return cells


def _lint_offline(cells: list, where: str) -> Iterator[Finding]:
    """Findings about what needs the internet, in a kernel without it."""
    code = [(number, cell.source) for number, cell in enumerate(cells, 1) if cell.cell_type == "code"]
    ours = any(re.search(r"^[ \t]*(from|import)\s+kagglekit\b", source, re.MULTILINE) for _, source in code)
    installs = [number for number, source in code if source.startswith(MARK) and "--no-index" in source]
    if ours and installs != [number for number, _ in code[:1]]:
        message = "the first code cell does not install kagglekit from a data set, and the internet is off"
        yield Finding("error", where, "", f"{message}: make the kernel with `python -m kagglekit.kaggle build`")
    for number, source in code:
        if re.search(r"^[ \t]*[!%][ \t]*(?:uv +)?pip3? +install\b(?!.*--no-index)", source, re.MULTILINE):
            message = "pip install without --no-index, and the internet is off: put the wheel into a data set"
            yield Finding("error", where, f"cell {number}", message)


def _lint_parameters(file: Path, cells: list, where: str) -> Iterator[Finding]:
    """Findings about parameters that `kagglekit.run` refuses: of the notebook itself, and of those that it runs."""
    ours = bool(knob_classes(read_notebook(file)))
    for number, cell in enumerate(cells, 1):
        tree = _parse(cell.source) if cell.cell_type == "code" else ast.Module([], [])
        asked = [call for call in map(_called, ast.walk(tree)) if call]
        if ours and "injected-parameters" in cell.metadata.get("tags", []):
            asked.append((file.stem, _assigned(tree)))
        for name, given in asked:
            try:
                source = file if name == file.stem else find_notebook(name)
                check_parameters(name, read_parameters(source), given)
            except FileNotFoundError:  # somebody's own notebook
                continue
            except ValueError as error:
                yield Finding("error", where, f"cell {number}", str(error).splitlines()[0])


def find_backbones(file: Path) -> set[str]:
    """The values of backbone= that the notebook's parameters ask for, except where a start replaces them."""
    try:
        cells = _read_cells(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, AttributeError, nbformat.ValidationError):  # a finding of `lint_notebook`
        return set()
    own, groups = {}, []
    for cell in (cell for cell in cells if cell.cell_type == "code"):
        tree = _parse(cell.source)
        if {"parameters", "injected-parameters"} & {*cell.metadata.get("tags", [])}:
            own |= _assigned(tree)
        groups += [_with_defaults(*call) for call in filter(None, map(_called, ast.walk(tree)))]
    asked = set()
    for values in [own, *groups]:
        name = values.get("backbone")
        if isinstance(name, str) and (name == "minilm" or not values.get("start")):
            asked.add(name)
    return asked


def _parse(source: str) -> ast.Module:
    """The code of a cell without lines of magic; nothing for a cell that is no Python."""
    try:
        return ast.parse(re.sub(r"^([ \t]*)[!%].*", r"\1pass", source, flags=re.MULTILINE))
    except SyntaxError:
        return ast.Module([], [])


def _assigned(tree: ast.Module) -> dict:
    values = {}
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and (value := _literal(getattr(node, "value", None))) is not ...:
            values[target.id] = value
    return values


def _literal(node: ast.expr | None) -> Any:
    """The value of a literal; ... for what is none."""
    try:
        return ... if node is None else ast.literal_eval(node)
    except ValueError:
        return ...


def _called(node: ast.AST) -> tuple[str, dict] | None:
    """The notebook and the literal parameters of a call such as run_in_parallel("3_train", {...})."""
    match node:
        case ast.Call(func=ast.Name(id=function), args=[ast.Constant(value=str(name)), ast.Dict() as given, *_]):
            pairs = [(_literal(key), _literal(value)) for key, value in zip(given.keys, given.values, strict=True)]
            literal = {key: value for key, value in pairs if isinstance(key, str) and value is not ...}
            return (name, literal) if function in CALLS else None
    return None


def _with_defaults(name: str, given: dict) -> dict:
    try:
        return with_defaults(read_parameters(find_notebook(name)), given)
    except (FileNotFoundError, ValueError):  # somebody's own notebook
        return given
