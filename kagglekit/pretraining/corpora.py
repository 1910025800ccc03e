"""Text to pretrain on, from files: tables, plain text, or a folder of them; or from work folders of other tasks."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from kagglekit.competition.formats.encodings import PACKED, decode, unpack
from kagglekit.competition.read import READERS, read_table
from kagglekit.competition.task import is_work, load_task, read_test, read_train
from kagglekit.competition.text_columns import is_empty, join_columns
from kagglekit.files import resolve
from kagglekit.options import check_range

PLAIN = (".txt", ".text")
SPLITS = ("line", "paragraph", "file")


def read_corpus(names: Sequence[str], column: str = "text", encoding: str = "utf-8", split: str = "line") -> list[str]:
    """The texts of files, in the order of `names` and of the rows; texts of white space alone are left out.

    names: tables (CSV, TSV, parquet, JSON lines), plain text (.txt), each also as .gz or .zip of one file; or folders,
    of which all such files are read, also those in folders below, by their names; or work folders, of which the texts
    of train and test are read as their tasks say. column: of tables, `text_column` in
    2_pretrain; "title+text" joins two columns, like the text of a task. split: of plain text,
    `text_split`: by "line", by "paragraph" (between blank lines), or "file" (not at all). Equal texts are all kept. All
    text is in memory at once.
    Raises FileNotFoundError, and ValueError that names file and column: a missing column, no text, bytes that are not
    `encoding`, a folder without such a file.
    """
    check_range("text_split", split, split in SPLITS, f"one of {', '.join(SPLITS)}")
    texts = []
    for name in names:
        if is_work(name):
            task = load_task(name)
            texts += [text for text in [*read_train(task)["text"], *read_test(task)["text"]] if not is_empty(text)]
            continue
        for file in _files(resolve(name)):
            found = [text for text in _read(file, column, encoding, split) if not is_empty(text)]
            if not found:
                raise ValueError(f"{file} holds nothing but white space, where text (column {column!r}) was looked for")
            texts += found
    return texts


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: name a file or a folder of text to pretrain on")
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.is_file() and _is_text(file, path))
    if not found:
        kinds = ", ".join((*READERS, *PLAIN))
        raise ValueError(f"{path} holds no file of text ({kinds}, also with {' or '.join(PACKED)})")
    return found


def _is_text(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in file.relative_to(folder).parts)
    return not hidden and (_kind(file) in (*READERS, *PLAIN) or file.suffix.lower() == ".zip")


def _kind(file: Path) -> str:
    """The ending of a file's name, that of packing left aside."""
    return (file.with_suffix("") if file.suffix.lower() in PACKED else file).suffix.lower()


def _read(file: Path, column: str, encoding: str, split: str) -> Iterator[str]:
    if _kind(file) in PLAIN or file.suffix.lower() == ".zip":
        name, data = unpack(file)
        if _kind(Path(name)) in PLAIN:
            return _split(decode(file, data, encoding), split)
    table = read_table(file, encoding)
    columns = [column] if column in table.columns else column.split("+")
    for name in columns:
        if name not in table.columns:
            there = ", ".join(table.columns)
            raise ValueError(f"{file} has no column {name!r}: it has {there}. Name one of these as text_column")
    return iter(join_columns(table, columns))


def _split(text: str, split: str) -> Iterator[str]:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if split == "file":
        yield text
        return
    lines: list[str] = []
    for line in [*text.split("\n"), ""]:  # str.splitlines would also split at U+2028
        if split == "line":
            yield line
        elif line.strip():
            lines.append(line)
        else:
            yield "\n".join(lines)
            lines = []
