"""Chains of pretraining, as notebook runs: one to four stages before and with the labels.

`python -m tests.benchmarks.chains` from the root of the repository runs the notebooks on rows of two samples and prints
a table for the README. The domain is other texts of the same kind, without labels. One seed each: differences of less
than two standard errors mean nothing.
"""

import argparse
import csv
import tempfile
from pathlib import Path

from kagglekit.competition.infer import infer
from kagglekit.competition.task import read_train
from kagglekit.files import read_json
from kagglekit.progress import clock
from kagglekit.running.notebook import run_notebook
from kagglekit.samples import write_sample

CHAINS = {  # the runs before 3_train, of the next one's start
    "labels alone": [],
    "task text, labels": ["task"],
    "domain text, task text, labels": ["domain", "domain-task"],
    "domain text, task text, SimCSE, labels": ["domain", "domain-task", "domain-task-simcse"],
}


def run_chains(sample: str, folder: Path, rows: int, domain: int, steps: int, small: dict) -> list[str]:
    """Lines of the table: the out-of-fold score after each chain, and the seconds of its notebooks."""
    data, work = write_sample(sample, folder / sample, rows=rows), str(folder / f"work-{sample}")
    everything = write_sample(sample, folder / f"{sample}-all", rows=None)
    others = read_train(infer(everything)[0])["text"].iloc[2 * rows : 2 * rows + domain]  # none of train or test
    texts = folder / f"{sample}-domain.csv"
    others.to_frame().to_csv(texts, index=False, quoting=csv.QUOTE_ALL)  # tweets have carriage returns
    run_notebook("1_eda", {"data": str(data), "work": work, "n_folds": 3})
    options = {"work": work, "steps": steps, "max_length": small["max_length"]}
    runs = {
        "task": {"probe_every": steps // 4},
        "domain": {"texts": [str(texts)]},
        "domain-task": {"start": "domain"},
        "domain-task-simcse": {"start": "domain-task", "objective": "simcse"},
    }
    lines = []
    for number, (name, before) in enumerate(CHAINS.items(), 1):
        for run in before:
            run_notebook("2_pretrain", {**options, **runs[run], "run": run})
        start = before[-1] if before else ""
        run = f"stages{number}"
        run_notebook("3_train", {"work": work, "run": run, "start": start, "epochs": 3.0, **small})
        done = [f"2_pretrain.{part}" for part in before] + [f"3_train.{run}"]
        seconds = sum(read_json(Path(work) / "notebooks" / f"{part}.done.json")["seconds"] for part in done)
        told = read_json(Path(work) / run / "score.json")
        score = f"{told['score']:.4f} ± {told['standard_error']:.4f}"
        lines.append(f"| {sample} | {number}: {name} | {told['metric']} {score} | {clock(seconds)} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=450, help="of train")
    parser.add_argument("--domain", type=int, default=1500, help="texts of the domain")
    parser.add_argument("--steps", type=int, default=40, help="of each stage of pretraining")
    parser.add_argument("--samples", nargs="+", default=["tweets", "reviews-zh"])
    options = parser.parse_args()
    lines = ["| sample | stages | out of fold | notebooks |", "|---|---|---:|---:|"]
    with tempfile.TemporaryDirectory() as folder:
        for sample in options.samples:
            small = {"max_length": 64 if sample == "tweets" else 128}
            lines += run_chains(sample, Path(folder), options.rows, options.domain, options.steps, small)
    print("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
