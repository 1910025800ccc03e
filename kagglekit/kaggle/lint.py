"""A look at folders before they are pushed: what Kaggle would choke on, and what it lets pass to your harm."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from kagglekit.kaggle.findings import Finding as Finding
from kagglekit.kaggle.findings import show as show
from kagglekit.kaggle.keys import DATASET_FILE, KERNEL_FILE
from kagglekit.kaggle.lint_dataset import lint_dataset
from kagglekit.kaggle.lint_kernel import lint_kernel
from kagglekit.kaggle.lint_sources import read_id


def lint(folder: str | Path, sources: Mapping[str, str | Path] | None = None) -> list[Finding]:
    """What is wrong with a kernel folder or a data set folder; nothing is changed, and nothing is asked of Kaggle.

    sources: local folders of what the kernel reads, "dataset:owner/slug" -> folder, beside those next to the kernel.
    Hashes of a data set are computed (about 1 s for each GB).
    Raises FileNotFoundError for a folder with no metadata, ValueError when it is not JSON.
    """
    folder = Path(folder)
    if (folder / KERNEL_FILE).is_file():
        return lint_kernel(folder, sources or {})
    if (folder / DATASET_FILE).is_file():
        return lint_dataset(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: is the path right, and has it been built?")
    raise FileNotFoundError(
        f"{folder} has neither {KERNEL_FILE} nor {DATASET_FILE}: name the folder of a kernel or of a data set, as "
        "`python -m kagglekit.kaggle build` and `wheels` print them"
    )


def lint_all(folders: Iterable[str | Path]) -> list[Finding]:
    """The findings of several folders, in order; kernels also find those data sets among them that lie elsewhere."""
    folders = [Path(folder) for folder in folders]
    datasets = {f"dataset:{name}": folder for folder in folders if (name := read_id(folder))}
    findings = []
    for folder in folders:
        try:
            findings += lint(folder, datasets)
        except (FileNotFoundError, ValueError) as error:  # of one folder; the others are looked at all the same
            findings.append(Finding("error", folder.name, "", str(error)))
    return findings
