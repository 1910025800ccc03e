"""Small folders that several tests begin with: a competition, wheels, kernels."""

import zipfile

import nbformat
import pandas as pd

from kagglekit.files import write_json
from kagglekit.kaggle.metadata import kernel_metadata


def write_competition(folder, ids, labels, test_ids, fill):
    """train.csv, test.csv and sample_submission.csv: rows `ids` with the labels in turn; the sample says `fill`."""
    folder.mkdir(parents=True)
    rows = [(id, f"a {labels[n % len(labels)]} film, number {n}", labels[n % len(labels)]) for n, id in enumerate(ids)]
    pd.DataFrame(rows, columns=["id", "text", "label"]).to_csv(folder / "train.csv", index=False)
    test = pd.DataFrame({"id": test_ids, "text": [f"another film, number {n} of those" for n in range(len(test_ids))]})
    test.to_csv(folder / "test.csv", index=False)
    test[["id"]].assign(label=fill).to_csv(folder / "sample_submission.csv", index=False)
    return folder


def write_wheel(folder, name, version="1.0", tag="py3-none-any", needs=(), text=None):
    """A wheel of one package, whose text says its tag if nothing else is given."""
    told = f"{name}-{version}.dist-info"
    requires = "".join(f"Requires-Dist: {need}\n" for need in needs)
    files = {
        f"{name.lower()}/__init__.py": f"tag = {tag!r}\n" if text is None else text,
        f"{told}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{told}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in files.items():
            archive.writestr(file, content)
        archive.writestr(f"{told}/RECORD", "".join(f"{file},,\n" for file in (*files, f"{told}/RECORD")))
    return path


def write_kernel(folder, ref, cells, **options):
    """A kernel folder with a notebook of these cells (sources or whole cells)."""
    folder.mkdir(parents=True)
    cells = [nbformat.v4.new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    name = f"{ref.partition('/')[2]}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / name)
    write_json(folder / "kernel-metadata.json", kernel_metadata(ref, "", name, **options))
    return folder
