"""Build what travels: the folders of kernels and of the data set they read, and what one step on a cluster needs."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kagglekit.competition.tables import existing_files
from kagglekit.files import read_json, remove, replacing, resolve, temporary_folder, write_json
from kagglekit.kaggle.bundle import BUNDLE_FILE, pack
from kagglekit.kaggle.cells import Step, make_notebook, refuse
from kagglekit.kaggle.cells import parse_steps as parse_steps
from kagglekit.kaggle.metadata import KERNEL_FILE, Ref, kernel_metadata, slugify
from kagglekit.kaggle.pack_inputs import LEARNERS, Inputs, moved_knobs, moved_params
from kagglekit.model.catalogue import PACKAGES, SOURCES, cached_folder
from kagglekit.options import check_range
from kagglekit.running import nbformat
from kagglekit.running.arguments import names_in
from kagglekit.running.beforehand import check_backbone, check_beforehand, check_data, check_images, check_report
from kagglekit.runs.run_knobs import without_full

HOURS = 11.5  # of the 12 that a session has


@dataclass(frozen=True)
class Built:
    """Folders to push. bundle: the data set that the kernels read; None where they read only what is mounted."""

    kernels: list[Path]
    bundle: Path | None


def build(
    steps: Sequence[Step],
    place: str | Path,
    owner: str,
    slug: str = "",
    *,
    competition: str = "",
    each_fold: bool = False,
    gpu: str = "NvidiaTeslaT4",
    internet: bool = False,
    hours: float | None = None,
    datasets: Sequence[str] = (),
    kernels: Sequence[str] = (),
    models: Sequence[str] = (),
    title: str = "",
    wheels: str = "",
) -> Built:
    """Make `place`/SLUG, the kernel that runs the steps, and `place`/SLUG-inputs, the data set that they read.

    slug: by default made of the title, else of the work folder and the last step. competition: the slug whose files the
    kernel reads; "": a data set has them. each_fold: a kernel for each fold (SLUG-fold0, ...), which share the data
    set. gpu: a machine_shape; "": a CPU. hours: when training stops by itself, counted from the start of the kernel;
    None: 11.5 of the 12 (most code competitions allow 9); 0: never. datasets, kernels, models: further sources, as
    owner/slug[/version], a model as its five parts. wheels: the data set that the kernel installs from, by default
    OWNER/kagglekit-wheels, see `wheels_folder`.
    An older build of this slug is replaced, whole or not at all. Weights are linked, not copied.
    Raises FileNotFoundError and ValueError, before anything is packed, for what a step reads and is not here, and for
    settings that do not fit, see `check_steps`.
    """
    if not (competition or datasets or kernels):
        raise ValueError(
            "the kernel reads the competition's files: say competition= its slug on Kaggle (--competition bbc-news), "
            "or attach a data set that has them (--dataset)"
        )
    check_range("competition", competition, slugify(competition) == competition, "the slug, as in its address")
    check_range("hours", hours, hours is None or hours >= 0, "0 (never stop) or more")
    place = resolve(place)
    hours = HOURS if hours is None else hours
    steps = [step if "hours" in step.parameters else step.with_values(hours=hours) for step in steps]
    slug, folds = slug or slugify(title) or _default_slug(steps), find_folds(steps)
    if each_fold:
        _check_each_fold(steps)
    ends = [f"-fold{fold}" for fold in folds] if each_fold else [""]
    for name in (*(slug + end for end in ends), f"{slug}-inputs"):
        check_range("slug", name, slugify(name) == name and 6 <= len(name) <= 50, "6 to 50 of a-z, 0-9 and -")
    check_steps(steps, kernels, [*datasets, *models])
    wheels, bundle = wheels or f"{owner}/kagglekit-wheels", Ref.parse(f"{owner}/{slug}-inputs")
    with temporary_folder() as scratch, ExitStack() as stack:
        inputs = Inputs(steps, competition, scratch)
        options = {
            "gpu": gpu,
            "internet": internet,
            "competitions": [competition] if competition else [],
            "datasets": [wheels, *([bundle] if inputs.files else []), *datasets],
            "kernels": kernels,
            "models": models,
        }
        for end in ends:
            name, own = slug + end, inputs.steps
            if each_fold:
                own = [step.with_values(folds=[int(end.removeprefix("-fold"))]) for step in own]
                own = [step if end == ends[0] else step.with_values(**without_full(step.values)) for step in own]
            parallel = bool(gpu) and not each_fold and len(folds) > 1
            notebook = make_notebook(own, competition, gpu, internet, wheels, parallel)
            titled = title + end.replace("-", " ") if title else ""
            part = stack.enter_context(replacing(place / name, KERNEL_FILE))
            part.mkdir()
            nbformat.write(notebook, part / f"{name}.ipynb")
            metadata = kernel_metadata(f"{owner}/{name}", titled, f"{name}.ipynb", **options)
            write_json(part / KERNEL_FILE, metadata, plain=True)
        folder = pack(inputs.files, place / bundle.slug, bundle, **inputs.record) if inputs.files else None
    if folder is None and (place / bundle.slug / BUNDLE_FILE).is_file():
        remove(place / bundle.slug)  # of an older build, and not read any more
    return Built([place / (slug + end) for end in ends], folder)


def check_steps(steps: Sequence[Step], kernels: Sequence[str] = (), sources: Sequence[str] = ()) -> None:
    """Raise ValueError and FileNotFoundError for what `kagglekit run` would refuse before each step, and for what no
    kernel can run.

    kernels: attached, whose runs need not be here. sources: that may have the backbone."""
    made: set[Path] = set()
    elsewhere = [check_data, check_images, check_report]  # files and packages of there
    elsewhere += [check_backbone] if sources else []
    for step in steps:
        refuse(step)
        check_beforehand(
            step.notebook,
            step.known,
            step.values,
            lambda path, made=frozenset(made): path in made or (bool(kernels) and not path.exists()),
            elsewhere,
        )
        made |= step.writes


def find_folds(steps: Sequence[Step]) -> list[int]:
    """The folds that the last step with `folds` trains; in a kernel that makes them first, as many as it makes."""
    trained = [step.values["folds"] for step in steps if "folds" in step.known]
    made = [step.values["n_folds"] for step in steps if "n_folds" in step.known]
    file = resolve(steps[0].work) / "folds.parquet"
    if not trained:
        return []
    if made or not file.is_file():
        return trained[-1] or list(range(made[0] if made else 0))
    from kagglekit.files.parquet import read_parquet
    from kagglekit.runs.tables import choose_folds

    return choose_folds(read_parquet(file), trained[-1])


def _check_each_fold(steps: Sequence[Step]) -> None:
    other = [step.notebook for step in steps if step.notebook not in ("1_eda", *LEARNERS)]
    if other or not find_folds(steps):
        raise ValueError(
            f"each_fold makes a kernel for each fold of 3_train or 2_pretrain, and "
            f"{other[0] if other else steps[-1].notebook} has no folds of its own: build that kernel by itself"
        )


def _default_slug(steps: Sequence[Step]) -> str:
    """From the work folder and the last step's run: "bbc-base"."""
    last = steps[-1]
    made = "submit" if last.notebook == "5_submit" else ""
    name = slugify(" ".join([resolve(last.work).name, last.values.get("run", last.notebook), made]))
    return name if len(name) > 5 else f"kernel-{name}"


@dataclass(frozen=True)
class Parcel:
    """What a step reads, for another machine that has nothing. files: place there -> file here, those of the
    competition below data/. given: the parameters there. home: a path there -> as it was typed here."""

    files: dict[str, Path]
    given: dict[str, Any]
    home: dict[str, str]

    def at_home(self, params: dict[str, Any]) -> dict[str, Any]:
        """The params.json of a run that was written there, with the paths of here."""
        return moved_params(params, lambda values: moved_knobs(values, lambda text: self.home.get(text, text)))


def pack_step(notebook: Path, given: dict[str, Any], run: Path, scratch: Path) -> Parcel:
    """The parcel of a notebook with these parameters, whose run may have been begun here, in the folder `run`; the
    folds of it are left out. scratch: a folder for files that are rewritten.

    Raises FileNotFoundError and ValueError as `Inputs` does.
    """
    step = Step(notebook.stem, given, notebook.parent)
    if step.values.get("features", {}).get("images"):
        raise ValueError("features: images stay on this machine: train the run here, without Ray")
    inputs = Inputs([step], "", scratch)
    task = read_json(inputs.work / "task.json")
    for file in existing_files(task["data"], task["files"].values()):
        inputs.files[f"data/{file.relative_to(task['data']).as_posix()}"] = file
    for file in sorted((inputs.work / "tokens").glob("*.npz")):
        inputs.files[inputs.places.of(file)] = file
    for _, name in names_in(step.known, step.values, "model"):
        inputs.files |= cached_model(name)
    if (run / "params.json").is_file():
        params = moved_params(read_json(run / "params.json"), inputs.places.moved_knobs)
        inputs.rewrite(run / "params.json", params)
    inputs.files[f"notebooks/{notebook.name}"] = notebook
    typed = [name for kind in ("model", "file", "run") for _, name in names_in(step.known, step.values, kind)]
    return Parcel(inputs.files, inputs.steps[0].parameters, {inputs.places.moved(name): name for name in typed})


def cached_model(name: str) -> dict[str, Path]:
    """The files of a model in the cache of the hub, as they stand in a cache below hub/; none of any other."""
    if name in PACKAGES or resolve(name).exists():
        return {}
    snapshot = cached_folder(SOURCES.get(name, name))
    if snapshot is None:
        return {}
    model = snapshot.parents[1]
    found = [path for path in (*model.glob("refs/*"), *snapshot.rglob("*")) if path.is_file()]
    return {f"hub/{model.name}/{path.relative_to(model).as_posix()}": path for path in found}
