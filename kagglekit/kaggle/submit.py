"""Submit a file, after a check against the sample, or the version of a kernel.

The score comes later: `kaggle competitions submissions COMPETITION`, a command of the client, lists it.
"""

import shlex
from pathlib import Path

from kagglekit.competition.submission import check_submission
from kagglekit.competition.task import load_task, read_sample, read_submission
from kagglekit.files import resolve, shorten
from kagglekit.kaggle.client import KaggleError, asked, connect
from kagglekit.kaggle.metadata import Ref
from kagglekit.kaggle.secrets import redact

MARK = ".competition"  # a file with the competition's name, in a folder that `download` makes


def submit_file(path: str | Path, competition: str, message: str, api=None) -> str:
    """Submit a work folder's submission.csv, or another file below it; returns its number and what Kaggle says.

    Raises FileNotFoundError and ValueError for a file that is missing or does not fit the sample, before anything is
    sent; KaggleError where Kaggle does not take it. It is sent once: where the answer is lost, look on Kaggle first.
    """
    path = resolve(path)
    file = path / "submission.csv" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there: run 5_submit first, or name the file")
    work = next((place for place in file.parents if (place / "task.json").is_file()), None)
    if work is None:
        raise FileNotFoundError(f"{file} is in no work folder, so there is no sample to check it against: put it there")
    task = load_task(work)
    try:
        check_submission(read_submission(task, file), read_sample(task), task)
    except ValueError as error:
        raise ValueError(f"{file} was not submitted: {error}") from error
    api = api or connect()
    answer = asked(
        lambda: api.competition_submit(str(file), message, competition, quiet=True),
        f"submit {file.name} to {competition}", again=False,
    )  # fmt: skip
    return _read(answer, str(file), competition)


def submit_command(file: str | Path, message: str, data: str | Path = "") -> str:
    """The command that submits a file as `submit_file` does. data: the folder of the competition's files; where
    `download` has made it, its name is in there, else NAME is to be filled in, as in kaggle.com/competitions/NAME."""
    known = Path(data) / MARK
    competition = known.read_text(encoding="utf-8").strip() if data and known.is_file() else "NAME"
    words = [str(shorten(resolve(file))), "--competition", competition, "--message", message]
    return f"python -m kagglekit.kaggle submit {shlex.join(words)}"


def submit_kernel(
    ref: Ref | str, version: int | None, competition: str, message: str, file: str = "submission.csv", api=None
) -> str:
    """Submit the version of a kernel to a code competition: Kaggle runs it again on the hidden test.

    version: as `push` printed it; None: the one in `ref`, "owner/slug/3". file: that the kernel writes. Returns and
    raises as `submit_file` does.
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
    return _read(answer, f"{kernel.bare}/{version}", competition)


def _read(answer, what: str, competition: str) -> str:
    """The client gives no error for a file that did not arrive, only an answer without a number."""
    if not answer.ref:
        raise KaggleError(f"{what} was not submitted to {competition}: {answer.message or 'Kaggle gave no number'}")
    return f"submission {answer.ref}: {redact(answer.message or 'taken')}"
