"""A look into the notebook of a kernel: its size, what is left in it, and what must not be."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import nbformat

from kagglekit.kaggle.cells import MARK
from kagglekit.kaggle.findings import Finding
from kagglekit.kaggle.secrets import find_secrets, local_paths
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import read_parameters, with_defaults

MOST, MANY = 1_000_000, 800_000  # bytes: Kaggle's own limit is about 1 MB, which its client does not check
BROKEN = (ValueError, AttributeError, nbformat.ValidationError)  # what nbformat raises for a file that is no notebook
CALLS = ("run_step", "run_in_parallel", "train_in_parallel", "run_notebook")  # with a notebook's name and parameters


def lint_notebook(file: Path, internet: bool = False, notebook: bool = True) -> list[Finding]:
    """The findings about a kernel's code. notebook: whether it has to be one, or is a script."""
    where = f"{file.resolve().parent.name}/{file.name}"
    if not file.is_file():
        return [Finding("error", where, "", "is not there, and code_file names it")]
    size, text = file.stat().st_size, file.read_text(encoding="utf-8", errors="replace")
    if not notebook:
        return [*_lint_size(size, where), *lint_text(text, where)]
    try:
        content, cells = json.loads(text), _read_cells(text)
    except BROKEN as error:
        message = f"is no valid notebook: {str(error).splitlines()[0]}"
        return [*_lint_size(size, where), Finding("error", where, "", message), *lint_text(text, where)]
    findings = [*_lint_size(max(size, _sent(content, cells)), where)]
    findings += [finding for number, cell in enumerate(cells, 1) for finding in _lint_cell(number, cell, where)]
    about = {**content.get("metadata", {})}
    if about.pop("papermill", None):
        message = "papermill's record of an earlier run is left, with paths of this machine: build the kernel anew"
        findings.append(Finding("error", where, "metadata.papermill", message))
    findings += lint_text(json.dumps(about, ensure_ascii=False), where, "metadata")
    return findings + ([] if internet else list(_lint_offline(cells, where)))


def lint_text(text: str, where: str, key: str = "", level: str = "error") -> Iterator[Finding]:
    """Findings about credentials and paths of this machine in a text. level: that of the paths."""
    for kind in find_secrets(text):
        yield Finding("error", where, key, f"holds {kind}: take it out, and make a new one if it was ever pushed")
    for path in local_paths(text):
        yield Finding(level, where, key, f"names {path}, which is on this machine and not in the kernel")


def find_backbones(file: Path) -> set[str]:
    """The values of backbone= that the notebook's parameters ask for, without those that a start takes the place of."""
    try:
        cells = _read_cells(file.read_text(encoding="utf-8"))
    except (OSError, *BROKEN):  # said by `lint_notebook`
        return set()
    own, groups = {}, []
    for cell in (cell for cell in cells if cell.cell_type == "code"):
        tree = _parse(cell.source)
        if {"parameters", "injected-parameters"} & {*cell.metadata.get("tags", [])}:
            own |= _assigned(tree)
        groups += [_called(node) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    asked = set()
    for values in [own, *groups]:
        name = values.get("backbone")
        if isinstance(name, str) and (name == "minilm" or not values.get("start")):
            asked.add(name)
    return asked


def _read_cells(text: str) -> list:
    content, invalid = json.loads(text), {}
    listed = content.get("cells") if isinstance(content, dict) and content.get("nbformat") == 4 else None
    if not isinstance(listed, list) or not all(isinstance(cell, dict) for cell in listed):
        raise ValueError("it must be an object with nbformat 4 and a list of cells")
    cells = nbformat.reads(text, as_version=4, capture_validation_error=invalid).cells
    for error in invalid.values():
        raise error
    return cells


def _lint_size(size: int, where: str) -> Iterator[Finding]:
    if size > MANY:
        level, limit = ("error", MOST) if size > MOST else ("warning", MANY)
        message = (
            f"has {size:,} bytes as it is sent, more than {limit:,}: Kaggle takes about 1 MB. Move data into a data set"
        )
        yield Finding(level, where, "", message)


def _lint_cell(number: int, cell: Mapping, where: str) -> Iterator[Finding]:
    key = f"cell {number}"
    yield from lint_text(cell.source, where, key, "error" if cell.cell_type == "code" else "warning")
    about = {name: value for name, value in cell.metadata.items() if name != "papermill"}
    yield from lint_text(json.dumps([about, cell.get("outputs", [])], ensure_ascii=False), where, f"{key}, metadata")
    for name, left in (
        ("outputs", cell.get("outputs")),
        ("execution_count", cell.get("execution_count")),
        ("metadata.papermill", cell.metadata.get("papermill")),
    ):
        if left:
            yield Finding("warning", where, key, f"{name} of an earlier run is left: build the kernel anew")


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


def _sent(content: dict, cells: list) -> int:
    """Bytes of the notebook as Kaggle's client sends it: without outputs, in ASCII (a Chinese letter takes six)."""
    return len(json.dumps({**content, "cells": [{**cell, "outputs": []} for cell in cells]}))


def _parse(source: str) -> ast.Module:
    """The code of a cell without lines of magic; nothing of a cell that is no Python."""
    try:
        return ast.parse(re.sub(r"^([ \t]*)[!%].*", r"\1pass", source, flags=re.MULTILINE))
    except SyntaxError:
        return ast.Module([], [])


def _assigned(tree: ast.Module) -> dict:
    values = {}
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and isinstance(getattr(node, "value", None), ast.Constant):
            values[target.id] = node.value.value
    return values


def _called(node: ast.Call) -> dict:
    """The parameters that a call such as run_in_parallel("3_train", {...}) runs a notebook of the library with."""
    match node:
        case ast.Call(func=ast.Name(id=function), args=[ast.Constant(value=str(name)), ast.Dict() as given, *_]):
            if function not in CALLS:
                return {}
            # its own parameters, and over them those that were given
            pairs = zip(given.keys, given.values, strict=True)
            told = {key.value: value.value for key, value in pairs if isinstance(value, ast.Constant)}
            try:
                known = read_parameters(find_notebook(name))
            except (FileNotFoundError, ValueError):  # a notebook of somebody's own
                known = {}
            return with_defaults(known, told)
    return {}
