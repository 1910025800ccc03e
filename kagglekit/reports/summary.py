"""The summary of a work folder in the terminal: the table of its runs, the submission, and what can be done next.

python -m kagglekit.run --summary runs/bbc [--html]
"""

import shlex
import textwrap
from pathlib import Path

from kagglekit.files import shorten
from kagglekit.progress import clock
from kagglekit.reports.overview import Overview, read_overview, write_score
from kagglekit.samples import describe_held_back

WIDTH, NARROW = 80, 28  # columns of a terminal, and the fewest in which settings stand beside the figures


def write_table(found: Overview) -> list[str]:
    """The lines of the table of all runs, at most 80 columns wide; settings go on below where they are long."""
    if not found.rows:
        return []
    mixed = len({row.metric for row in found.rows if row.metric}) > 1
    heads = ("run", "score" if mixed else found.metric or "score", "folds", "time", "settings that differ")
    cells = []
    for row in found.rows:
        score = f"{row.metric} {row.score_text}" if mixed and row.score is not None else row.score_text
        folds = f"{len(row.folds)} of {found.n_folds or len(row.folds)}" if row.folds else ""
        cells.append((row.name, score, folds, row.time, "; ".join([*row.notes, row.settings])))
    sizes = [max(len(line[k]) for line in [heads, *cells]) for k in range(4)]
    sizes[0], indent = min(sizes[0], 24), 4
    if (beside := sum(sizes) + 8) <= WIDTH - NARROW:
        indent = beside
    lines = []
    for name, *figures, words in [heads, *cells]:
        aligned = zip(figures, sizes[1:], (str.ljust, str.ljust, str.rjust), strict=True)
        line = "  ".join([name.ljust(sizes[0]), *(align(text, size) for text, size, align in aligned)])
        if len(name) > sizes[0]:
            lines, line = [*lines, name], "  ".join([" " * sizes[0], line[len(name) + 2 :]])
        wrapped = textwrap.wrap(words, WIDTH - indent, break_on_hyphens=False)
        if indent == beside:
            line, wrapped = f"{line}  {wrapped[0]}", wrapped[1:]
        lines += [line.rstrip(), *(" " * indent + text for text in wrapped)]
    return lines


def write_facts(found: Overview) -> list[tuple[str, str]]:
    """What stands below the table: name and words."""
    facts, best = [], found.chosen
    with found.catching():
        scores = best.record.scores if best else {}
        if "low" in scores:
            span = f"{write_score(scores['low'])} to {write_score(scores['high'])}"
            facts.append((best.name, "; ".join([f"95 % interval {span}", *scores.get("warnings", [])])))
    if (found.work / "submission.csv").is_file():
        run = found.submission.get("run")
        others = [
            path.name for path in sorted(found.work.glob("submission.*.csv")) if path.name != f"submission.{run}.csv"
        ]
        words = [str(shorten(found.work / "submission.csv")), f"from {run}" if run else ""]
        words += [f"beside it {', '.join(others)}" if others else ""]
        facts.append(("submission", ", ".join(filter(None, words))))
    if found.submission.get("true_score") is not None:
        facts.append(("true score", describe_held_back(found.submission)))
    others = {stem: mark for stem, mark in found.markers.items() if stem[0] in "15"}
    times = ", ".join(f"{stem} {clock(mark.get('seconds', 0.0))}" for stem, mark in others.items())
    if (found.work / "notebooks").is_dir():
        facts.append(("notebooks", f"{shorten(found.work / 'notebooks')}/{f': {times}' if times else ''}"))
    return facts


def write_next(found: Overview) -> list[tuple[str, str]]:
    """What can be done next, with the line to type."""
    scored, work = [row.name for row in found.rows if row.score is not None], shlex.quote(f"work={shorten(found.work)}")
    if not found.rows:
        return [("runs", f"none yet: python -m kagglekit.run 3_train {work} run=base")]
    lines = []
    if scored and found.task and not (found.work / "submission.csv").is_file():
        lines.append(("submission", f"none yet: python -m kagglekit.run 5_submit {work} run={scored[0]}"))
    if len(scored) > 1:
        lines.append(("compare", f"python -m kagglekit compare {' '.join(scored[:2])} {work}"))
    return (
        [*lines, ("report", f"python -m kagglekit report {shlex.quote(str(shorten(found.work)))}")] if scored else lines
    )


def summarize(work: str | Path) -> str:
    """All runs of a work folder, the submission, and how long the notebooks took, in lines of at most 80 columns."""
    found = read_overview(work)
    lines = write_table(found)
    facts = [*write_facts(found), *write_next(found), *(("damaged", problem) for problem in found.problems)]
    size = max(len(name) for name, _ in facts) if facts else 0
    for name, words in facts:
        first, *rest = textwrap.wrap(words, WIDTH - size - 2, break_on_hyphens=False, break_long_words=False)
        lines += [""] * (name == facts[0][0] and bool(lines)) + [f"{name:<{size}}  {first}"]
        lines += [" " * (size + 2) + line for line in rest]
    return "\n".join(lines)
