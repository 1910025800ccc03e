"""The sections of a report: the task, data, runs, blend, errors, calibration and submission of a work folder, as HTML.

Each takes a `Report` and returns pieces of a page; what it found goes into the head of the report as a sentence.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from kagglekit.competition.submission import check_submission, decide, label_rates, suspicious
from kagglekit.competition.task import read_sample, read_submission, read_test
from kagglekit.competition.text_columns import show_columns
from kagglekit.data.duplicates import duplicate_summary
from kagglekit.data.folds import fold_report
from kagglekit.ensembling.base_predictions import EnsembleData
from kagglekit.files.parquet import read_parquet
from kagglekit.reports.compare import show_curves
from kagglekit.reports.executed import Shown, read_sections
from kagglekit.reports.overview import Overview, RunRow, write_score
from kagglekit.reports.page import details, listing, paragraph, picture, table, text_rows
from kagglekit.reports.paired import pair, read_data, write_label, write_prediction
from kagglekit.reports.reproduce import show_way
from kagglekit.reports.run_settings import describe_method
from kagglekit.running.notebook import LAB
from kagglekit.samples import describe_held_back
from kagglekit.scoring.metrics import CLASSES, is_higher_better
from kagglekit.show import classes, plots
from kagglekit.show.reliability import expected_calibration_error, reliability, reliability_table
from kagglekit.show.texts import row_losses

WORST, NAMES, LINES = 8, 6, 8  # rows with the highest loss; names in a sentence, and runs in a picture
OPEN = ("Labels", "Lengths")  # sections of 1_eda that are not folded


@dataclass
class Report:
    """What the sections of a report are made of. findings: sentences for its head, collected by the sections."""

    view: Overview
    findings: list[str] = field(default_factory=list)

    @property
    def best(self) -> RunRow:
        """The run that is submitted, or else the best. Raises ValueError before there is one with a score."""
        if self.view.chosen is None or self.view.chosen.score is None:
            raise ValueError("No run has a score yet.")
        return self.view.chosen

    @cached_property
    def data(self) -> EnsembleData:
        """The best run with the labels and texts of its rows."""
        return read_data(self.view.work, [self.best.name])

    @cached_property
    def eda(self) -> dict[str, Shown]:
        """What 1_eda showed: in batch, or else in JupyterLab; nothing where there is no executed copy."""
        places = [self.view.work / "notebooks" / name for name in ("1_eda.ipynb", f"{LAB}/1_eda.ipynb")]
        with self.view.catching():
            return next(filter(None, (read_sections(place) for place in places if place.is_file())), {})
        return {}


def fill(report: Report, make: Callable[[Report], list[str]]) -> list[str]:
    """The parts of a section; where it cannot be made, why."""
    try:
        return make(report)
    except (ValueError, OSError) as error:
        return [paragraph(f"Not shown: {error}", "warn")]


def _some(names: Sequence[str]) -> str:
    """Names, and of many the first ones."""
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return f"{', '.join(names[:NAMES])}{more}"


def show_task(report: Report) -> list[str]:
    """What is to be predicted, and how `1_eda` found it."""
    task, view = report.view.task, report.view
    facts = {"kind of labels": task.get("kind"), "metric": view.metric}
    if view.metric:
        facts["metric"] += " (higher is better)" if is_higher_better(view.metric) else " (lower is better)"
    facts |= {"text": task.get("text"), "labels": task.get("labels"), "classes": task.get("classes")}
    facts |= {"the submission holds": task.get("form"), "rows of train": view.n_rows, "folds": view.n_folds}
    shown = pd.Series({name: value for name, value in facts.items() if value}, name="found", dtype=object)
    if task:
        kind = {"binary": "two classes", "multiclass": f"{len(task['classes'] or [])} classes"}.get(task["kind"])
        words = f"{_some(task['labels'])} ({kind or task['kind']}) from {_some(task['text'])}"
        report.findings.append(f"The task: {words}; {view.n_rows:,} labelled rows in {view.n_folds} folds.")
    parts = [table(shown.rename_axis("what").to_frame(), "The task")]
    if "Task" in report.eda:
        parts.append(report.eda["Task"].as_details("How it was found", shown=True))
    return parts


def show_data(report: Report) -> list[str]:
    """What the data are like, counted anew, and what `1_eda` showed of them."""
    parts = fill(report, describe_data) if report.view.task else []
    if more := [
        one.as_details(shown=name in OPEN) for name, one in report.eda.items() if name not in ("Task", "Result")
    ]:
        parts.append(paragraph("What `1_eda` showed, from its executed copy:", "soft"))
    return [*parts, *more]


def describe_data(report: Report) -> list[str]:
    """Lengths, labels, copies and folds, counted anew."""
    data = read_data(report.view.work)
    task = data.task
    names, test = task.classes or task.labels, read_test(task)
    lengths = {}
    for what, texts in (("train", data.train["text"]), ("test", test["text"])):
        for unit, count in (("characters", texts.str.len()), ("words", texts.str.split().str.len())):
            values = count.quantile([0, 0.5, 0.95, 1]).tolist()
            lengths[f"{what}, {unit}"] = dict(zip(("shortest", "median", "95 %", "longest"), values, strict=True))
    fold = read_parquet(report.view.work / "folds.parquet")
    parts = [table(pd.DataFrame(lengths).T.round(0).rename_axis("texts of"), "Lengths of the texts")]
    values = np.asarray(data.labels)
    if "Labels" not in report.eda:
        parts.append(picture(plots.label_balance(values, names), f"Texts of each label: {count_labels(values, names)}"))
    copies = duplicate_summary(data.train["text"], test["text"], values)
    parts.append(table(copies.drop(columns="example").round(3), "Identical texts"))
    balance = fold_report(values, fold["fold"].to_numpy(), names, fold.get("group"))
    return [*parts, table(balance, "Rows of each fold, and of each class or label (means of values)")]


def count_labels(labels: np.ndarray, names: Sequence[str]) -> str:
    """How many rows have each class or label; of values their range."""
    if labels.ndim == 1 or np.isin(labels, (0, 1)).all():
        counts = np.bincount(labels, minlength=len(names)) if labels.ndim == 1 else labels.sum(axis=0).astype(int)
        return ", ".join(f"{name} {count:,}" for name, count in zip(names, counts, strict=True))
    spans = zip(names, labels.min(axis=0), labels.max(axis=0), strict=True)
    return ", ".join(f"{name} {low:.4g} to {high:.4g}" for name, low, high in spans)


def show_runs(report: Report) -> list[str]:
    """The table of all runs, their scores and their curves."""
    rows, several = report.view.rows, [row for row in report.view.rows if row.score is not None]
    if not rows:
        return [paragraph("There are no runs yet.")]
    cells = {
        "score": [row.score_text for row in rows],
        "folds": [f"{len(row.folds)} of {report.view.n_folds or len(row.folds)}" if row.folds else "" for row in rows],
        "time": [row.time for row in rows],
        "settings that differ": ["; ".join([*row.notes, row.settings]) for row in rows],
    }
    frame = pd.DataFrame(cells, index=pd.Index([row.name for row in rows], name="run"))
    parts = [table(frame, f"All runs, by their out-of-fold {report.view.metric}; runs of fewer folds stand below")]
    whole = [row for row in several if not row.partial and row.metric == report.view.metric][:20]
    if len(whole) > 1:
        scores = pd.DataFrame(
            {"score": [row.score for row in whole], "standard_error": [row.error or 0.0 for row in whole]},
            index=[row.name for row in whole],
        )
        words = ", ".join(f"{row.name} {row.score_text}" for row in whole)
        parts.append(picture(plots.run_scores(scores, report.view.metric), f"Out-of-fold scores: {words}"))
    trained = [row.record for row in several if not row.members][:LINES]
    return [*parts, *show_curves(trained, report.view.metric)]


def show_blend(report: Report) -> list[str]:
    """Each blend: its score, its interval, and how its runs are weighted."""
    blends = [row for row in report.view.rows if row.members and row.score is not None]
    if not blends:
        return [paragraph("No runs were blended.")]
    row = report.best if report.best in blends else blends[0]
    weights, scores = row.record.weights, row.record.scores
    sentence = f"{row.name}: {row.metric} {row.score_text} out of fold"
    if "low" in scores:
        sentence += f", 95 % interval {write_score(scores['low'])} to {write_score(scores['high'])}"
    report.findings.append(f"{sentence}; a blend of {', '.join(row.members)}.")
    parts = [paragraph(f"{sentence}. Every row was predicted by a blend that was fitted without the row's fold.")]
    parts.append(listing(scores.get("warnings", [])))
    parts += fill(report, lambda report: compare_with_best(report, row))
    rows = {}
    for fold, method in weights.get("chosen", {}).items():
        means = {name: np.mean(values) for name, values in weights.get("weights", {}).get(fold, {}).items()}
        rows[fold] = {"method": method, **means}
    if rows:
        frame = pd.DataFrame.from_dict(rows, orient="index").round(3).rename_axis("without fold")
        caption = f"The weight of each run, fitted without each fold ({describe_method(row.record)})"
        parts.append(table(frame, caption))
    return parts


def compare_with_best(report: Report, row: RunRow) -> list[str]:
    """A blend against the best of its runs; nothing where these are not here."""
    singles = [one.name for one in report.view.rows if one.name in row.members and one.score is not None]
    if not singles:
        return []
    verdict = str(pair([singles[0], row.name], report.view.work, examples=0).differences[0])
    report.findings.append(f"{verdict}.")
    return [paragraph(f"Against its best run: {verdict}.")]


def show_errors(report: Report) -> list[str]:
    """Scores by class or target, what is taken for what, and the rows with the highest losses, of the best run."""
    data, run = report.data, report.data.runs[0]
    task, truth, given = data.task, np.asarray(data.labels)[run.rows], run.oof_array
    parts = [paragraph(f"Of {run.name}, out of fold: {len(run.rows):,} rows that its models did not learn from.")]
    if task.classes:
        guess = decide(task, given)
        wrong = pd.Series([(task.classes[a], task.classes[b]) for a, b in zip(truth, guess, strict=True) if a != b])
        common = [f"{a} taken for {b} ({n:,})" for (a, b), n in wrong.value_counts()[:3].items()]
        right = f"{np.mean(truth == guess):.1%} of {len(truth):,} rows right"
        words = f"{right}; most often wrong: {', '.join(common) or 'none'}"
        report.findings.append(f"{run.name}: {words}.")
    else:
        several = task.kind == "multilabel"
        words = "Found, missed and false alarms at 0.5 of" if several else "Predicted against true values of"
        words = f"{words} {_some(task.labels)}"
    parts.append(picture(plots.errors(task, truth, given), words, words))
    parts.append(table(classes.report(task, truth, given), "Each class, label or target"))
    losses = row_losses(task, truth, given)
    worst = np.argsort(-losses, kind="stable")[:WORST]
    rows = data.train.iloc[run.rows[worst]]
    frame = pd.DataFrame({
        "id": rows["id"].tolist(),
        "true": [write_label(task, truth[k]) for k in worst],
        "predicted": [write_prediction(task, given[k]) for k in worst],
        "loss": [f"{losses[k]:.2f}" for k in worst],
        "text": [show_columns(text) for text in rows["text"]] if "text" in rows else "",
    })  # fmt: skip
    return [*parts, "<h3>The rows it is most wrong about</h3>", text_rows(frame)]


def show_calibration(report: Report) -> list[str]:
    """Whether the probabilities of the best run are right on average."""
    data, run = report.data, report.data.runs[0]
    if data.task.kind not in (*CLASSES, "multilabel"):
        return [paragraph("The predictions are values, not probabilities: there is nothing to calibrate.")]
    truth = np.asarray(data.labels)[run.rows]
    bins = reliability_table(truth, run.oof_array, data.task.kind)
    error = expected_calibration_error(bins)
    gap = float(np.average(bins["gap"], weights=bins["rows"]))
    way = "under-confident" if gap > 0 else "over-confident"
    words = f"The probabilities of {run.name} are {error:.3f} away from how often they are right (ECE), in all {way}"
    report.findings.append(f"{words}.")
    figure = reliability(truth, {run.name: run.oof_array}, data.task.kind)
    text = "On the diagonal 80 % of the rows given 80 % are right; thresholds take probabilities off it on purpose."
    return [
        paragraph(f"{words}. {text}"),
        picture(figure, f"Reliability diagram. {words}"),
        details("The bins", table(bins.round(3), "Bins of the predicted probability")),
    ]


def show_submission(report: Report) -> list[str]:
    """The checks of submission.csv, and its score where labels of test were held back."""
    view, written = report.view, report.view.work / "submission.csv"
    if not written.is_file():
        return [
            paragraph(f"There is none yet: `python -m kagglekit.run 5_submit work=runs/{view.work.name} run=NAME`.")
        ]
    data, run = report.data, report.data.runs[0]
    task, frame = data.task, read_submission(data.task, written)
    checks = check_submission(frame, read_sample(task), task)
    lacking = sorted(set(range(view.n_folds)) - set(run.folds)) if view.submission.get("full") != "only" else []
    cautions = suspicious(task, np.asarray(data.labels), run.test_mean, run.folds, lacking)
    made = view.submission.get("run")
    words = f"submission.csv has {len(frame):,} rows{f', made from {made}' if made else ''}, and passes all checks"
    report.findings.append(f"{words}{f', with {len(cautions)} cautions' if cautions else ''}.")
    parts = [paragraph(f"{words}."), listing(f"CAUTION: {one}" for one in cautions)]
    if view.submission.get("true_score") is not None:
        sentence = f"True score: {describe_held_back(view.submission)}."
        parts.append(paragraph(sentence))
        report.findings.append(sentence)
    parts.append(table(checks, "Checks of the written file"))
    rates = label_rates(task, np.asarray(data.labels), run.test_mean)
    figure = plots.label_rates(rates)
    words = "; ".join(f"{name} {row.iloc[0]:.3g} and {row.iloc[1]:.3g}" for name, row in rates.head(12).iterrows())
    return [*parts, picture(figure, f"Labels of train, and predicted for test: {words}", "Train against predicted")]


SECTIONS = {
    "Task": show_task,
    "Data": show_data,
    "Runs": show_runs,
    "Blend": show_blend,
    "Errors": show_errors,
    "Calibration": show_calibration,
    "Submission": show_submission,
    "How to make it again": lambda report: show_way(report.view),
}
