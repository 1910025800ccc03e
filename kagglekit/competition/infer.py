"""Infer the task of a competition from its three files: what each step found, and why."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kagglekit.competition import checks, columns, forms, guess, labels
from kagglekit.competition.formats.label_lists import find_joiner, split_labels
from kagglekit.competition.mounts import is_below
from kagglekit.competition.settings import TaskSettings
from kagglekit.competition.tables import existing_files, open_tables
from kagglekit.competition.task import BY, Task, encode_labels, group_cells, row_ids
from kagglekit.competition.text_columns import SEPARATOR, is_empty, join_columns, rename_template, template_columns
from kagglekit.files import hash_files, resolve
from kagglekit.scoring.check import check_metric, describe_groups
from kagglekit.scoring.metrics import find_metric, is_higher_better, metric_column

TOLD = r"group|left out|not used|NOT CLEAR|rare classes|train|test|sample.submission|join .*|\w+ (of|in) (the )?\S+"


def infer(folder: str | Path, **given) -> tuple[Task, pd.DataFrame]:
    """Infer the task from train*, test* and sample_submission* in `folder`, and check that the files agree.

    given: fields of `TaskSettings`, which are used as they are, where they fit. Returns the task and a table of
    findings (columns what, found, reason). Raises FileNotFoundError, and ValueError that names file, column and the
    first bad row: data row 1 is the one below the header.
    """
    draft = Draft(resolve(folder), TaskSettings(**given))
    for step in (draft.find_ids, draft.find_labels, draft.find_kind, draft.find_form, draft.find_text):
        step()
    task = Task(**draft.found)
    draft.try_metric(task)
    return task, pd.DataFrame(draft.findings, columns=["what", "found", "reason"])


def summarise(task: Task, findings: pd.DataFrame) -> str:
    """The task in one line: what is predicted from what, what is not used, and what is not clear."""
    named = [
        [f'"{" ".join(name.split())}"' if re.search(r"\s", name) else name for name in names]
        for names in (task.text, task.label_columns or task.labels)
    ]
    text, labels = (", ".join([*names[:4], *([f"{len(names) - 4} more"] if len(names) > 4 else [])]) for names in named)
    line = f"{task.kind}, {text} -> {labels}, {task.metric}"
    told = findings[findings["what"].str.fullmatch(TOLD) & (findings["reason"] != "given")]
    told = told[told["found"] != "none"]
    found = told["found"].where(told["what"] != "NOT CLEAR", told["reason"])
    return "; ".join([line, *(told["what"] + ": " + found)])


class Draft:
    """What is known of a competition, step by step.

    train, test, sample: the tables, with the names of columns that they share; train without rows that are left out,
    and with the labels as the task has them. found: fields of the task. findings: what, found, reason.
    """

    def __init__(self, folder: Path, settings: TaskSettings):
        opened = open_tables(folder, settings)
        tables, self.settings, self.findings = opened.tables, settings, opened.notes
        self.names = {what: opened.files.get(what, f"the {what} that was made") for what in tables}
        self.found = {"data": str(folder), "files": opened.files, "encoding": opened.encoding}
        self.found |= {"reading": opened.reading, "header": opened.header}
        self.found |= {"fingerprint": hash_files(existing_files(folder, opened.files.values()))}
        self.found |= {"submission": list(tables["sample_submission"].columns)}
        self.tables, self.renamed = columns.rename(tables, {}, columns.match_names(tables))

    def tell(self, what: str, found: Any, reason: str) -> None:
        """Add a finding."""
        self.findings.append((what, _shown(found), reason))

    def choose(self, what: str, given: Any, rule: Callable, *known) -> Any:
        """What was given, else what a rule says: kept as a field of the task, and told."""
        value, reason = (given, "given") if given is not None else rule(*known)
        self.tell(what, value, reason)
        self.found[what] = value
        return value

    def named(self, given: str | list[str] | None) -> list[str] | None:
        """Columns that were given, with the names that they have here."""
        plain = {labels.plain_label(column): column for table in self.tables.values() for column in table.columns}
        given = [given] if isinstance(given, str) else given
        names = {column for table in self.tables.values() for column in table.columns}
        return [one if one in names else plain.get(labels.plain_label(one), one) for one in given] if given else None

    def find_ids(self) -> None:
        """The id, and the columns to submit."""
        given = self.named(self.settings.id)
        id, reason, more = columns.find_id(self.tables, given and given[0])
        self.tables, self.renamed = columns.rename(self.tables, self.renamed, more)
        self.train, self.test, self.sample = self.tables.values()
        sample, train = self.names["sample_submission"], self.names["train"]
        self.tell("id", id or None, reason)
        self.found |= {"id": id, "renamed": {what: names for what, names in self.renamed.items() if names}}
        checks.check_ids(self.tables, self.names, id)
        if not self.found["header"]:
            self.tell("header of the sample", None, f"{sample} begins with data; the submission will have none either")
        if old := next((old for old, new in more["train"].items() if new == id), ""):
            self.tell("ids of train", old, f"its only column of ids, as {train} has no {id!r}")
        elif id not in self.train.columns:
            self.tell("ids of train", "row1, row2, ...", f"{train} has no column {id!r}" if id else "rows go by order")
        self.targets = [column for column in self.sample.columns if column not in (id, "")]
        if copied := [old for old, new in more["sample_submission"].items() if not new and id]:
            self.tell(
                "columns of the sample",
                [old or "the nameless one" for old in copied],
                "those of test: the submission has them as they are",
            )

    def find_labels(self) -> None:
        """The columns of labels, how they are written, and rows without."""
        settings, train, targets, name = self.settings, self.train, self.targets, self.names["train"]
        rule = (labels.guess_labels, train, self.test, self.sample, targets, {self.found["id"]})
        written = self.choose("labels", self.named(settings.labels), *rule)
        checks.check_columns(train, name, self.found["id"], None, written)
        self.ids = pd.Series(row_ids(train, self.found["id"]), index=train.index)
        shown = self.shown = {column: self.sample[column][self.sample[column] != ""] for column in targets}
        self.known = {*map(str, settings.classes or []), *(shown[targets[0]] if len(targets) == 1 else targets)}
        for label in written:
            checks.check_objects(train[label], name, self.ids)
        votes = {*written}.isdisjoint(targets) and labels.find_votes(train, written) == written
        without = labels.unlabelled(train, written, "votes" if votes else "", self.known)
        spellings = guess.find_booleans(train[~without], written)
        plain = train[~without].replace({label: spellings for label in written}) if spellings else train[~without]
        rule = (plain, written, shown, settings.kind, settings.metric, settings.label_sep)
        layout, separator, reason = labels.guess_layout(*rule)
        if not layout:
            for label in written:
                checks.check_lists(train[label], name, self.ids)
        if layout != "list" and without.any():
            if not settings.drop_unlabelled:
                for label in written:
                    rows = without & labels.is_missing(train[label], self.known)
                    checks.check_missing(rows, train[label], name, self.ids)
            first = checks.name_row(int(without.argmax()), self.ids)
            self.tell(
                "left out", f"{without.sum():,} of {len(train):,} rows of train", f"without a label; first {first}"
            )
            train = train[~without]
        made = labels.name_labels(train, written, layout, separator, targets)
        checks.check_label_list(made if layout == "list" else [], train[written[0]], name)
        if layout:
            self.tell("layout of the labels", made, reason)
        if not layout and len(made) == 1:
            spellings = self._spellings(train[made[0]])
        self.found |= {"labels": made, "layout": layout, "label_columns": written if layout else []}
        self.found |= {"separator": separator, "spellings": spellings, "drop_unlabelled": settings.drop_unlabelled}
        cells = train[written[0]] if layout == "list" else []
        self.found["may_be_empty"] = any(not split_labels(cell, separator) for cell in cells)
        self.train = train.assign(**labels.decode(train, layout, written, made, separator, spellings))

    def _spellings(self, column: pd.Series) -> dict[str, str]:
        """Labels that are written in several ways, if they are to be one."""
        variants = guess.find_spellings(column, self.known)
        if not variants or column.nunique() > len(column) / 2:  # values, and no classes
            return {}
        merge = self.settings.merge_spellings
        advice = "are one class" if merge else "are different classes; merge_spellings=True makes one of them"
        pairs = [f"{old!r} and {new!r}" for old, new in variants.items()]
        self.tell("spellings", pairs, f"labels that differ by case, blanks or the writing of a number {advice}")
        return variants if merge else {}

    def find_kind(self) -> None:
        """The kind, and the classes in their order."""
        settings, train, name, made = self.settings, self.train, self.names["train"], self.found["labels"]
        if settings.kind is None and not self.found["layout"]:
            for label in made:
                checks.check_numbers(train[label], name, self.ids[train.index], self.shown.get(label, ()))
        rule = (guess.guess_kind, train, made, self.sample, self.targets, settings.metric)
        kind = self.choose("kind", settings.kind, *rule)
        checks.check_kind(kind, train, name, self.found["id"], made, bool(settings.classes))
        classes, shown = [str(one) for one in settings.classes or []], []
        if kind in ("binary", "multiclass", "ordinal"):
            said = {str(column): one for one, column in settings.mapping.items()}
            shown = [*labels.match_columns(set(train[made[0]]), self.targets)] or self.targets
            shown = [said[column] for column in self.targets] if {*said} == {*self.targets} else shown
            classes = self.choose("classes", classes or None, guess.guess_classes, train[made[0]], shown)
            shown = shown if len(shown) > 1 else []
        checks.check_classes(kind, classes, train, name, self.found["id"], made, shown)
        self.found["classes"] = classes
        values = train[made[0]].value_counts() if classes else {}
        if rare := {one: values.get(one, 0) for one in classes if values.get(one, 0) < 2}:
            said = [f"{one}: {count}" for one, count in rare.items()]
            self.tell("rare classes", said, "rows of train: no model that is scored can learn them")

    def find_form(self) -> None:
        """The form of the submission, what it writes for each class, and the metric."""
        settings, found, sample, targets = self.settings, self.found, self.sample, self.targets
        kind, made, file = found["kind"], found["labels"], self.names["sample_submission"]
        form = self.choose(
            "form", settings.form, forms.guess_form, kind, found["classes"], found["layout"], sample, targets
        )
        names, mapping, reason, unclear = found["classes"] or made, {}, "", ""
        if found["layout"] == "comma" and not any("." in cell for cells in self.shown.values() for cell in cells):
            found["reading"]["sample_decimal"] = ","
            self.tell("point of the numbers", "a comma", "as in train; the submission is written with it too")
        if settings.mapping:
            mapping, reason = forms.check_mapping(settings.mapping, names), "given"
        elif kind == "ordinal" and "sample_decimal" in found["reading"]:
            mapping = {name: name.replace(".", ",") for name in names}
        elif form == "columns" or (kind != "regression" and form != "probability"):
            rule = (form, made if kind == "ordinal" and form == "columns" else names, sample, targets, file)
            mapping, reason, unclear = forms.guess_mapping(*rule, certain=settings.form is not None)
        if mapping or reason:
            self.tell("mapping", [f"{name}: {value}" for name, value in mapping.items()] or None, reason)
        if unclear:
            self.tell("NOT CLEAR", "mapping", f"5_submit will write nothing: {unclear}")
        forms.check_form(form, kind, names, made, targets, mapping, file)
        metric = self.choose("metric", settings.metric, guess.guess_metric, kind, form, made)
        check_metric(metric, kind)
        if form == "probability" and find_metric(metric).decides:
            raise ValueError(f"metric={metric!r} counts classes, and form='probability' submits none: say form='label'")
        self.tell("better", "higher" if is_higher_better(metric) else "lower", f"{metric} says so")
        several = form == "list" or forms.names_of(form)
        cells = self.tables["train"][found["label_columns"][0]] if form == "list" else ()
        joiner = find_joiner(sample[targets[0]], cells, names, found["separator"] or " ") if several else ""
        found |= {"mapping": mapping, "unclear": unclear, "joiner": joiner, "bounds": []}
        if kind == "regression" and settings.clip:
            values = self.train[made].to_numpy(dtype=object).astype(np.float64)
            found["bounds"] = np.stack([values.min(axis=0), values.max(axis=0)], axis=1).tolist()
            said = [f"{low:g} to {high:g}" for low, high in found["bounds"]]
            self.tell("range", said, "of train: the submission is kept inside it; clip=False would not")

    def find_text(self) -> None:
        """The columns of text, the group, and what is left out."""
        settings, found, train, test = self.settings, self.found, self.train, self.test
        answers = {*found["labels"], *found["label_columns"]}
        taken = {found["id"], *answers}
        if other := columns.match_texts(train, test, taken):
            more = {what: other if what == "test" else {} for what in self.tables}
            self.tables, self.renamed = columns.rename(self.tables, self.renamed, more)
            test = self.test = self.tables["test"]
            found["renamed"] = {what: names for what, names in self.renamed.items() if names}
            self.tell("text of test", [*other], f"the only column of words, as {next(iter(other.values()))!r} in train")
        group = self.named(settings.group) or [settings.group]
        joins = [f"{name}: {why}" for what, name, why in self.findings if what == "not used" and "are not there" in why]
        rule = (columns.guess_text, train, test, taken | {*group}, found["id"], "; ".join(joins))
        pattern = settings.template and rename_template(settings.template, lambda name: self.named(name)[0])
        text = self.choose("text", template_columns(pattern) if pattern else self.named(settings.text), *rule)
        checks.check_text(text, answers, train, test, self.names, pattern)
        if pattern:
            self.tell("template", pattern, "given")
        elif len(text) > 1:
            found["text_separator"] = SEPARATOR
            how = "models read the tokenizer's separator between them; template= would make one text of them"
            self.tell("columns of a text", text, how)
        found["pattern"] = pattern
        rule = (columns.guess_group, train, test, taken, join_columns(train, text), text)
        group = found["group"] = self.choose("group", group[0], *rule) or None
        checks.check_columns(train, self.names["train"], found["id"], group, found["labels"])
        for what, table in (("train", train), ("test", test)):
            empty = [row for row, value in enumerate(join_columns(table, text)) if is_empty(value)]
            if empty:
                first = f"{checks.name_row(table.index[empty[0]])} (id {row_ids(table, found['id'])[empty[0]]!r})"
                self.tell(
                    f"empty texts in {what}", f"{len(empty):,} of {len(table):,}", f"kept as empty; first {first}"
                )
        measured = metric_column(found["metric"])
        used = {*taken, *text, group, measured, *(measured.split(",") if measured else ())}
        if rest := columns.left_out(self.tables["train"], test, used):
            self.tell("not used", rest, "text=, group= or time= here, and features= of 3_train, would use them")
        shared = [name for name in train if name in test and name not in used]
        for name in (one for one in shared if columns.kind_of_cells(train[one])[0] == "images"):
            first = next(cell.strip() for cell in train[name] if cell.strip())
            there = "lies" if is_below(Path(found["data"]), first) else "does not lie"
            how = f'features={{"images": "{name}", "images_by": "google/vit-base-patch16-224"}} of 3_train reads them'
            self.tell("images", name, f"{first} {there} below {found['data']}; {how}")

    def try_metric(self, task: Task) -> None:
        """Whether the metric works on these labels, and which groups it is a mean over."""
        column, train, labels = metric_column(task.metric), self.train, {task.id, *task.labels, *task.label_columns}
        groups = group_cells(train, task.metric)
        if column and (groups is None or labels & {column, *column.split(",")}):
            others = ", ".join(name for name in train.columns if name not in labels)
            raise ValueError(f"metric={task.metric!r}: after _by: comes a column of {self.names['train']}: {others}")
        truth = encode_labels(task, train.assign(**{BY: groups}) if column else train)
        check_metric(task.metric, task.kind, truth, len(task.columns))
        if column:
            found, reason = describe_groups(task.metric, task.kind, truth, len(task.columns))
            empty = int((train[column].str.strip() == "").sum()) if column in train else 0
            reason += f"; {empty:,} rows have an empty cell, and are a group" if empty else ""
            self.tell("groups of the metric", found, reason)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        more = f" ... ({len(value)})" if len(value) > 12 else ""
        return ", ".join(value[:12]) + more
    return str(value) if value or value == 0 else "none"
