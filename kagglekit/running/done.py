"""Whether a notebook run is done and unchanged: a marker file with hashes of inputs and outputs; a summary of runs."""

import hashlib
import itertools
import re
import string
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from kagglekit.files import Damaged, hash_files, read_json, resolve, shorten, write_json
from kagglekit.running.arguments import names_in
from kagglekit.running.parameters import Parameter
from kagglekit.runs.environment import versions
from kagglekit.time_budget import unfinished

LIBRARY = Path(__file__).parents[1]
# temporary, implied by the predictions, or edited by hand
SKIPPED = re.compile(r"(^|/)(\.|checkpoint|__pycache__|fold\d+/(seed\d+/)?model/|suspects\.csv$)")


def hash_path(path: Path, pattern: str = "*") -> str:
    """A hash of a file's content, or of all files below a folder with their names; `absent` where there is nothing."""
    if path.is_file():
        return hash_files([path])
    if not path.is_dir():
        return "absent"
    files = {p.relative_to(path).as_posix(): p for p in path.rglob(pattern) if p.is_file()}
    return _hash_named({name: p for name, p in sorted(files.items()) if not SKIPPED.search(name)})


def _hash_named(files: dict[str, Path]) -> str:
    return hashlib.sha256("\n".join([*files, hash_files(files.values())]).encode()).hexdigest()[:16]


def fill(templates: list[str], parameters: dict) -> list[str]:
    """Paths such as `{work}/{runs}` with parameters filled in; a list gives several paths, None and empty text none.

    `{pseudo[teacher]}` is the entry of a dict; "one+other", without a slash, are two names. Raises ValueError for a
    name that is no parameter.
    """
    paths = []
    for template in templates:
        names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
        if missing := [name for name in names if name.split("[")[0] not in parameters]:
            problem = f"{template!r} in the notebook's metadata names {missing[0]!r}"
            raise ValueError(f"{problem}, which is none of its parameters")
        for values in itertools.product(*(_values(name, parameters) for name in names)):
            path = template
            for name, value in zip(names, values, strict=True):
                path = path.replace("{" + name + "}", str(value))
            paths.append(path)
    return list(dict.fromkeys(paths))


def _values(name: str, parameters: dict) -> list:
    """The values of a name in a template."""
    name, _, key = name.removesuffix("]").partition("[")
    value = parameters[name].get(key, "") if key else parameters[name]
    values = value if isinstance(value, list) else [value]
    parts = [part for v in values for part in (v.split("+") if isinstance(v, str) and "/" not in v else [v])]
    return [part for part in parts if part is not None and part != ""]


def hash_paths(paths: list[str]) -> dict[str, str]:
    """Path as filled in -> hash. A path with `*` stands for all files that match."""
    hashes = {}
    for path in paths:
        full = resolve(path)
        if "*" in path:
            found = Path(full.anchor).glob(str(full.relative_to(full.anchor)))
            hashes[path] = _hash_named({str(file): file for file in sorted(found) if file.is_file()})
        else:
            hashes[path] = hash_path(full)
    return hashes


def find_reads(notebook, parameters: dict, known: Mapping[str, Parameter]) -> list[str]:
    """The paths that a notebook reads: those that its metadata declares, and the runs, files and models that its knobs
    name (a model may be a name on the hub, and then no path). A run with a slash is one of another work folder."""
    found = fill(notebook.metadata.get("kagglekit", {}).get("reads", []), parameters)
    for kind in ("model", "run", "file"):
        for _, name in names_in(known, parameters, kind):
            found.append(f"{parameters['work']}/{name}" if kind == "run" and "/" not in name else name)
    return list(dict.fromkeys(found))


def fingerprint(notebook, parameters: dict, known: Mapping[str, Parameter]) -> dict:
    """All that a run depends on: parameters, the notebook's code, this library, and what it reads, see `find_reads`."""
    code = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return {
        "parameters": parameters,
        "notebook": hashlib.sha256(code.encode()).hexdigest()[:16],
        "library": hash_path(LIBRARY, "*.py"),
        "inputs": hash_paths(find_reads(notebook, parameters, known)),
    }


def changes(marker: Path, now: dict) -> str:
    """The differences between a marker and the present `fingerprint` and files, in words; empty when there are none.
    A run that ran out of time counts as changed, see `unfinished`."""
    before, changed = read_marker(marker), []
    if not before:
        return f"{shorten(marker)}, which is damaged"
    names = now["parameters"]
    changed += [f"the parameter {name}" for name in names if before["parameters"].get(name, ...) != names[name]]
    changed += [f"the {part}" for part in ("notebook", "library") if before[part] != now[part]]
    changed += [path for path, value in now["inputs"].items() if before["inputs"].get(path) != value]
    changed += [path for path, value in before["outputs"].items() if hash_path(resolve(path)) != value]
    changed += [f"{path}, which ran out of time" for path in before["outputs"] if unfinished(resolve(path))]
    return ", ".join(changed)


def write_marker(marker: Path, now: dict, writes: list[str], seconds: float, result: list[str]) -> None:
    """Mark a run as done: what it depended on, wrote and came to, how long it took, and the package versions."""
    outputs = hash_paths(fill(writes, now["parameters"]))
    finished = datetime.now(UTC).isoformat(timespec="milliseconds")
    ends = {"outputs": outputs, "seconds": round(seconds, 1), "finished_at": finished, "versions": versions()}
    ends["result"] = result
    write_json(marker, {**now, **ends})


def read_marker(marker: Path) -> dict:
    """What a marker says; nothing where it is damaged: the run then counts as not done."""
    with suppress(Damaged):
        found = read_json(marker)
        return found if {"parameters", "outputs"} <= found.keys() else {}
    return {}
