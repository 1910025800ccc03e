"""Fetch the output of kernels, whole or not at all, and merge its runs into the runs of the work folder."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from kagglekit.competition.task import encode_labels, load_task, read_test, read_train
from kagglekit.files import check_space, read_json, replacing, resolve, write_json
from kagglekit.kaggle.bundle import show_size
from kagglekit.kaggle.client import FAILED, KaggleError, asked, connect, read_log, status
from kagglekit.kaggle.metadata import Ref
from kagglekit.runs.folder import score_run
from kagglekit.runs.merge import find_works, merge_runs, plan_merge
from kagglekit.runs.tables import read_folds, read_run

OUTPUTS, LOGS = "kaggle/outputs", "kaggle/logs"  # in the work folder
EXECUTED = ("__notebook__.ipynb",)  # the notebook with its outputs, as Kaggle names it


def pull(refs: Sequence[Ref | str], work: str | Path, api=None) -> list[Path]:
    """Fetch the output of kernels and merge its runs into the work folder: folds trained in several kernels become one
    run, see `merge_runs`. Returns the folders of the runs that got something.

    Each output goes to WORK/kaggle/outputs/OWNER/SLUG (its runs are moved out of there), the log to
    WORK/kaggle/logs/OWNER/SLUG.log and the executed notebook to WORK/notebooks/SLUG.ipynb. A kernel that failed is
    fetched too: its finished folds and checkpoints count. All outputs are checked before the first run is moved.
    Scores of runs that got folds are computed again where the competition's files are at home.
    Raises KaggleError for a kernel that still runs, and ValueError for runs that do not fit those at home.
    """
    api, work, fetched = api or connect(), resolve(work), []
    for ref in [Ref.parse(str(ref)).bare for ref in refs]:
        now = status(ref, api)
        if now.state not in ("complete", *FAILED):
            raise KaggleError(
                f"kernel {ref} is {now}: wait until it has run, `python -m kagglekit.kaggle status --wait`"
            )
        if now.state in FAILED:
            print(f"{ref} ended as {now}: what it has finished is fetched", flush=True)
        fetched.append(_fetch(api, ref, work))
    test_ids = _test_ids(work)
    for folder in fetched:
        for source in _works(folder, work):
            plan_merge(source, work, test_ids)
    came: dict[str, list[int]] = {}
    for folder in fetched:
        for source in _works(folder, work):
            for run, folds in merge_runs(source, work, copy=False, test_ids=test_ids).items():
                came[run] = [*came.get(run, []), *folds]
    for run, folds in came.items():
        print(f"{work / run}: {f'folds {sorted(folds)}' if folds else 'unfinished, or without folds'}", flush=True)
    if test_ids is not None:
        _score(work, [run for run, folds in came.items() if folds])
    return [work / run for run in came]


def _fetch(api, ref: Ref, work: Path) -> Path:
    """All output files of a kernel, in the folder that is returned; an older one is replaced when all are there."""
    place = work / OUTPUTS / ref.owner / ref.slug
    with replacing(place) as part:
        part.mkdir(parents=True)
        log, number = "", 0
        for name, url, said in _listed(api, ref):
            log = said or log
            if name:
                number += 1
                size = _download(url, part / name, f"{ref}: {name}")
                print(f"{ref}: {number}. {name}, {show_size(size)}", flush=True)
    with replacing(work / LOGS / ref.owner / f"{ref.slug}.log") as part:
        part.write_text(read_log(log), encoding="utf-8")
    executed = next((place / name for name in (*EXECUTED, f"{ref.slug}.ipynb") if (place / name).is_file()), None)
    if executed:
        with replacing(work / "notebooks" / f"{ref.slug}.ipynb") as part:
            shutil.copyfile(executed, part)
    return place


def _listed(api, ref: Ref) -> Iterator[tuple[str, str, str]]:
    """Name, URL and log for each output file, page after page, since URLs expire; the name is "" for the log alone.

    The client's own kernels_output writes error pages as files, and trusts file names that lead elsewhere.
    """
    from kagglesdk.kernels.types.kernels_api_service import ApiListKernelSessionOutputRequest

    def page(token: str):
        request = ApiListKernelSessionOutputRequest()
        request.user_name, request.kernel_slug, request.page_size, request.page_token = ref.owner, ref.slug, 100, token
        with api.build_kaggle_client() as kaggle:
            return kaggle.kernels.kernels_api_client.list_kernel_session_output(request)

    token = ""
    while True:
        answer = asked(lambda token=token: page(token), f"output of {ref}")
        for file in answer.files or []:
            path = PurePosixPath(file.file_name)
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise KaggleError(f"{ref}: the output {file.file_name!r} would lie outside of the folder: not fetched")
            yield str(path), file.url, answer.log
        yield "", "", answer.log
        token = answer.next_page_token
        if not token:
            return


def _download(url: str, file: Path, what: str) -> int:
    """Fetch a file, from the start again when the connection breaks, and return its size in bytes."""
    import requests

    def fetch() -> int:
        with requests.get(url, stream=True, timeout=(30, 300)) as answer:
            answer.raise_for_status()
            expected = int(answer.headers.get("Content-Length") or 0)
            check_space(file.parent, expected)
            file.parent.mkdir(parents=True, exist_ok=True)
            with open(file, "wb") as stream:
                for chunk in answer.iter_content(1 << 20):
                    stream.write(chunk)
        size = file.stat().st_size
        if expected and size < expected and "Content-Encoding" not in answer.headers:
            raise requests.ConnectionError(f"{size:,} of {expected:,} bytes came")
        return size

    return asked(fetch, what)


def _works(folder: Path, work: Path) -> list[Path]:
    """The work folders in an output whose runs belong into `work`: the one of its name where there are several."""
    found = find_works(folder)
    if len(found) > 1 and not (found := [place for place in found if place.name == work.name]):
        names = ", ".join(str(place.relative_to(folder)) for place in find_works(folder))
        raise ValueError(f"{folder} has runs of several work folders ({names}) and none is called {work.name}")
    return found


def _test_ids(work: Path) -> list[str] | None:
    """The ids of test; None where the competition's files are not at home."""
    try:
        return read_test(load_task(work))["id"].tolist()
    except FileNotFoundError:
        return None


def _score(work: Path, runs: Sequence[str]) -> None:
    """Write score.json of runs that have more folds than it lists."""
    task = load_task(work)
    train, test = read_train(task), read_test(task)
    labels, folds = encode_labels(task, train), read_folds(work, train["id"])
    for name in runs:
        run, file = read_run(work, name, task, folds, test["id"]), work / name / "score.json"
        if not file.is_file() or len(read_json(file).get("folds", [])) != len(run.folds):
            scores = score_run(run, task, labels, pd.Series(folds["group"]).to_numpy())
            write_json(file, scores)
            print(f"{name}: {task.metric} {scores['score']:.4f} ± {scores['standard_error']:.4f}, folds {run.folds}")
