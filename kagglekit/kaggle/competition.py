"""A competition at Kaggle: its files downloaded into a folder that `./run_all.sh` takes, and what is submitted to it.

A file is checked against the sample before it is submitted. The score comes later: `kaggle competitions submissions
COMPETITION`, a command of the client, lists it.
"""

import re
import shlex
import zipfile
from pathlib import Path

from kagglekit.competition.find_files import find_files
from kagglekit.competition.read import read_table
from kagglekit.competition.submission import check_submission
from kagglekit.competition.task import load_task, read_sample, read_submission
from kagglekit.files import check_space, reading, replacing, resolve, shorten
from kagglekit.kaggle.bundle import show_size
from kagglekit.kaggle.client import KaggleError, asked, connect
from kagglekit.kaggle.metadata import Ref
from kagglekit.kaggle.secrets import redact
from kagglekit.options import did_you_mean

ADDRESS = "https://www.kaggle.com/competitions"
SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
MARK = ".competition"  # a file with the competition's name, in a folder that `download` makes


def download(competition: str, folder: str | Path = "", api=None) -> Path:
    """Download the files of a competition into a folder, data/NAME unless another is named, whole or not at all;
    returns it. What is there already is not downloaded again.

    competition: its name in the address of its page, or that address. Archives are unpacked; those inside stay.
    Raises ValueError for a folder with other files, and KaggleError: for rules that are not accepted, with the address
    to do so; for a name that Kaggle does not know, with those that are near; without a credential.
    """
    name = find_slug(competition)
    folder = resolve(folder or f"data/{name}")
    api = api or connect()
    files = list_files(name, api)
    if folder.is_dir() and all((folder / file).is_file() for file in files):
        print(f"{shorten(folder)} has all of its files already")
        return folder
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise ValueError(f"{shorten(folder)} is there and holds other files: name another folder behind {name}")
    size = sum(files.values())
    check_space(folder, 2 * size)  # packed and unpacked at once
    print(f"downloading {name}: {len(files)} file{'s' * (len(files) > 1)}, {show_size(size)}", flush=True)
    with replacing(folder) as part:
        part.mkdir()
        packed = part / ".download"
        try:
            asked(lambda: api.competition_download_files(name, str(packed), force=True), f"download {name}")
        except KaggleError as error:
            raise _explained(error, name, api) from None
        (archive,) = [path for path in packed.iterdir() if not path.name.startswith(".")]
        if len(files) == 1 and (not zipfile.is_zipfile(archive) or archive.stat().st_size == size):
            single = part / next(iter(files))  # it comes as it is, also where it is an archive
            single.parent.mkdir(parents=True, exist_ok=True)
            archive.rename(single)
        else:
            with reading(archive), zipfile.ZipFile(archive) as content:
                content.extractall(part)  # it checks the checksum of each file
            archive.unlink()
        for path in packed.iterdir():
            path.unlink()
        packed.rmdir()
        (part / MARK).write_text(f"{name}\n", encoding="utf-8")
        if lacking := [file for file in files if not (part / file).is_file()]:
            raise KaggleError(f"download {name}: {lacking[0]!r} did not come, of {len(files)} files: try again")
    return folder


def find_slug(text: str) -> str:
    """The name of a competition in an address, or the name itself; ValueError for what cannot be one."""
    found = re.search(r"kaggle\.com/(?:competitions|c)/([^/?#\s]+)", text)
    name = found[1] if found else text.removeprefix("competitions/").removeprefix("c/")
    if not SLUG.fullmatch(name):
        raise ValueError(f"{text!r} is no name of a competition: take it from the address of its page, {ADDRESS}/NAME")
    return name.lower()


def list_files(name: str, api) -> dict[str, int]:
    """The files of a competition -> their bytes. Raises as `download` does."""
    found, page = {}, None
    try:
        while page != "":
            answer = asked(lambda page=page: api.competition_list_files(name, page, 200), f"files of {name}")
            found |= {file.name: file.total_bytes or 0 for file in answer.files}
            page = answer.next_page_token or ""
    except KaggleError as error:
        raise _explained(error, name, api) from None
    if not found:
        raise KaggleError(f"{name} has no files to download: see {ADDRESS}/{name}/data")
    if outside := [file for file in found if ".." in Path(file).parts or Path(file).is_absolute()]:
        raise KaggleError(
            f"{name} has a file that would lie outside of its folder, {outside[0]!r}: nothing is downloaded"
        )
    return found


def _explained(error: KaggleError, name: str, api) -> KaggleError:
    """The error with what to do: accept the rules, or take another name."""
    if error.status == 403:
        return KaggleError(
            f"Kaggle does not give out the files of {name}: accept its rules at {ADDRESS}/{name}/rules, once, in the "
            f"browser, then type the same command. ({error})",
            error.status,
        )
    if error.status != 404:
        return error
    known = []
    for words in dict.fromkeys((name, *sorted(name.split("-"), key=len, reverse=True)[:2])):
        answer = asked(lambda words=words: api.competitions_list(search=words), f"competitions like {words}")
        known += [one.ref.rstrip("/").rpartition("/")[2] for one in (answer.competitions if answer else ()) or ()]
    meant = did_you_mean(name, known) or f": take its name from the address of its page, {ADDRESS}/NAME"
    return KaggleError(f"Kaggle has no competition {name!r}{meant}", error.status)


def describe_files(folder: Path) -> str:
    """Which file is train, test and the sample submission, as `1_eda` will find them; or what it will ask."""
    try:
        found, _ = find_files(folder, lambda path: read_table(path, None))
    except (ValueError, FileNotFoundError) as error:
        return f"CAUTION: {error}"
    return ", ".join(f"{role.replace('_', ' ')} is {path.name}" for role, path in found.items())


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
