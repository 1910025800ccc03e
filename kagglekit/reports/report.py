"""The report of a work folder: one page with the task, data, runs, blend, errors, calibration, submission, and the way.

    kagglekit report runs/bbc [out.html]

Figures and scores are made again from the records of the runs, so that they are those of the files as they are now, and
hold for runs that were trained in JupyterLab or on Kaggle too. What `1_eda` found is taken from its executed copy. A
file that is damaged or lacking costs its own section alone, and is named.
"""

import sys
from pathlib import Path

from kagglekit.files import resolve, shorten
from kagglekit.reports.overview import Overview, read_overview
from kagglekit.reports.page import Section, listing, paragraph, write_page
from kagglekit.reports.sections import SECTIONS, Report, fill, show_runs
from kagglekit.reports.summary import write_facts
from kagglekit.running.command_line import Parser, program


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = Parser(program("report"), description=__doc__.split("\n")[0])
    parser.add_argument("work", help="the work folder, such as runs/bbc")
    parser.add_argument(
        "out", nargs="?", help="the page to write, or a folder for it; if there is none: WORK/report.html"
    )
    options = parser.parse_args(arguments)
    try:
        path = write_report(options.work, options.out)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"written: {shorten(path)} ({path.stat().st_size / 1e6:.1f} MB, one file that opens anywhere)")
    return 0


def write_report(work: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a work folder, and return its path. Raises FileNotFoundError as `read_overview`."""
    report = Report(read_overview(work))
    sections = [Section(title, fill(report, make)) for title, make in SECTIONS.items()]
    view = report.view
    lead = [listing(report.findings), *_warn(view)]
    path = resolve(out or view.work)
    if path.is_dir():
        path = path / "report.html"
    title = f"{view.work.name}: {view.metric or 'text classification'}"
    if (best := view.chosen) and best.score is not None:
        title = f"{view.work.name}: {best.metric} {best.score_text} ({best.name})"
        lead = [listing(f"{best.name}: {note}" for note in best.notes), *lead]
    return write_page(path, title, lead, sections, view.work, view.task.get("data", ""))


def write_summary(work: str | Path) -> Path:
    """Write `summary.html` into a work folder: its runs as a table, with their scores and curves; returns its path."""
    report = Report(read_overview(work))
    view, sections = report.view, [Section("Runs", fill(report, show_runs))]
    lead = [listing(f"{name}: {words}" for name, words in write_facts(view)), *_warn(view)]
    path, data = view.work / "summary.html", view.task.get("data", "")
    return write_page(path, f"Runs of {view.work.name}", lead, sections, view.work, data)


def _warn(view: Overview) -> list[str]:
    return [paragraph(f"Damaged or lacking: {problem}", "warn") for problem in view.problems]
