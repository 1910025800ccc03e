"""Kernels and data sets go to Kaggle: looked at first, waited for, and what the client lets pass is an error."""

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from kagglekit.files import resolve
from kagglekit.kaggle.client import KaggleError, asked, connect
from kagglekit.kaggle.lint import lint_all, show
from kagglekit.kaggle.metadata import DATASET_FILE, Ref, read_dataset_metadata, read_kernel_metadata
from kagglekit.kaggle.pushed import Pushed as Pushed
from kagglekit.kaggle.pushed import hash_content, pin, read_records, remember
from kagglekit.kaggle.sessions import ENDED
from kagglekit.kaggle.sessions import status as status
from kagglekit.kaggle.sessions import wait as wait

KINDS = ("dataset", "competition", "kernel", "model")


def push(folders: Sequence[str | Path], message: str = "", *, every: float = 10.0, api=None) -> list[Pushed]:
    """Push data sets, then kernels; a kernel that takes the output of another one of them waits until that has run,
    and one that is more than Kaggle runs of a user at a time (two with GPUs) until one of them has.

    message: of the versions of data sets. every: seconds between two looks at what is waited for.
    Raises ValueError for a folder that `lint` finds an error in, before anything is sent, and KaggleError.
    """
    folders = [resolve(folder) for folder in folders]
    _lint(folders)
    api, done = api or connect(), []
    datasets = [folder for folder in folders if (folder / DATASET_FILE).is_file()]
    left = {_id(read_kernel_metadata(folder)): folder for folder in folders if folder not in datasets}
    order = _sort(left)
    for folder in datasets:
        done.append(_send_dataset(api, folder, message, every, 3600))
    for ref in order:
        if before := _takes(left[ref], order[: order.index(ref)]):
            wait(before, every, api=api)
        done.append(_send_when_free(api, left[ref], order[: order.index(ref)], every))
    return done


def push_dataset(
    folder: str | Path, message: str = "", *, every: float = 10.0, limit: float = 3600.0, api=None
) -> Pushed:
    """Make a private data set of a folder, or its next version, and wait until Kaggle has it ready (at most `limit` s).

    Where Kaggle has the same files already, nothing is sent: `.pushed.json` beside the folder remembers. It is written
    when all is done, so that a push that broke off begins anew. Raises ValueError for what `lint` finds, KaggleError.
    """
    folder = resolve(folder)
    _lint([folder])
    return _send_dataset(api or connect(), folder, message, every, limit)


def push_kernel(folder: str | Path, *, api=None) -> Pushed:
    """Push a kernel, which then runs. The versions of data sets that were pushed from here are written into its
    kernel-metadata.json, see `pushed.pin`.

    Raises ValueError for what `lint` finds, KaggleError where Kaggle refuses the kernel, one of its sources (it runs
    without it then: stop it there) or a tag.
    """
    folder = resolve(folder)
    _lint([folder])
    return _send_kernel(api or connect(), folder)


def _lint(folders: Sequence[Path]) -> None:
    errors = [finding for finding in lint_all(folders) if finding.level == "error"]
    if errors:
        raise ValueError(f"nothing was pushed:\n{show(errors)}")


def _id(metadata: dict) -> str:
    return str(Ref.parse(metadata["id"]).bare)


def _takes(folder: Path, refs: Iterable[str]) -> list[str]:
    """Which of the kernels `refs` a kernel takes the output of."""
    sources = {str(Ref.parse(source).bare) for source in read_kernel_metadata(folder).get("kernel_sources", [])}
    return [ref for ref in refs if ref in sources]


def _sort(kernels: dict[str, Path]) -> list[str]:
    """Kernels in an order in which each comes after those whose output it takes."""
    order: list[str] = []
    while len(order) < len(kernels):
        left = [ref for ref in kernels if ref not in order]
        ready = [ref for ref in left if not _takes(kernels[ref], left)]
        if not ready:
            raise ValueError(f"the kernels {', '.join(left)} take each other's output: none of them can be the first")
        order += ready
    return order


def _send_dataset(api, folder: Path, message: str, every: float, limit: float) -> Pushed:
    ref, content = _id(read_dataset_metadata(folder)), hash_content(folder)
    state, before = _look(api, ref)
    last = read_records(folder).get(ref, {})
    if before and last.get("content") == content and last["version"] == before:
        return Pushed(ref, before, last["url"], "dataset", new=False)
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    print(f"data set {ref}: sending {size / 1e6:,.1f} MB", flush=True)
    place, notes = str(folder), message or content[:16]
    if not state:
        answer = asked(lambda: api.dataset_create_new(place, quiet=True), f"make data set {ref}", patience=0)
    else:
        answer = asked(lambda: api.dataset_create_version(place, notes, quiet=True), f"push data set {ref}", patience=0)
    if answer.error or (answer.status or "ok").lower() != "ok":
        raise KaggleError(f"data set {ref}: Kaggle says: {answer.error or answer.status}")
    _refuse(f"data set {ref}", {"tags": answer.invalid_tags})
    version = _await_dataset(api, ref, before, every, limit)
    remember(folder, ref, version=version, url=answer.url, content=content)
    return Pushed(ref, version, answer.url, "dataset")


def _look(api, ref: str) -> tuple[str, int]:
    """The state and the version of a data set; "" and 0 where there is none, or none that this user may see."""
    try:
        told = asked(lambda: api.dataset_status(ref, format="json(status,current_version_number)"), f"look for {ref}")
    except KaggleError as error:
        if error.status in (403, 404):
            return "", 0
        raise
    told = json.loads(told)
    return told["status"], told["current_version_number"] or 0


def _await_dataset(api, ref: str, before: int, every: float, limit: float) -> int:
    """Wait until a version above `before` is ready, and return it."""
    begin, shown = time.monotonic(), None
    while True:
        state, version = _look(api, ref)
        if state == "ready" and version > before:
            return version
        if state in ("failed", "deleted"):
            raise KaggleError(f"data set {ref}: Kaggle could not take its files ({state}): push it again")
        if state != shown:
            print(f"data set {ref}: {state.replace('_', ' ') or 'on its way'}", flush=True)
            shown = state
        if time.monotonic() - begin + every > limit:
            raise KaggleError(f"data set {ref}: not ready after {limit:g} s ({state}): look at it on Kaggle")
        time.sleep(every)


def _send_when_free(api, folder: Path, others: Sequence[str], every: float) -> Pushed:
    """Push a kernel; where Kaggle has no room for it beside `others`, pushed before it, again when one has run."""
    while True:
        try:
            return _send_kernel(api, folder)
        except KaggleError as error:
            if "session count" not in str(error) or not others:
                raise
            print(f"{error}: it waits until another one has run", flush=True)
            others = [ref for ref in others if status(ref, api).state not in ENDED]
        time.sleep(every)


def _send_kernel(api, folder: Path) -> Pushed:
    ref = _id(read_kernel_metadata(folder))
    pinned = pin(folder, ref)
    # once: where the answer is lost Kaggle may run it already, and a second version would run beside it
    answer = asked(lambda: api.kernels_push(str(folder)), f"push kernel {ref}", again=False)
    if answer.error:
        raise KaggleError(f"kernel {ref}: Kaggle says: {answer.error}")
    sources = {f"{kind} sources": getattr(answer, f"invalid_{kind}_sources") for kind in KINDS}
    then = ". It runs without: stop it on Kaggle, look at the names and whether they are yours, and push it again"
    _refuse(f"kernel {ref}, version {answer.version_number}", {**sources, "tags": answer.invalid_tags}, then)
    if not answer.version_number:
        raise KaggleError(f"kernel {ref}: Kaggle gave no version, so it is not known whether it has the kernel")
    remember(folder, ref, version=answer.version_number, url=answer.url, pinned=pinned)
    return Pushed(ref, answer.version_number, answer.url, "kernel")


def _refuse(what: str, invalid: dict[str, Sequence[str] | None], then: str = "") -> None:
    """Raise KaggleError for what Kaggle left out while it took the rest, as the client does not."""
    refused = [f"{kind} {', '.join(names)}" for kind, names in invalid.items() if names]
    if refused:
        raise KaggleError(f"{what}: Kaggle refuses the {'; the '.join(refused)}{then}")
