"""Submit a file, after a check against the sample, or the version of a kernel; and ask for the score."""

import time
from dataclasses import dataclass
from pathlib import Path

from kagglekit.competition.read import read_table
from kagglekit.competition.submission import check_submission
from kagglekit.competition.task import load_task, read_sample
from kagglekit.files import resolve
from kagglekit.kaggle.client import KaggleError, asked, connect
from kagglekit.kaggle.metadata import Ref
from kagglekit.kaggle.secrets import redact


@dataclass(frozen=True)
class Submitted:
    """A submission. state: pending or complete, "" where unknown. left: submissions still allowed today, None where
    unknown."""

    ref: int
    state: str = ""
    score: str = ""
    message: str = ""
    left: int | None = None

    def __str__(self):
        parts = [f"submission {self.ref}: {self.state or 'taken'}", f"score {self.score}" if self.score else ""]
        parts += [self.message, "" if self.left is None else f"{self.left} left today"]
        return ", ".join(part for part in parts if part)


def submit_file(
    path: str | Path, competition: str, message: str, *, wait: float = 0.0, every: float = 10.0, api=None
) -> Submitted:
    """Submit a work folder's submission.csv, or another file below it, after a check against the sample.

    wait: seconds to wait for the score, 0 not at all. Raises FileNotFoundError and ValueError for a file that is not
    there or wrong, before anything is sent; KaggleError where Kaggle does not take it.
    """
    path = resolve(path)
    file = path / "submission.csv" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there: run 5_submit first, or name the file")
    work = next((place for place in file.parents if (place / "task.json").is_file()), None)
    if work is None:
        raise FileNotFoundError(
            f"{file} lies in no work folder, so there is no sample to check it against: put it there"
        )
    task = load_task(work)
    try:
        check_submission(read_table(file, task.encoding), read_sample(task), task)
    except ValueError as error:
        raise ValueError(f"{file} was not submitted: {error}") from error
    api = api or connect()
    answer = asked(
        lambda: api.competition_submit(str(file), message, competition, quiet=True),
        f"submit {file.name} to {competition}", again=False,
    )  # fmt: skip
    if answer.message == api.COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE or not answer.ref:
        raise KaggleError(f"{file} was not submitted to {competition}: {answer.message or 'Kaggle gave no number'}")
    return _follow(api, competition, answer.ref, wait, every)


def submit_kernel(
    ref: Ref | str,
    version: int | None,
    competition: str,
    message: str,
    file: str = "submission.csv",
    *,
    wait: float = 0.0,
    every: float = 30.0,
    api=None,
) -> Submitted:
    """Submit the version of a kernel to a code competition: Kaggle runs it again on the hidden test.

    version: as `push` printed it; None: the one in `ref`, "owner/slug/3". wait: as for `submit_file`.
    """
    kernel = Ref.parse(str(ref))
    version = version or kernel.version
    if not version:
        raise ValueError(f"version={version!r}: say which version of {kernel} to submit, as `push` printed it")
    api = api or connect()
    answer = asked(
        lambda: api.competition_submit_code(file, message, competition, str(kernel.bare), int(version), quiet=True),
        f"submit {kernel.bare}/{version} to {competition}", again=False,
    )  # fmt: skip
    if not answer.ref:
        raise KaggleError(f"{kernel.bare}/{version} was not submitted to {competition}: {answer.message}")
    return _follow(api, competition, answer.ref, wait, every)


def _follow(api, competition: str, ref: int, wait: float, every: float) -> Submitted:
    """The state of a submission, now or within `wait` seconds. It has been made, so a state that cannot be had is no
    error; a submission that Kaggle could not score is."""
    begin = time.monotonic()
    submitted = _look(api, competition, ref)
    while submitted.state in ("", "pending") and time.monotonic() - begin + every <= wait:
        time.sleep(every)
        submitted = _look(api, competition, ref)
    if submitted.state == "error":
        raise KaggleError(
            f"submission {ref} to {competition}: Kaggle could not score it: {submitted.message or 'no reason given'}"
        )
    return submitted


def _look(api, competition: str, ref: int) -> Submitted:
    try:
        listed = asked(lambda: api.competition_submissions(competition), f"submissions to {competition}", patience=30)
    except KaggleError as error:
        return Submitted(ref, message=f"its state is not known: {error}", left=_left(api, competition))
    found = next((each for each in listed or [] if each and each.ref == ref), None)
    if found is None:
        return Submitted(ref, left=_left(api, competition))
    said = redact(found.error_description or "")
    return Submitted(ref, found.status.name.lower(), found.public_score or "", said, _left(api, competition))


def _left(api, competition: str) -> int | None:
    try:
        limits = asked(lambda: api.competition_get_submission_limits(competition), "limits", patience=0)
    except KaggleError:  # not every competition tells
        return None
    return limits.num_allowed_now
