"""What is wrong with a notebook's parameters, told before its kernel starts: names of nothing, settings of another run.

Each check reads little and imports little, so that all of them take a second: names in work folders, task.json,
params.json and the first line of tables. What only the data or a model can tell, the notebook's cells tell.
"""

import csv
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from glob import escape
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kagglekit.competition.mounts import mount_root
from kagglekit.competition.text_columns import template_columns
from kagglekit.declared import read_names
from kagglekit.files import Damaged, read_json, resolve, shorten
from kagglekit.learners.joint_check import check_joint, read_tasks
from kagglekit.options import current_names, did_you_mean
from kagglekit.running.arguments import Asked
from kagglekit.running.parameters import Parameter
from kagglekit.runs.run_knobs import PLAIN
from kagglekit.scoring import CLASSES
from kagglekit.scoring.names import split_by
from kagglekit.training.tracking import check_tracker

RUN_FILES = ("params.json", "weights.json")  # a folder with one of them is a run
OTHER_TABLES = (  # not looked into
    *(".parquet", ".json", ".jsonl", ".ndjson", ".zip", ".gz", ".txt", ".dat", ".tab", ".psv"),
)
# params.json has more of these than was given
FILLED_IN = ("budget", "truncation", "swap", "features", "pseudo", "distill", "learner_options")


def check_beforehand(notebook: str, known: dict[str, Parameter], values: Mapping[str, Any]) -> None:
    """Raise FileNotFoundError for a run, file, folder or model that the parameters name and that is not there, and
    ValueError for columns that are not in the tables, for what does not fit the task, and for a run of that name that
    was made with other settings or by another notebook; with what may have been meant."""
    asked = Asked(notebook, known, values)
    for check in CHECKS:
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
    if asked.has("work", "run") and not asked.values.get("files") and not (work / "task.json").is_file():
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
        if not folder.is_dir():
            there = sorted(path.parent.name for file in RUN_FILES for path in asked.work.glob(f"*/{file}"))
            none = "no runs yet" if (asked.work / "task.json").is_file() else "no runs yet: begin with 1_eda"
            meant = did_you_mean(name, there) or f"; {shorten(asked.work)} has {', '.join(there) or none}"
            raise FileNotFoundError(f"{label}={name!r} does not exist{meant}")
        if label in ("start", "soup_of") and not any(next(folder.glob(at), "") for at in ("model/*", "*/model/*")):
            raise ValueError(
                f"{label}={name!r} has no model to begin from: name a run of 2_pretrain, or a fine-tuned one"
            )
    if asked.values.get("full") and not (asked.work / asked.values["run"] / "full").is_dir():
        raise ValueError(f"full: run={asked.values['run']!r} has no model of all rows: run 3_train with full_fit=true")
    if asked.values.get("suite"):
        from kagglekit.ensembling.suite import find_parts  # a second

        find_parts(asked.work, asked.values["run"], asked.values["suite"])
    for name in ("folds", "runs"):
        if twice := [one for one, count in Counter(asked.values.get(name) or []).items() if count > 1]:
            raise ValueError(f"{name}={asked.values[name]!r} names {twice[0]!r} twice")
    if asked.values.get("folds") and (asked.work / "folds.parquet").is_file():
        from kagglekit.runs.tables import choose_folds, read_parquet  # they take half a second

        choose_folds(read_parquet(asked.work / "folds.parquet"), asked.values["folds"])


def check_tasks(asked: Asked) -> None:
    """The work folders of a joint run."""
    if asked.has("tasks", "tricks") and asked.values["tasks"]:
        check_joint(asked.values)


def check_start(asked: Asked) -> None:
    """Runs that are begun from: of the same backbone, and none that has seen what it would be validated on."""
    if asked.values.get("start") and asked.task:
        from kagglekit.runs.initial_weights import find_starts, read_sources  # they take half a second

        start, tasks = asked.values["start"], asked.values.get("tasks") or []
        if "+" in start:
            find_starts(asked.work, start, asked.values["backbone"], asked.values["folds"], tasks)
        else:
            read_sources(asked.work, [start], tasks=tasks)[0].check_name(asked.values["backbone"])


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
    if resolve(name).is_dir():
        if not (resolve(name) / "config.json").is_file():
            raise FileNotFoundError(
                f"backbone={name!r}: {resolve(name)} has no config.json: it is no folder of a model"
            )
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


def check_adapters(asked: Asked) -> None:
    """Adapters against the layers of the backbone, where it is on this machine; and what a backbone of 4 bits needs."""
    values = asked.values
    trained = asked.has("tuning", "lora") and values["learner"] == "finetune" and values["backbone"] not in PLAIN
    if trained and (values["lora"] or values["tuning"] == "qlora"):
        from kagglekit.decoders.lora import check_tuning
        from kagglekit.decoders.packed_weights import PACKED, dense_place
        from kagglekit.model.backbones import backbone_folder, find_backbone, load_config  # torch: some seconds

        name = values["backbone"]
        here = "" if name in PACKED and not dense_place(name).is_dir() else str(backbone_folder(find_backbone(name)))
        known = load_config(here) if Path(here, "config.json").is_file() else None
        check_tuning(values["tuning"], values["lora"] if known else {}, known)


def check_columns(asked: Asked) -> None:
    """Columns that are named, where the first lines of the tables tell."""
    values, columns = asked.values, asked.named("column")
    if asked.has("data"):
        columns += [("template", name) for name in template_columns(values["template"])] if values["template"] else []
        columns += [("metric", split_by(values["metric"] or "")[1])]
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
            lines = list(islice(csv.reader(stream, delimiter=delimiter or kinds[path.suffix.lower()]), count))
    except (OSError, ValueError, csv.Error):
        return []
    return lines if lines and len(lines[0]) > 1 else []


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
        if cell and not (folder / cell).is_file():
            below = () if "/" in cell else folder.rglob(f"{escape(cell)}*")
            if not any(cell in (one.name, one.stem) for one in below):
                raise FileNotFoundError(
                    f"{label}: column {column!r} in row {number} is {cell!r}: there is no such file in {folder} nor "
                    "below it"
                )


def check_task(asked: Asked) -> None:
    """What is learned or blended, against the kind of the task, its classes and its columns of text."""
    if not asked.task:
        return
    values, kind = asked.values, asked.task["kind"]
    if asked.has("learner", "tricks"):
        from kagglekit.selftraining.selftraining_knobs import DistillationOptions, SelfTrainingOptions

        tuned = values["learner"] == "finetune" and values["backbone"] not in PLAIN
        for name, one in (read_tasks(values["tasks"]) or {"": asked.task}).items():
            try:
                recipe, task = _fill_in(asked, one)
                if tuned:
                    recipe.check_task(task)
            except ValueError as error:
                raise ValueError(f"{name}: {error}" if name else str(error)) from None
        for name, options in (("pseudo", SelfTrainingOptions), ("distill", DistillationOptions)):
            if values[name]:
                options(**values[name]).check_kind(kind)
    if asked.has("learn") and values["learn"]:
        from kagglekit.competition.support import class_of
        from kagglekit.runs.record import RunRecord
        from kagglekit.selftraining.selftraining_knobs import LearningOptions

        options = LearningOptions(**values["learn"])
        options.check_run(kind, RunRecord.open(asked.work, values["run"]))
        for name in options.support:
            class_of(SimpleNamespace(**asked.task), name)
    if asked.has("method", "methods"):
        names = ("method", "methods", "calibrate", "thresholds", "cascade")
        if any(values[name] != asked.known[name].default for name in names):
            from kagglekit.ensembling.methods import BlendPlan  # takes a second

            given = {name: values[name] for name in ("method", "calibrate", "thresholds")}
            given |= {"method": "cascade"} if values["cascade"] else {}
            BlendPlan(kind, asked.task["metric"], candidates=values["methods"], **given)


def _fill_in(asked: Asked, task: Mapping[str, Any]) -> tuple[Any, SimpleNamespace]:
    """The recipe of 3_train, filled in for a task.json; and that task."""
    from kagglekit.training.column_knobs import fill_in, fill_in_images
    from kagglekit.training.recipe import Recipe

    task = SimpleNamespace(**dict(pattern=None, text_separator="\n", label_columns=[]) | task)
    task.columns = task.classes if task.kind in CLASSES else task.labels
    recipe = Recipe(**{name: asked.values[name] for name, one in asked.known.items() if one.kind is Recipe})
    return fill_in_images(fill_in(recipe, task), asked.values["work"], asked.values["start"]), task


def check_settings(asked: Asked) -> None:
    """The run of that name: made by the same notebook, with the same settings; of a joint run, in each folder."""
    if asked.has("work", "run") and asked.values["run"]:
        for work, task in (read_tasks(asked.values.get("tasks", [])) or {asked.work: asked.task}).items():
            _check_settings(asked, resolve(work) / asked.values["run"], task)


def _check_settings(asked: Asked, folder: Path, task: Mapping[str, Any]) -> None:
    values = asked.values
    if not folder.is_dir():
        return
    if asked.has("method", "methods"):
        trained = (folder / "params.json").is_file() and not (folder / "weights.json").is_file()
        if trained or values["run"] in values["runs"]:
            raise ValueError(
                f"run={values['run']!r} is a trained run, or one of those blended: give the blend another name"
            )
    if not asked.has("overwrite"):
        return
    if (folder / "weights.json").is_file() and not (folder / "params.json").is_file():
        raise ValueError(f"run={values['run']!r} is a blend of 4_ensemble, and stays as it is: name another run=")
    begun = len([path for path in folder.iterdir() if not path.name.startswith(".")]) > 1
    if values["overwrite"] or not begun or not (folder / "params.json").is_file():
        return
    from kagglekit.runs.record import RunRecord, name_start  # pandas takes a third of a second, and most runs are new

    recipe = current_names(read_json(folder / "params.json").get("recipe", {}))
    if folder.parent != asked.work:
        values = values | {"start": name_start(values["work"], values["start"])}
    if ("objective" in recipe) != asked.has("objective"):
        theirs = "2_pretrain" if "objective" in recipe else "3_train"
        raise ValueError(f"run={values['run']!r} is a run of {theirs}: name another run=")
    filled = _fill_in(asked, task)[0].as_dict() if task and asked.has("learner", "tricks") else {}
    lost = RunRecord(folder).lost_seeds(values["seeds"]) if asked.has("seeds") else []
    if changed := [*_changed(recipe, values | filled), *lost]:
        raise ValueError(
            f"{shorten(folder)} was made with other settings: {'; '.join(changed)}. Name another run=, or say "
            "overwrite=True to delete it and begin again"
        )


def _changed(recipe: Mapping[str, Any], values: Mapping[str, Any]) -> Iterable[str]:
    """How values differ from the recipe of params.json, in words; of what is filled in, what was given."""
    for name in (one for one in recipe if one in values):
        was, now = recipe[name], values[name]
        if name in FILLED_IN and was and now:
            now = {"columns": now} if name == "swap" and isinstance(now, list) else now
            if isinstance(was, dict) and isinstance(now, dict) and {**was, **now} == was:
                continue
        if was != now and name != "seeds" and not (name == "learner_options" and not now):
            yield f"{name} was {was!r} and is {now!r}"


def _near(path: str) -> str:
    """What may have been meant by a path: a name in the same folder."""
    place = resolve(path)
    return did_you_mean(place.name, [one.name for one in place.parent.iterdir()]) if place.parent.is_dir() else ""


CHECKS = (
    *(check_places, check_tasks, check_data, check_runs, check_start, check_files),
    *(check_backbone, check_adapters, check_report, check_columns, check_pairs, check_images),
    *(check_task, check_settings),
)
