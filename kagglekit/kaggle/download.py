"""Download a competition: its files, unpacked in a folder that `./run_all.sh` takes, and what is what in them."""

import re
import zipfile
from pathlib import Path

from kagglekit.competition.find_files import find_files
from kagglekit.competition.read import read_table
from kagglekit.files import check_space, reading, replacing, resolve, shorten
from kagglekit.kaggle.client import KaggleError, asked, connect
from kagglekit.kaggle.submit import MARK
from kagglekit.options import did_you_mean

ADDRESS = "https://www.kaggle.com/competitions"
SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")


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
    print(f"downloading {name}: {len(files)} file{'s' * (len(files) > 1)}, {size / 1e6:,.1f} MB", flush=True)
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
