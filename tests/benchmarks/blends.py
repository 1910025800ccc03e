"""How long `4_ensemble` takes on a folder of imported predictions, its peak memory, and the nested score of each way.

`python -m tests.benchmarks.blends` from the root of the repository makes 35 files of 36,765 rows and 3 classes, runs
the whole notebook on them in a process of its own, one thread, and prints a row of the table in README.md;
`--checkout FOLDER` does so with the library of another checkout, `--ways` scores every way by itself too. The models
are made up: five families of networks that err much alike, of different skill, some over- and some under-confident.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from scipy.special import softmax

from kagglekit.ensembling.base_predictions import read_file_predictions
from kagglekit.ensembling.blend import make_stack_input
from kagglekit.ensembling.crossfit import cross_fit
from kagglekit.ensembling.methods import BlendPlan
from kagglekit.scoring.metrics import score

CLASSES = ("Adequate", "Effective", "Ineffective")
SHARES = (0.57, 0.25, 0.18)  # of the classes
ROOT = Path(__file__).parents[2]


def write_files(folder: Path, files: int, rows: int, seed: int = 0) -> None:
    """Write labels.csv and a file of predictions for each model."""
    rng, size = np.random.default_rng(seed), len(CLASSES)
    labels = rng.choice(size, rows, p=SHARES)
    truth, hard = np.eye(size)[labels], rng.gamma(2, 0.5, (rows, 1))
    common, families = rng.normal(size=(rows, size)), rng.normal(size=(5, rows, size))
    ids = [f"{number:06x}" for number in rng.permutation(16**6)[:rows]]
    pd.DataFrame({"id": ids, "label": np.array(CLASSES)[labels]}).to_csv(folder / "labels.csv", index=False)
    for number in range(files):
        skill, heat = rng.uniform(0.9, 1.6), rng.uniform(0.6, 1.8)
        evidence = skill * (truth + 0.6 * hard * common) + 0.2 * families[number % 5]
        noise = rng.uniform(0.1, 0.25) * rng.normal(size=(rows, size))
        probs = softmax((np.log(SHARES) + evidence + noise) / heat, axis=1)
        table = pd.DataFrame(probs.astype(np.float32), columns=CLASSES).round(6)
        table.insert(0, "id", ids)
        table.sample(frac=1, random_state=number).to_csv(folder / f"model_{number:02}.csv", index=False)


def run_notebook(checkout: Path, files: Path, work: Path, metric: str, limit: float | None) -> dict:
    """CPU seconds, seconds and peak memory (GiB) of `4_ensemble`, with what stands in score.json if it came to it."""
    command = [sys.executable, "-m", "kagglekit.run", "4_ensemble", f"work={work}", f"files={files}"]
    command += [f"metric={metric}", *([f"--limit={limit}"] if limit else [])]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ended = subprocess.run(command, cwd=checkout, env=os.environ | threads | {"PYTHONPATH": str(checkout)}, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {"cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}
    found |= {"seconds": time.perf_counter() - start, "memory": after.ru_maxrss / 2**20, "exit code": ended.returncode}
    results = work / "blend" / "score.json"
    return found | (json.loads(results.read_text()) if results.is_file() else {})


def score_ways(files: Path, metric: str) -> pd.Series:
    """The cross-fitted score of every way that `auto` tries, each by itself."""
    data = read_file_predictions(files, metric=metric)
    inputs = make_stack_input(data.runs, data.task.kind, metric, data.features)
    folds, ways = data.runs[0].oof["fold"].to_numpy(), BlendPlan(data.task.kind, metric).candidates_made()
    found = {name: score(metric, data.labels, cross_fit(way, inputs, data.labels, folds)) for name, way in ways.items()}
    return pd.Series(found, name=metric)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--files", type=int, default=35)
    parser.add_argument("--rows", type=int, default=36_765)
    parser.add_argument("--metric", default="log_loss")
    parser.add_argument("--checkout", type=Path, default=ROOT, help="of the library to measure")
    parser.add_argument("--limit", type=float, help="seconds until the notebook is stopped")
    parser.add_argument("--ways", action="store_true", help="the score of each way by itself, too")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        files = Path(folder) / "files"
        files.mkdir()
        write_files(files, options.files, options.rows)
        found = run_notebook(options.checkout, files, Path(folder) / "work", options.metric, options.limit)
        print("| files x rows | metric | CPU seconds | seconds | peak memory, GiB | nested score | plain mean |")
        print(
            f"| {options.files} x {options.rows:,} | {options.metric} | {found['cpu']:.0f} | {found['seconds']:.0f} | ",
            end="",
        )
        print(f"{found['memory']:.2f} | {found.get('cross_fitted', 'none')} | {found.get('mean_score', 'none')} |")
        if options.ways:
            print(score_ways(files, options.metric).round(5).to_string())


if __name__ == "__main__":
    main()
