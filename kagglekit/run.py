"""Run a notebook in batch: papermill, with checked parameters, a limit for the whole run, and a trustworthy `done`.

python -m kagglekit.run 3_train work=runs/bbc run=base folds=0 [-- epochs=3 ...] [--force] [--limit SECONDS]
python -m kagglekit.run 3_train work=runs/bbc run=base --slots auto    (a fold on each GPU at a time)
python -m kagglekit.run 3_train work=runs/bbc run=base on=ray://head:10001 [gpus=0.5] [cores=2] [storage=s3://...]
python -m kagglekit.run 1_eda data=bbc work=runs/bbc + 3_train work=runs/bbc run=base   (one after the other)
python -m kagglekit.run --summary runs/bbc [--html]
"""

import os
import signal
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from kagglekit.files import shorten
from kagglekit.running.arguments import choose_shared, parse_arguments, read_arguments
from kagglekit.running.command_line import LISTS, ON_RAY, Parser, Where, program, write_help
from kagglekit.running.notebook import find_notebook, report, run_notebook
from kagglekit.running.parameters import read_parameters
from kagglekit.running.terminal import CHAINED
from kagglekit.running.warm_kernels import find_imports, warm_process


def main(arguments: list[str] | None = None) -> int:
    """The command line, of one notebook or of several with + between them; the exit code, of the first that fails."""
    arguments = sys.argv[1:] if arguments is None else arguments
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    ends = [place for place, word in enumerate(arguments[:cut]) if word == "+"]
    lines = [arguments[a + 1 : b] for a, b in zip([-1, *ends], [*ends, cut], strict=True)]
    for number, line in enumerate(lines, 1):
        later = [one for one in lines[number:] if "--summary" not in one]
        with in_chain(bool(later)):
            code = run_line(line + arguments[cut:], later)
        if code:
            return code
    return 0


@contextmanager
def in_chain(more: bool) -> Iterator[None]:
    """Where more notebooks follow by themselves, none is proposed."""
    before = os.environ.get(CHAINED)
    if more:
        os.environ[CHAINED] = "1"
    try:
        yield
    finally:
        os.environ.pop(CHAINED, None)
        if before is not None:
            os.environ[CHAINED] = before


def run_line(arguments: list[str], later: list[list[str]]) -> int:
    """Run one notebook, or what else the arguments say; the exit code. later: the arguments of those that follow, whose
    names and values are checked first."""
    parser = Parser(program("run"), description=__doc__.split("\n\n")[0], epilog=f"{LISTS} {ON_RAY}", add_help=False)
    parser.takes = "name=value"
    parser.add_argument("notebook", nargs="?", help="such as 3_train; with --help: its parameters")
    parser.add_argument("parameters", nargs="*", metavar="name=value", help="after a lone --: for all that have it")
    parser.add_argument("-h", "--help", action="store_true", help="this, or the parameters of a notebook")
    parser.add_argument("--force", action="store_true", help="run it, also when it is done and nothing has changed")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="for the whole run; then the exit code is 124")
    parser.add_argument("--notebooks", type=Path, metavar="DIR", help="where the notebooks are")
    parser.add_argument(
        "--slots", metavar="SLOTS", help="auto or GPUs such as 0,1: a fold on each; cpu:2: two at a time"
    )
    parser.add_argument("--part", default="", help="what is run of a run that several processes make; see --slots")
    parser.add_argument("--summary", metavar="WORK", help="print what came out in this work folder")
    parser.add_argument("--html", action="store_true", help="with --summary: as a page too, WORK/summary.html")
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_intermixed_args(arguments[:cut] + arguments[cut + 1 :])
    own = len(parser.parse_intermixed_args(arguments[:cut]).parameters)

    def read(options: Namespace, count: int | None = None) -> tuple[Path, dict[str, Any], Where]:
        """The notebook of a line, the values of its first parameters, and where its folds are trained."""
        if not options.notebook:
            parser.error("which notebook?")
        notebook = find_notebook(options.notebook, options.notebooks)
        where, texts = Where.take(options.parameters[:count])
        if where.on and options.slots:
            raise ValueError("on= and --slots both say where folds are trained: leave one of them out")
        return notebook, parse_arguments(notebook, read_parameters(notebook), read_arguments(texts)), where

    try:
        if options.summary:
            show_summary(options.summary, options.html)
            return 0
        if options.help and not options.notebook:
            parser.print_help()
            return 0
        if options.help:
            print(write_help(find_notebook(options.notebook, options.notebooks)))
            return 0
        notebook, values, where = read(options, own)
        following = [read(parser.parse_intermixed_args(line))[0] for line in later]
        values = choose_shared(notebook, read_arguments(options.parameters[own:]), values) | values
        how = dict(folder=notebook.parent, force=options.force, limit=options.limit)
        if where.on:
            from kagglekit.kaggle.build import pack_step
            from kagglekit.running.on_ray.train_folds import run_on_ray

            run_on_ray(notebook, values, where, pack_step, **how)
            return 0
        if options.slots:
            from kagglekit.running.parallel import parse_slots, run_in_parallel  # it needs this module

            run_in_parallel(notebook, values, parse_slots(options.slots), **how)
            return 0
        for one in (notebook, *following) if (warm := warm_process()) else ():
            warm.load(find_imports(one))
        if options.part:
            Thread(target=end_with_parent, daemon=True).start()
        run_notebook(notebook, values, part=options.part, **how)
        return 0
    except KeyboardInterrupt as error:
        return report(error, "interrupted; the same command goes on from there", 130)
    except SystemExit as error:  # by a signal, see below
        if error.code != 143:
            raise
        return report(error, "ended by SIGTERM; the same command goes on from there", 143)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        return report(error, str(error), 2)
    except RuntimeError as error:
        return report(error, str(error), getattr(error, "code", 1))


def show_summary(work: str, html: bool) -> None:
    """Print the table of all runs of a work folder; html: write it as a page too."""
    from kagglekit.reports.summary import summarize  # they load what the other commands do not need

    print(summarize(work))
    if html:
        from kagglekit.reports.report import write_summary

        print(f"written: {shorten(write_summary(work))}")


def end_with_parent() -> None:
    """Stop when the process that started this one has closed our input, as it does when it dies, however that is."""
    while os.read(0, 1 << 16):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the kernel is stopped, and the copy kept
    sys.exit(main())
