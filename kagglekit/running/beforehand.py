"""What is wrong with a notebook's parameters, told before its kernel starts: names of nothing, settings of another run.

Each check reads little and imports little, so that all of them take a second: names in work folders, task.json,
params.json and the first line of tables. What only the data or a model can tell, the notebook's cells tell.
"""

import csv
import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from kagglekit.competition.mounts import is_below, mount_root, why_no_model
from kagglekit.competition.text_columns import template_columns
from kagglekit.declared import read_names
from kagglekit.files import Damaged, resolve, shorten
from kagglekit.options import did_you_mean
from kagglekit.running.arguments import Asked
from kagglekit.running.contradictions import (
    check_adapters,
    check_learning,
    check_settings,
    check_start,
    check_task,
    check_tasks,
)
from kagglekit.running.parameters import Parameter
from kagglekit.runs.run_knobs import PLAIN
from kagglekit.runs.tracking import check_tracker
from kagglekit.scoring.names import split_by

RUN_FILES = ("params.json", "weights.json")  # a folder with one of them is a run
# not looked into
OTHER_TABLES = (".parquet", ".json", ".jsonl", ".ndjson", ".zip", ".gz", ".txt", ".dat", ".tab", ".psv")


def check_beforehand(
    notebook: str,
    known: dict[str, Parameter],
    values: Mapping[str, Any],
    comes: Callable[[Path], bool] | None = None,
    without: Collection[Callable[[Asked], None]] = (),
) -> None:
    """Raise FileNotFoundError for a run, file, folder or model that the parameters name and that is not there, and
    ValueError for columns that are not in the tables, for what does not fit the task, and for a run of that name that
    was made with other settings or by another notebook; with what may have been meant. comes: of a step of a kernel,
    see `Asked`. without: checks of this machine, where the notebook runs on another."""
    asked = Asked(notebook, known, values, comes)
    for check in (one for one in CHECKS if one not in without):
        try:
            check(asked)
        except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
            if isinstance(error, Damaged) or str(error).startswith(f"{notebook}: "):
                raise
            raise type(error)(f"{notebook}: {error}") from None


def check_places(asked: Asked) -> None:
    """The work folder, and the place of the run in it."""
    work, run = asked.work, asked.values.get("run", "")
    if work.is_file():
        raise ValueError(f"work={asked.values['work']!r} is a file: name a folder")
    if run and (work / run).is_file():
        raise ValueError(f"{work / run} is a file: give the run another name")
    there = (work / "task.json").is_file() or asked.awaits("task.json")
    if asked.has("work", "run") and not asked.values.get("files") and not there:
        there = [path.parent.name for path in work.parent.glob("*/task.json")]
        meant = did_you_mean(work.name, there).replace("did you mean ", f"did you mean work={shorten(work.parent)}/")
        raise FileNotFoundError(
            f"work={asked.values['work']!r} has no task.json{meant or ': run 1_eda first, with the same work='}"
        )


def check_data(asked: Asked) -> None:
    """The folder of the competition, or the name of a sample."""
    data, samples = asked.values.get("data", ""), read_names("samples.py", "SAMPLES")
    if not asked.has("data") or resolve(data).is_dir() or data in samples or mount_root().is_dir():
        return
    if resolve(data).exists():
        raise ValueError(f"data={data!r} is a file: name the folder that it is in")
    meant = did_you_mean(data, samples) or _near(data) or f": the samples are {', '.join(samples)}"
    raise FileNotFoundError(f"data={data!r} is neither a folder nor a sample{meant}")


def check_runs(asked: Asked) -> None:
    """Runs that are named: there, with a model where one is begun from, and each once."""
    for label, name in asked.named("run"):
        folder = resolve(name) if "/" in name else asked.work / name
        if asked.awaits(name):
            continue
        if not folder.is_dir():
            there = sorted(path.parent.name for file in RUN_FILES for path in asked.work.glob(f"*/{file}"))
            none = "no runs yet" if (asked.work / "task.json").is_file() else "no runs yet: begin with 1_eda"
            meant = did_you_mean(name, there) or f"; {shorten(asked.work)} has {', '.join(there) or none}"
            more = "; a kernel has what is here, what its earlier steps make, and what is attached (--kernel)"
            raise FileNotFoundError(f"{label}={name!r} does not exist{meant}{more * (asked.comes is not None)}")
        if label in ("start", "soup_of") and not any(next(folder.glob(at), "") for at in ("model/*", "*/model/*")):
            raise ValueError(
                f"{label}={name!r} has no model to begin from: name a run of 2_pretrain, or a fine-tuned one"
            )
    run = asked.values.get("run", "")
    if asked.values.get("full") and not (asked.work / run / "full").is_dir() and not asked.awaits(run):
        raise ValueError(f"full: run={asked.values['run']!r} has no model of all rows: run 3_train with full_fit=true")
    if asked.values.get("suite"):
        from kagglekit.ensembling.suite import find_parts  # a second

        find_parts(asked.work, asked.values["run"], asked.values["suite"])
    for name in ("folds", "runs"):
        if twice := [one for one, count in Counter(asked.values.get(name) or []).items() if count > 1]:
            raise ValueError(f"{name}={asked.values[name]!r} names {twice[0]!r} twice")
    known = (asked.work / "folds.parquet").is_file() and not asked.awaits("folds.parquet")
    if asked.values.get("folds") and known:
        from kagglekit.runs.tables import choose_folds, read_parquet  # they take half a second

        choose_folds(read_parquet(asked.work / "folds.parquet"), asked.values["folds"])


def check_files(asked: Asked) -> None:
    """Files and folders that are named, those of models and of a competition among them."""
    paths, data = asked.named("file"), asked.values.get("data", "")
    if asked.has("data", "join") and resolve(data).is_dir():
        files = [(role, asked.values[role]) for role in ("train", "test", "sample")]
        files += [("join", file) for file in asked.values["join"]]
        paths += [(label, f"{data}/{file}") for label, file in files if file]
    paths += [(label, name) for label, name in asked.named("model") if name.startswith(("/", "./", "../"))]
    for label, name in paths:
        if not resolve(name).exists():
            raise FileNotFoundError(f"{label}={name!r} does not exist: there is no {resolve(name)}{_near(name)}")


def check_report(asked: Asked) -> None:
    """The package of the tracker."""
    if asked.has("report_to"):
        check_tracker(asked.values["report_to"])


def check_backbone(asked: Asked) -> None:
    """The backbone: a folder with a model, a name of the catalogue, or one that the hub may have."""
    name = asked.values.get("backbone", "")
    listed = (*PLAIN, *read_names("model/catalogue.py", "BACKBONES"))
    if not asked.has("backbone") or name in listed or mount_root().is_dir():
        return
    if resolve(name).is_dir() or name.endswith(".gguf"):
        if why := why_no_model(resolve(name)):
            raise FileNotFoundError(f"backbone={name!r}: {resolve(name)} {why}")
        return
    if name.count("/") > 1 or name.startswith("~") or (name.count("/") and resolve(name).parent.is_dir()):
        raise FileNotFoundError(f"backbone={name!r}: there is no folder {resolve(name)}{_near(name)}")
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    if (Path(os.environ.get("HF_HUB_CACHE", home / "hub")) / f"models--{name.replace('/', '--')}").is_dir():
        return
    meant = did_you_mean(name.rsplit("/", 1)[-1], listed)
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise FileNotFoundError(f"backbone={name!r} is not in the cache of the hub, and HF_HUB_OFFLINE is set{meant}")
    if "/" not in name and meant and not any(name.startswith(f"{one}-") for one in listed):  # distilroberta-base
        raise FileNotFoundError(f"backbone={name!r} is neither a folder nor in the catalogue or the cache{meant}")


def check_columns(asked: Asked) -> None:
    """Columns that are named, where the first lines of the tables tell."""
    values, columns = asked.values, asked.named("column")
    if asked.has("data"):
        columns += [("template", name) for name in template_columns(values["template"])] if values["template"] else []
        columns += [("metric", name) for name in split_by(values["metric"] or "")[1].split(",")]
        place, found = resolve(values["data"]), []
        tables = [path for path in sorted(place.glob("*")) if path.suffix.lower() in (".csv", ".tsv", *OTHER_TABLES)]
        if not values["join"] and place.is_dir():
            found = [read_header(path, values["delimiter"]) for path in tables]
        headers = {values["data"]: list(dict.fromkeys(name for one in found for name in one))} if all(found) else {}
    else:
        measures = read_names("ensembling/stack_features.py", "MEASURES")
        columns += [("meta", name) for name in values.get("meta") or () if name not in measures]
        headers = _headers_of(asked.task)
    for label, name in columns:
        if not name or (label == "budget" and asked.has("swap")):  # checked with the task
            continue
        for file, names in headers.items():
            both = file != "test" or label.startswith(("features", "meta", "learn: support"))
            case = str if not asked.has("data") or label.startswith("support") else str.casefold  # 1_eda: in any case
            if names and both and case(name.strip()) not in {case(one.strip()) for one in names}:
                meant = did_you_mean(name, names) or f"; it has {', '.join(names[:12])}{', ...' if names[12:] else ''}"
                raise ValueError(f"{label}: {file} has no column {name!r}{meant}")


def _headers_of(task: Mapping[str, Any]) -> dict[str, list[str]]:
    """train and test -> their columns by the names of a task, as far as the first lines tell."""
    if not task or task.get("reading", {}).get("join"):
        return {}
    found = {}
    for what in ("train", "test"):
        names = read_header(Path(task["data"]) / task["files"][what], task.get("reading", {}).get("delimiter"))
        found[what] = [task.get("renamed", {}).get(what, {}).get(name, name) for name in names]
    return found


def read_header(path: Path, delimiter: str | None = None) -> list[str]:
    """The columns of a CSV or TSV in UTF-8; none where only the whole file would tell."""
    return next(iter(_first_lines(path, delimiter, 1)), [])


def _first_lines(path: Path, delimiter: str | None, count: int) -> list[list[str]]:
    """The header of a table and the rows behind it, so many lines in all; none where `read_header` has none."""
    kinds = {".csv": ",", ".tsv": "\t"}
    if path.suffix.lower() not in kinds:
        return []
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            rows = csv.reader(stream, delimiter=delimiter or kinds[path.suffix.lower()])
            header, *lines = islice(rows, max(2, count))
    except (OSError, ValueError, csv.Error):
        return []
    title = {"", "#"} & {*header[1:], "".join(header)[:1]} or any(len(row) != len(header) for row in lines)
    return [] if title or len(header) < 2 else [header, *lines][:count]


def check_pairs(asked: Asked) -> None:
    """The tables that 2_pretrain reads: the columns of texts and of pairs, and the first images."""
    if not asked.has("objective", "pairs"):
        return
    values, tables = asked.values, []
    pairs, of_images = values["pairs"], values["objective"] == "itc_itm"
    if of_images and not pairs:
        raise ValueError('objective="itc_itm" reads texts with images: name a table of them, pairs="posts.csv"')
    both = values["pair_columns"] or read_names("pretraining/image_text.py", "COLUMNS")
    if pairs:
        tables = [("pair_columns", pairs, both) if of_images else ("pairs", pairs, ("anchor", "positive"))]
    for label, file, columns in [*tables, *(("text_column", one, [values["text_column"]]) for one in values["texts"])]:
        names = read_header(resolve(file))
        for name in (part for one in columns for part in ([one] if one in names else one.split("+"))):
            if names and name not in names:
                meant = did_you_mean(name, names) or f"; it has {', '.join(names)}"
                raise ValueError(f"{label}: {file} has no column {name!r}{meant}")
    if of_images:
        _check_images(pairs, resolve(pairs), both[1], resolve(pairs).parent)


def check_images(asked: Asked) -> None:
    """The first images beside the texts of a task."""
    column = asked.values["features"].get("images") if asked.has("features") and asked.task else ""
    for what, names in _headers_of(asked.task).items() if column else ():
        place = Path(asked.task["data"])
        delimiter = asked.task.get("reading", {}).get("delimiter")
        _check_images(f"features: images: {what}", place / asked.task["files"][what], column, place, delimiter, names)


def _check_images(
    label: str, path: Path, column: str, folder: Path, delimiter: str | None = None, names: Sequence[str] = ()
) -> None:
    """The files that the first three rows of a table name: below `folder`, see `find_images`. names: of its columns."""
    header, *rows = _first_lines(path, delimiter, 4) or [[]]
    place = list(names or header).index(column) if header else 0
    for number, cells in enumerate(rows, start=1):
        cell = cells[place].strip() if place < len(cells) else ""
        if cell and not is_below(folder, cell):
            raise FileNotFoundError(
                f"{label}: column {column!r} in row {number} is {cell!r}: there is no such file in {folder} nor "
                "below it"
            )


def _near(path: str) -> str:
    """What may have been meant by a path: a name in the same folder."""
    place = resolve(path)
    return did_you_mean(place.name, [one.name for one in place.parent.iterdir()]) if place.parent.is_dir() else ""


CHECKS = (
    *(check_places, check_tasks, check_data, check_runs, check_start, check_files),
    *(check_backbone, check_adapters, check_report, check_columns, check_pairs, check_images),
    *(check_task, check_learning, check_settings),
)
