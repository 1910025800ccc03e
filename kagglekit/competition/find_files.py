"""Which file is train, test and the sample submission: by its name, and where several fit, by what they hold."""

import re
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd

from kagglekit.competition.formats.encodings import PACKED
from kagglekit.competition.mounts import find_competition, folders_below
from kagglekit.competition.read import ELSEWHERE, READERS, Note, is_table, parts_of, split_name
from kagglekit.files import Damaged, reading

ROLES = ("train", "test", "sample_submission")
PARAMETERS = {"train": "train", "test": "test", "sample_submission": "sample"}  # of 1_eda, that name a file
WORDS = {
    "train": {"train", "training", "trainset", "traindata", "训练", "训练集"},
    "test": {"test", "testing", "testset", "testdata", "测试", "测试集"},
    "sample_submission": {"submission", "submissions", "submit", "submittion", "sub", "提交"},
}
FILLING = {"data", "set", "public", "private", "labeled", "labelled", "file", "full", "final", "new", "all", "nolabel"}
FILLING |= {"unlabeled", "unlabelled", "without", "sample", "example", "format", "template", "dataset", "csv"}
ABOUT = ("dataset_info.json", "state.json")  # what the library datasets writes beside its tables
UNLABELLED = ("unsup", "unlabeled", "unlabelled")  # folders of texts without a class
PROGRAMS = (".py", ".ipynb", ".sh", ".md")
BELOW = 3  # levels of folders that are searched
LOOKED_INTO = 8  # files of one name that are read to choose among them
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[\u3400-\u9fff]+")


def find_files(
    folder: str | Path, read: Callable[[Path], pd.DataFrame], **given: str | None
) -> tuple[dict[str, Path], list[Note]]:
    """The files of the `ROLES` in `folder`, and what was chosen: (what, found, reason). There may be no sample.

    read: path -> table, of files among which the name does not decide. given: role -> name of a file in the folder, or
    None. Where a role has no file in the folder itself, those in folders below count; where test has no table, a folder
    of texts. Raises FileNotFoundError where train or test is missing, ValueError where several could be it; both list
    the files, and the parameters that name one.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    found, notes = {}, []
    for role, name in given.items():
        if name and not (folder / name).exists():
            raise FileNotFoundError(f"{folder} has no file {name!r} ({PARAMETERS[role]}=); {_held(folder)}")
        if name and folder not in (folder / name).parents:
            raise ValueError(
                f"{PARAMETERS[role]}={name!r} is not in {folder}: put the file there, and say its name alone"
            )
        if name:
            found[role] = folder / name
    could: dict[str, list[Path]] = {}
    for role in ("train", "test"):
        could[role] = [found[role]] if role in found else find_candidates(folder, role)
        if role == "test" and not could[role] and (texts := _find_texts_of_sample(folder, could["train"], read)):
            could[role] = [texts[0]]
            why = f"there is no table of that name: its ids are those of texts in {texts[1].name}; test= names one"
            notes.append((role, texts[0].name, why))
        if not could[role]:
            raise FileNotFoundError(_missing(folder, role, read))
    beside = dict.fromkeys(place for role in could for place in (could[role][0].parent, could[role][0].parent.parent))
    places = [folder, *(place for place in beside if folder in place.parents)]
    named = found.get("sample_submission")
    could["sample_submission"] = [named] if named else find_candidates(folder, "sample_submission", places)
    cached: dict[Path, pd.DataFrame] = {}

    def table(path: Path) -> pd.DataFrame:
        if path not in cached:
            cached[path] = read(path)
        return cached[path]

    def asked(path: Path) -> float:
        found = (_asked(table(path), table(sample)) for sample in could["sample_submission"][:LOOKED_INTO])
        return max(found, default=0) * _length(table(path), map(table, could["test"]))

    rules = {
        "test": asked,
        "sample_submission": lambda path: _asked(table(found["test"]), table(path)),
        "train": lambda path: _like(table(path), table(found["test"])),
    }
    reasons = {
        "test": "it has the ids of the sample submission",
        "sample_submission": "it has the ids of test",
        "train": "it shares most columns with test",
    }
    for role, rule in rules.items():
        if len(could[role]) > 1:
            found[role] = _choose(folder, role, could[role], rule)
            others = ", ".join(sorted(path.name for path in could[role] if path != found[role]))
            notes.append((role, found[role].name, f"{reasons[role]}, of {others}; {PARAMETERS[role]}= names another"))
        elif could[role]:
            found[role] = could[role][0]
    if not could["sample_submission"] and (unread := _unread(folder, "sample_submission")):
        notes.append(("sample_submission", "none", unread))
    for role in (role for role in ROLES if role in found and not given.get(role)):
        if plain(split_name(found[role].name)[0]) != plain(role) and not any(note[0] == role for note in notes):
            where = str(found[role].relative_to(folder))
            notes.append((role, where, f"by its name; {PARAMETERS[role]}= names another"))
    texts = [{path.name for path in texts_of(found[role])} for role in ("train", "test") if found[role].is_dir()]
    if len(texts) == 2 and texts[0] == texts[1]:
        names = ", ".join(sorted(texts[0])[:5])
        raise ValueError(
            f"train and test in {folder} hold files of the same names ({names}), which are no texts with ids of their "
            "own: make a table of each, train.csv and test.csv, with a row for each text"
        )
    return {role: found[role] for role in ROLES if role in found}, notes


def find_candidates(folder: Path, role: str, places: Iterable[Path] | None = None) -> list[Path]:
    """The tables that a role's name fits best, in the first of `places` that has any; else folders of texts.

    places: `folder`, and those below it, nearest first; not those that kagglekit writes. A name that is the role itself
    goes first (`train.csv`), then one with nothing but filling words beside it (`train_data.csv`, `test_public.csv`),
    then all others (`train_essays.csv`); in a folder with the role's name any table. An unpacked file goes before its
    archive, and .txt last.
    """
    places = [folder, *_folders(folder)] if places is None else list(places)
    for place in places:
        tables = [path for path in sorted(place.iterdir()) if is_table(path) and path.name not in ABOUT]
        ranked = [(fit, path) for path in tables if (fit := _fit(path, role))]
        if place != folder and not ranked and role_of(place.name) == role:
            ranked = [(3, path) for path in tables if split_name(path.name)[1] != ".txt"]
        ranked = [(fit, path) for fit, path in ranked if split_name(path.name)[1] != ".txt"] or ranked
        if ranked:
            best = [path for fit, path in ranked if fit == min(ranked)[0]]
            stems = {split_name(path.name)[0] for path in best if path.suffix.lower() not in PACKED}
            best = [path for path in best if path == parts_of(path)[0]]
            return [path for path in best if path.suffix.lower() not in PACKED or split_name(path.name)[0] not in stems]
    return [place for place in places if place != folder and role_of(place.name) == role and texts_of(place)]


def _folders(folder: Path) -> Iterator[Path]:
    """The folders below, without those that kagglekit writes: work folders and runs."""
    written: set[Path] = set()
    for place in folders_below(folder, BELOW):
        if place.parent in written or any((place / name).exists() for name in ("task.json", "params.json")):
            written.add(place)
        else:
            yield place


def is_text_folder(folder: Path, kinds: Collection[str] = (".txt",)) -> bool:
    """Whether a folder holds texts, each a file `ID.txt`, and nothing else."""
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    return bool(files) and all(file.suffix.lower() in kinds for file in files)


def texts_of(folder: Path) -> list[Path]:
    """The texts of a folder: of those in it that are called as their class (`pos/ID.txt`, `sci.med/ID`), or its own;
    none where it holds something else."""
    classes = [place for place in sorted(folder.iterdir()) if place.is_dir() and is_text_folder(place, ("", ".txt"))]
    classes = [place for place in classes if place.name.lower() not in UNLABELLED]
    places = classes if len(classes) > 1 else [folder] if is_text_folder(folder) else []
    return [file for place in places for file in sorted(place.iterdir()) if not file.name.startswith(".")]


def _find_texts_of_sample(folder: Path, train: list[Path], read: Callable[[Path], pd.DataFrame]) -> list[Path]:
    """The sample submission, and a table that has a row for each of its ids; empty where there are none."""
    samples = find_candidates(folder, "sample_submission", [folder])
    others = unused_tables(folder, {*train, *samples}) if len(samples) == 1 else ()
    for other in (path for path in others if split_name(path.name)[1] not in ("", ".txt")):
        sample, table = read(samples[0]), read(other)
        first = sample.columns[0]
        if len(table.columns) > 1 and first in table and {*sample[first]} <= {*table[first]}:
            return [samples[0], other]
    return []


def find_table(folder: str | Path, role: str) -> Path:
    """The file of a role in a folder by its name alone. Raises as `find_files` does."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    could = find_candidates(folder, role)
    if not could:
        raise FileNotFoundError(_missing(folder, role))
    return could[0] if len(could) == 1 else _choose(folder, role, could, lambda path: 0)


def find_tables(slug: str, root: Path | None = None) -> Path:
    """The folder of a mounted competition with tables train and test; the outermost where none has both. Raises
    FileNotFoundError as `find_competition` does."""
    first = find_competition(slug, root=root)
    return next((place for place in (first, *folders_below(first)) if _has_tables(place)), first)


def _has_tables(folder: Path) -> bool:
    tables = [path for path in folder.iterdir() if is_table(path)]
    return all(any(_fit(path, role) for path in tables) for role in ("train", "test"))


def role_of(name: str) -> str:
    """The role that a name says; "" for none. What is to be submitted goes before test, test before train."""
    words = {word.lower() for word in WORD.findall(name)}
    squeezed = plain(name)
    if words & WORDS["sample_submission"] or "submi" in squeezed or "提交" in name:
        return "sample_submission"
    for role in ("test", "train"):
        if words & WORDS[role] or squeezed.startswith(role):
            return role
    return "sample_submission" if squeezed.startswith("sample") else ""


def plain(name: str) -> str:
    """A name without case and separators: "Sample-Submission_v2" -> "samplesubmissionv2"."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _fit(path: Path, role: str) -> int:
    """How well a name fits a role: 1 best, 3 least, 0 not at all."""
    stem = split_name(path.name)[0]
    if role_of(stem) != role:
        return 0
    if plain(stem) == plain(role):
        return 1
    words = [word.lower() for word in WORD.findall(stem)]
    no_label = words[-2:] in (["no", "label"], ["no", "labels"], ["without", "labels"])
    others = {word.removeprefix(role) for word in {*words[: -2 if no_label else None]} - WORDS[role]}
    return 3 if any(len(word) > 1 and word not in FILLING for word in others) else 2


def _asked(test: pd.DataFrame, sample: pd.DataFrame) -> float:
    """Whether a sample submission asks for the rows of a test table: 1 where the ids or, without ids, the numbers of
    rows are the same; 0 for another table, and for one that holds the answers."""
    if {*sample} <= {*test} and len(sample.columns) > 1:
        return 0
    id = next((column for column in test if plain(column) == plain(sample.columns[0])), None)
    return float(len(test) == len(sample) if id is None else {*test[id]} == {*sample.iloc[:, 0]})


def _length(one: pd.DataFrame, tables: Iterable[pd.DataFrame]) -> float:
    """How many characters a row has, where tables share a column of ids alone, and have parts of each row; else 1."""
    shared = set.intersection(*({*table} for table in tables))
    return 1 + sum(one[column].str.len().mean() for column in one) if len(shared) == 1 else 1


def _like(train: pd.DataFrame, test: pd.DataFrame) -> float:
    """How many columns a table of train shares with test; of two that share as many, one with others goes first: those
    are the labels, which may stand in a file of their own."""
    shared = len({*train.columns} & {*test.columns})
    return shared - 0.5 * (shared == len(train.columns))


def _choose(folder: Path, role: str, could: list[Path], rule: Callable[[Path], float]) -> Path:
    scores = {path: rule(path) for path in could} if len(could) <= LOOKED_INTO else {}
    best = [path for path in scores if scores[path] == max(scores.values()) > 0]
    if len(best) == 1:
        return best[0]
    several = ", ".join(str(path.relative_to(folder)) for path in could[:20])
    raise ValueError(
        f"{folder} holds {len(could)} files that could be {role}: {several}. Say which: {PARAMETERS[role]}="
        f"{could[0].name!r}, say; if they are parts of one table, write them into one file, {role}{could[0].suffix}"
    )


def _missing(folder: Path, role: str, read: Callable[[Path], pd.DataFrame] | None = None) -> str:
    name = PARAMETERS[role]
    kinds = f"{', '.join(READERS)}, also with {', '.join(PACKED)}"
    message = f"{folder} has no table named {role}* ({kinds}): say {name}= the name of that file; {_held(folder)}"
    if unread := _unread(folder, role):
        return f"{message}. {unread}"
    for place in sorted(inside for inside in folder.iterdir() if inside.is_dir() and role_of(inside.name) == role):
        return f"{message}. {place.name} is a folder without tables: make {role}.csv of it, with a row for each text"
    for archive in sorted(folder.glob("*.zip")):
        with suppress(OSError, Damaged), reading(archive), zipfile.ZipFile(archive) as opened:
            for inside in (one for one in opened.namelist() if role_of(split_name(Path(one).name)[0]) == role):
                return f"{message}. {archive.name} holds {inside}: unpack it: python -m zipfile -e {archive} {folder}"
    tables = [path for path in folder.iterdir() if is_table(path)]
    if len(tables) == 1 and not (role == "train" and role_of(tables[0].name)):
        table = read(tables[0]) if read else pd.DataFrame()
        split = next((name for name in table if {"train", "test"} <= {*table[name].str.lower()}), None)
        rows = f"those of which {split!r} says so" if split else "such as a tenth of all"
        return f"{message}. Train and test are two files: write the rows to predict, {rows}, into test.csv"
    return message


def _unread(folder: Path, role: str) -> str:
    """The first file that is called like a role, or lies in a folder called so, and is not read, and what to do."""
    inside = [place for place in sorted(folder.iterdir()) if place.is_dir() and role_of(place.name) == role]
    named = [path for path in sorted(folder.iterdir()) if role_of(path.stem) == role and path.is_file()]
    for path in [*named, *(path for place in inside for path in sorted(place.iterdir()))]:
        kind = (path.with_suffix("") if path.suffix.lower() in PACKED else path).suffix.lower()
        if kind in ELSEWHERE or (path in named and kind not in (*READERS, *PROGRAMS)):
            advice = f"write it as a table, {role}.csv, with a row for each text" if kind else "give its name an ending"
            advice = ELSEWHERE.get(kind, advice + ("" if kind else ", such as .csv"))
            return f"{path.relative_to(folder)} is not read: {advice}"
    return ""


def _held(folder: Path) -> str:
    return f"it holds {', '.join(sorted(path.name for path in folder.iterdir())[:20]) or 'nothing'}"


def unused_tables(folder: Path, used: Collection[Path]) -> Iterator[Path]:
    """The tables of a folder that have no role."""
    yield from (path for path in sorted(folder.iterdir()) if is_table(path) and path not in used)
