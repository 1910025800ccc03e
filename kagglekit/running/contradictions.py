"""What does not fit together: parameters against the task, the backbone, the runs begun from, and the run of that name.

Part of `beforehand`: task.json and params.json tell, before a kernel starts.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kagglekit.files import read_json, resolve, shorten
from kagglekit.learners.joint_check import check_joint, read_tasks
from kagglekit.options import current_names
from kagglekit.running.arguments import Asked
from kagglekit.runs.run_knobs import PLAIN
from kagglekit.scoring import CLASSES

# params.json has more of these than was given
FILLED_IN = ("budget", "truncation", "swap", "features", "pseudo", "distill", "learner_options")


def check_tasks(asked: Asked) -> None:
    """The work folders of a joint run."""
    if asked.has("tasks", "tricks") and asked.values["tasks"]:
        check_joint(asked.values)


def check_start(asked: Asked) -> None:
    """Runs that are begun from: of the same backbone, and none that has seen what it would be validated on."""
    if asked.values.get("start") and asked.task:
        from kagglekit.runs.initial_weights import find_starts, read_sources  # they take half a second
        from kagglekit.runs.record import split_start

        start, tasks = asked.values["start"], asked.values.get("tasks") or []
        if asked.awaits(*split_start(start)):
            return
        if "+" in start:
            find_starts(asked.work, start, asked.values["backbone"], asked.values["folds"], tasks)
        else:
            read_sources(asked.work, [start], tasks=tasks)[0].check_name(asked.values["backbone"])


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
    if asked.has("method", "methods"):
        names = ("method", "methods", "calibrate", "thresholds", "cascade")
        if any(values[name] != asked.known[name].default for name in names):
            from kagglekit.ensembling.methods import BlendPlan  # takes a second

            given = {name: values[name] for name in ("method", "calibrate", "thresholds")}
            given |= {"method": "cascade"} if values["cascade"] else {}
            BlendPlan(kind, asked.task["metric"], candidates=values["methods"], **given)


def check_learning(asked: Asked) -> None:
    """What a run learns from test, against the task and the run; for a kernel, that the replay here said it helps."""
    if asked.has("learn") and asked.values["learn"]:
        from kagglekit.competition.support import check_support
        from kagglekit.runs.record import RunRecord
        from kagglekit.selftraining.selftraining_knobs import LearningOptions

        options, record = LearningOptions(**asked.values["learn"]), RunRecord.open(asked.work, asked.values["run"])
        if asked.task and not asked.awaits(asked.values["run"]):
            options.check_run(asked.task["kind"], record)
            if options.support:
                task = SimpleNamespace(**{"layout": "", "label_columns": []} | asked.task)
                check_support(task, options.support, options.column)
        if asked.comes is not None:
            options.check_replay(asked.task.get("metric", ""), record)


def _fill_in(asked: Asked, task: Mapping[str, Any]) -> tuple[Any, SimpleNamespace]:
    """The recipe of 3_train, filled in for a task.json; and that task."""
    from kagglekit.runs.record import split_start
    from kagglekit.training.column_knobs import fill_in, fill_in_images
    from kagglekit.training.recipe import Recipe

    task = SimpleNamespace(**dict(pattern=None, text_separator="\n", label_columns=[]) | task)
    task.columns = task.classes if task.kind in CLASSES else task.labels
    recipe = Recipe(**{name: asked.values[name] for name, one in asked.known.items() if one.kind is Recipe})
    recipe = fill_in(recipe, task)
    known = not asked.awaits(*split_start(asked.values["start"]))
    return fill_in_images(recipe, asked.values["work"], asked.values["start"]) if known else recipe, task


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
