"""Predict new rows with the saved models of a run: `kagglekit predict runs/bbc blend rows.csv [out.csv]`."""

import sys
from pathlib import Path

from kagglekit.files import read_json, resolve, shorten
from kagglekit.options import did_you_mean
from kagglekit.running.beforehand import RUN_FILES
from kagglekit.running.command_line import Parser, program


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    words = """Predict the rows of a file with a run: each id, or number of a row, the probability of each class, or
    each value, and what is predicted. The file needs the columns of text, and those that the run has as features."""
    parser = Parser(program("predict"), description=words)
    parser.add_argument("work", help="the work folder, such as runs/bbc")
    parser.add_argument("run", help="trained or blended, such as blend")
    parser.add_argument("rows", help="CSV, TSV, parquet or JSON, as train and test may be")
    parser.add_argument("out", nargs="?", help="the file to write; if there is none: ROWS.RUN.csv beside the rows")
    options = parser.parse_args(arguments)
    try:
        rows = resolve(options.rows)
        stem = Path(rows.name.removesuffix(".gz").removesuffix(".zip")).stem
        out = resolve(options.out) if options.out else rows.with_name(f"{stem}.{options.run}.csv")
        if options.out and out.is_file():
            raise ValueError(f"out: {shorten(out)} is there already: name a new file, or delete it")
        check(options.work, options.run, rows, out)
        count = predict_rows(options.work, options.run, rows, out)
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError, ModuleNotFoundError, MemoryError, FloatingPointError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{count:,} rows: {shorten(out)}")
    return 0


def check(work: str | Path, run: str, rows: Path, out: Path) -> None:
    """Raise FileNotFoundError or ValueError for what is not there, before anything heavy is loaded."""
    work = resolve(work)
    if not (work / "task.json").is_file():
        meant = did_you_mean(work.name, [path.parent.name for path in work.parent.glob("*/task.json")])
        raise FileNotFoundError(f"{shorten(work)} is no work folder: it has no task.json{meant}")
    there = sorted({path.parent.name for file in RUN_FILES for path in work.glob(f"*/{file}")})
    if run not in there:
        meant = did_you_mean(run, there) or f"; it has {', '.join(there) or 'no runs yet: begin with 3_train'}"
        raise FileNotFoundError(f"{shorten(work)} has no run {run!r}{meant}")
    if not rows.is_file():
        near = [path.name for path in rows.parent.iterdir()] if rows.parent.is_dir() else []
        raise FileNotFoundError(f"there is no file {shorten(rows)}{did_you_mean(rows.name, near)}")
    if out.suffix.lower() != ".csv" or out == rows or out.is_dir() or not out.parent.is_dir():
        raise ValueError(f"out: {shorten(out)}: name a new file that ends with .csv, in a folder that is there")
    params = work / run / "params.json"
    if params.is_file() and "objective" in read_json(params).get("recipe", {}):
        raise ValueError(f"{run!r} was pretrained and predicts no labels: name a run of 3_train or 4_ensemble")


def predict_rows(work: str | Path, run: str, rows: Path, out: Path) -> int:
    """Write the predictions of the rows of a file, see `Inference`; returns how many.

    The table has the id (or the number of the row, from 1), a column for each class or target, and `predicted`: the
    class, or those of several labels from 0.5 on, with blanks between; beside a class of that name `id_`, `predicted_`.
    Values of a regression stay within the range of train where the task keeps it; they are what is predicted. TF-IDF
    and frozen embeddings are fitted again; the former counts the words of train and of these rows, and so depends a
    little on which rows come together.
    """
    import numpy as np

    from kagglekit.competition.labelled import read_new
    from kagglekit.competition.task import encode_labels, load_task, read_train
    from kagglekit.files import replacing
    from kagglekit.learners.inference import Inference
    from kagglekit.runs.tables import read_folds
    from kagglekit.time_budget import TimeBudget
    from kagglekit.training.predict import feature_columns

    task = load_task(work)
    new = read_new(task, rows, feature_columns(work, run))
    train = read_train(task)
    known = (read_folds(work, train["id"]), train, new, encode_labels(task, train))
    values = Inference(work, task, *known).predict(run, TimeBudget()).test_mean
    if task.bounds:
        values = np.clip(values, *np.array(task.bounds, dtype=values.dtype).T)
    with replacing(out) as part:
        tabulate(task, new["id"], values).to_csv(part, index=False)
    return len(new)


def tabulate(task, ids, values):
    """The table of `predict_rows`. values: (rows, columns of the task)."""
    import numpy as np
    import pandas as pd

    from kagglekit.competition.submission import decide

    id, predicted = (name + "_" * (name in task.columns) for name in (task.sample_id or task.id or "row", "predicted"))
    table = pd.DataFrame(values, columns=task.columns)
    table.insert(0, id, list(ids))
    if task.classes:
        table[predicted] = [task.classes[place] for place in decide(task, values)]
    elif task.kind == "multilabel":
        table[predicted] = [" ".join(np.array(task.labels)[row >= 0.5]) for row in values]
    return table
