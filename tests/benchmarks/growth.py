"""Cost as work grows: CPU time and peak memory by rows, length of texts, folds and runs of a blend, with the exponents.

`python -m tests.benchmarks.growth --picture growth.svg` from the root of the repository. Notebooks run as users run
them, each in a process of its own with one thread; the training step is timed alone, on texts of equal length. The
rows are halves of two tweets of one class, put together, and a quarter of the labels is drawn anew, so that as many
texts as one likes are hard to tell apart. An exponent is that of the last step: log(time / time) / log(size / size).
"""

import argparse
import math
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from kagglekit.model.backbones import find_backbone
from kagglekit.samples import write_sample
from tests.benchmarks.blends import write_files
from tests.benchmarks.train_speed import machine, time_kagglekit

ROOT = Path(__file__).parents[2]
ROWS, LENGTHS, FOLDS, RUNS = (1_000, 10_000, 100_000), (64, 128, 256, 512), (2, 5, 10), (5, 10, 20, 40)


def write_rows(folder: Path, rows: int) -> Path:
    """A competition of so many short texts of three classes, and a fifth of that to predict."""
    tweets = pd.read_csv(write_sample("tweets", folder / "tweets") / "train.csv", dtype=str, keep_default_na=False)
    rng, words = np.random.default_rng(rows), tweets["text"].str.split()
    members = {label: group.to_numpy() for label, group in words.groupby(tweets["sentiment"])}
    labels = rng.choice(tweets["sentiment"], rows + rows // 5)
    texts = []
    for label in labels:
        one, other = (members[label][rng.integers(len(members[label]))] for _ in range(2))
        texts.append(" ".join([*one[: (len(one) + 1) // 2], *other[len(other) // 2 :]]))
    wrong = rng.random(len(labels)) < 0.25
    labels[wrong] = rng.permutation(labels[wrong])
    table = pd.DataFrame({"id": np.arange(len(labels)), "text": texts, "sentiment": labels})
    data = folder / f"rows{rows}"
    data.mkdir()
    table[:rows].to_csv(data / "train.csv", index=False)
    table[rows:].drop(columns="sentiment").to_csv(data / "test.csv", index=False)
    table[rows:][["id"]].assign(sentiment=labels[0]).to_csv(data / "sample_submission.csv", index=False)
    return data


def run(*arguments: str) -> tuple[float, float]:
    """CPU seconds and peak memory in GiB of a notebook, of one thread and all its processes."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    watch = "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
    watch += "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
    watch += "print(code, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20)"
    command = [sys.executable, "-c", watch, sys.executable, "-m", "kagglekit.run", *arguments]
    ended = subprocess.run(command, cwd=ROOT, env=os.environ | threads, capture_output=True, text=True, check=True)
    code, seconds, memory = ended.stdout.split()[-3:]
    if code != "0":
        raise RuntimeError(f"{' '.join(arguments)} ended with {code}: {ended.stdout}{ended.stderr}")
    return float(seconds), float(memory)


def train_step(length: int, rows: int = 64) -> tuple[float, float]:
    """Seconds and peak memory of an epoch of MiniLM on texts of `length` tokens, in a process of its own."""
    texts, labels = ["word " * (length - 2)] * rows, np.arange(rows) % 3
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        backbone = find_backbone("minilm")
        process.submit(time_kagglekit, backbone, length, 3, texts, labels).result()  # the first one is slower
        found = process.submit(time_kagglekit, backbone, length, 3, texts, labels).result()
        return found[1], process.submit(peak_memory).result()


def peak_memory() -> float:
    """Peak memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(folder: Path, rows: tuple[int, ...], lengths, folds, runs):
    """Yields (what, its unit, size, seconds, memory in GiB)."""
    for size in rows:
        data, work = write_rows(folder, size), folder / f"work{size}"
        yield "1_eda", "rows", size, *run("1_eda", f"data={data}", f"work={work}")
        yield "3_train, TF-IDF", "rows", size, *run("3_train", f"work={work}", "run=tfidf", "backbone=tfidf")
    for size in folds:
        work = folder / f"folds{size}"
        run("1_eda", f"data={folder / f'rows{rows[0]}'}", f"work={work}", f"n_folds={size}")
        cost = run("3_train", f"work={work}", "run=tfidf", "backbone=tfidf")
        yield f"3_train, TF-IDF, {rows[0]:,} rows", "folds", size, *cost
    for size in lengths:
        yield "an epoch of MiniLM, 64 texts", "tokens", size, *train_step(size)
    for size in runs:
        files = folder / f"files{size}"
        files.mkdir()
        write_files(files, size, 5_000)
        cost = run("4_ensemble", f"work={folder / f'blend{size}'}", f"files={files}", "metric=log_loss")
        yield "4_ensemble, 5,000 rows", "runs", size, *cost


def exponent(sizes, costs) -> float:
    """How the cost grows in the last step: 1 is in proportion."""
    return math.log(costs[-1] / costs[-2]) / math.log(sizes[-1] / sizes[-2])


def table(found: pd.DataFrame) -> str:
    """Markdown: one line for each thing measured."""
    lines = ["| what | sizes | seconds | exponent | peak memory, GiB |", "|---|---|---|---:|---|"]
    for (what, unit), one in found.groupby(["what", "unit"], sort=False):
        sizes = ", ".join(f"{size:,}" for size in one["size"])
        seconds, memory = (", ".join(f"{v:.3g}" for v in one[name]) for name in ("seconds", "memory"))
        power = exponent(one["size"].tolist(), one["seconds"].tolist()) if len(one) > 1 else float("nan")
        lines.append(f"| {what} | {sizes} {unit} | {seconds} | {power:.2f} | {memory} |")
    return "\n".join(lines)


def draw(found: pd.DataFrame, path: str) -> None:
    """Time and memory against size, both on logarithmic axes; a line in proportion would rise like the dotted one."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullLocator

    units = list(dict.fromkeys(found["unit"]))
    figure, axes = plt.subplots(2, len(units), figsize=(3.2 * len(units), 6), squeeze=False, layout="constrained")
    for column, unit in enumerate(units):
        for row, (value, label) in enumerate((("seconds", "seconds"), ("memory", "peak memory, GiB"))):
            axis, part = axes[row][column], found[found["unit"] == unit]
            for what, one in part.groupby("what", sort=False):
                axis.loglog(one["size"], one[value], marker="o", label=what)
            low = part["size"].min()
            axis.loglog(
                [low, part["size"].max()], [part[value].min(), part[value].min() * part["size"].max() / low], "k:"
            )
            sizes = sorted(part["size"].unique())
            axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
            axis.xaxis.set_minor_locator(NullLocator())
            axis.set(xlabel=unit, ylabel=label)
            axis.legend(fontsize=7)
    figure.savefig(path)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.growth", description=__doc__.split("\n\n")[0])
    parser.add_argument("--picture", metavar="FILE", help="draw it, such as growth.svg")
    parser.add_argument("--quick", action="store_true", help="two small sizes each: shows only that it runs")
    options = parser.parse_args()
    sizes = ((100, 200), (16, 32), (2, 3), (2, 3)) if options.quick else (ROWS, LENGTHS, FOLDS, RUNS)
    with tempfile.TemporaryDirectory() as folder:
        rows, lengths, folds, runs = sizes
        found = []
        for one in measure(Path(folder), rows, lengths, folds, runs):
            print(*one, sep="\t", file=sys.stderr, flush=True)
            found.append(one)
    found = pd.DataFrame(found, columns=["what", "unit", "size", "seconds", "memory"])
    print(f"{table(found)}\n\n{machine()}")
    if options.picture:
        draw(found, options.picture)


if __name__ == "__main__":
    main()
