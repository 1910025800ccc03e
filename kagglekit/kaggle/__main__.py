"""The command line of kagglekit.kaggle: to Kaggle and back."""

import os
import signal
import sys
from pathlib import Path

from kagglekit.files import resolve, shorten
from kagglekit.running.command_line import Parser, find_command, program
from kagglekit.running.notebook import report

PULLED = {("kaggle", "outputs"), ("kaggle", "logs")}  # folders that `pull` makes


def download(parser: Parser, texts: list[str]) -> int:
    """The files of a competition, unpacked in a folder for run_all.sh."""
    from kagglekit.kaggle.competition import describe_files, download

    parser.epilog = "Example: download feedback-prize-english-language-learning data/ell"
    parser.add_argument("competition", help="its name in the address of its page, or that address")
    parser.add_argument("folder", nargs="?", default="", help="a new one (data/NAME)")
    options = parser.parse_args(texts)
    folder = download(options.competition, options.folder)
    print(f"{shorten(folder)}: {describe_files(folder)}")
    print(f"next: ./run_all.sh {shorten(folder)}   or, step by step: {program('run 1_eda')} data={shorten(folder)}")
    return 0


def wheels(parser: Parser, texts: list[str]) -> int:
    """The library as a data set: its wheel, and those that Kaggle lacks."""
    from kagglekit.kaggle.wheels import EXTRAS, wheels_folder

    add_owner(parser)
    parser.add_argument("--to", default="runs/kaggle", metavar="DIR", help="where to put it (runs/kaggle)")
    parser.add_argument("--with", nargs="*", default=[], metavar="PACKAGE", dest="more", help="other pure packages")
    parser.add_argument("--bare", action="store_true", help=f"without {', '.join(EXTRAS)}")
    options = parser.parse_args(texts)
    extras = [*(() if options.bare else EXTRAS), *options.more]
    print(wheels_folder(resolve(options.to) / "kagglekit-wheels", options.owner, extras))
    return 0


def build(parser: Parser, texts: list[str]) -> int:
    """Notebooks as a kernel, and the files that they read as a data set."""
    from kagglekit.kaggle.build import build, parse_steps

    parser.epilog = "Example: build --owner me --competition bbc 3_train work=runs/bbc run=base + 4_ensemble run=blend"
    add_owner(parser)
    parser.add_argument("steps", nargs="+", metavar="NOTEBOOK name=value ...", help="several notebooks: + between them")
    parser.add_argument("--slug", default="", help="of the kernel; by default that of work and run")
    parser.add_argument("--title", default="", help="by default one that gives the slug")
    parser.add_argument("--competition", default="", metavar="SLUG", help="whose files are attached")
    parser.add_argument("--code-competition", action="store_true", help="its limit is 9 hours, and the test is hidden")
    parser.add_argument("--each-fold", action="store_true", help="a kernel for each fold, in place of one for all")
    parser.add_argument("--gpu", default="NvidiaTeslaT4", metavar="SHAPE", help="machine_shape (NvidiaTeslaT4, two T4)")
    parser.add_argument("--cpu", action="store_const", const="", dest="gpu", help="no GPU")
    parser.add_argument("--internet", action="store_true", help="on; code competitions want it off")
    parser.add_argument("--hours", type=float, help="until training stops (11.5; code competition: 8.5)")
    for kind, form in (("dataset", "OWNER/SLUG"), ("kernel", "OWNER/SLUG"), ("model", "OWNER/MODEL/FRAMEWORK/VAR/N")):
        more = ": its output, from which a run goes on" if kind == "kernel" else ""
        parser.add_argument(
            f"--{kind}", action="append", default=[], dest=f"{kind}s", metavar=form, help=f"attach it too{more}"
        )
    parser.add_argument("--wheels", default="", metavar="REF", help="data set of the library (OWNER/kagglekit-wheels)")
    parser.add_argument("--to", metavar="DIR", help="where to put it (WORK/kaggle)")
    cut = texts.index("--") if "--" in texts else len(texts)
    options = vars(parser.parse_intermixed_args(texts[:cut]))
    steps = parse_steps([*options.pop("steps"), *texts[cut:]])
    place = resolve(options.pop("to") or Path(steps[0].parameters["work"]) / "kaggle")
    if options.pop("code_competition") and options["hours"] is None:
        options["hours"] = 8.5
    built = build(steps, place, **options)
    print(*[place for place in [built.bundle, *built.kernels] if place], sep="\n")
    return 0


def lint(parser: Parser, texts: list[str]) -> int:
    """Check folders for what Kaggle lets pass, to your harm."""
    from kagglekit.kaggle.lint import lint_all, show

    parser.epilog = "Exit code 1 when there is an error."
    parser.add_argument("folders", nargs="+", type=resolve, metavar="DIR", help="of kernels and data sets")
    findings = lint_all(to_push(parser.parse_args(texts).folders))
    print(show(findings))
    return int(any(finding.level == "error" for finding in findings))


def dry_run(parser: Parser, texts: list[str]) -> int:
    """Run a kernel here as Kaggle would: no network, its limits."""
    from kagglekit.kaggle.dry_run import dry_run

    parser.add_argument("kernel", type=resolve, metavar="DIR", help="of the kernel")
    parser.add_argument("--source", action="append", default=[], metavar="KIND:REF=DIR", help="competition:bbc=my/data")
    parser.add_argument("--layout", default="new", choices=("new", "old"), help="of /kaggle/input")
    parser.add_argument("--hours", type=float, help="limit for the whole run (12; with --rerun 9)")
    parser.add_argument("--disk", type=float, default=20.0, metavar="GB", help="limit for /kaggle/working (20)")
    parser.add_argument("--rerun", action="store_true", help="as the scoring of a code competition, see --source")
    parser.add_argument("--to", metavar="DIR", help="keep /kaggle here, to look at")
    options = parser.parse_args(texts)
    for text in options.source:
        if "=" not in text:
            parser.error(f"--source {text}: write KIND:REF=DIR, such as competition:bbc-news=my/data")
    sources = {name: resolve(place) for name, _, place in (text.partition("=") for text in options.source)}
    run = dry_run(
        options.kernel,
        sources,
        layout=options.layout,
        hours=options.hours,
        disk=options.disk * 1e9,
        root=resolve(options.to) if options.to else None,
        rerun=options.rerun,
        keep=bool(options.to),
        progress=True,
    )
    print(run)
    return int(not run.ok)


def push(parser: Parser, texts: list[str]) -> int:
    """Push data sets, then kernels; nothing is sent twice."""
    from kagglekit.kaggle.client import wait
    from kagglekit.kaggle.push import push

    parser.add_argument("folders", nargs="+", type=resolve, metavar="DIR", help="of kernels and data sets")
    parser.add_argument("--message", default="", help="of new versions of data sets")
    add_wait(parser)
    options = parser.parse_args(texts)
    pushed = push(to_push(options.folders), options.message)
    print(*pushed, sep="\n")
    kernels = [one.ref for one in pushed if one.kind == "kernel"]
    if options.wait and kernels:
        wait(kernels, options.every)
    return 0


def status(parser: Parser, texts: list[str]) -> int:
    """How far kernels are."""
    from kagglekit.kaggle.client import status, wait

    parser.add_argument("kernels", nargs="+", metavar="OWNER/SLUG")
    add_wait(parser)
    options = parser.parse_args(texts)
    if options.wait:
        wait(options.kernels, options.every)
    for kernel in options.kernels:
        print(f"{kernel}  {status(kernel)}")
    return 0


def pull(parser: Parser, texts: list[str]) -> int:
    """Fetch the output of kernels, and merge its runs into a work folder."""
    from kagglekit.kaggle.pull import pull

    parser.add_argument("kernels", nargs="+", metavar="OWNER/SLUG")
    parser.add_argument("--work", required=True, type=resolve, help="the work folder, such as runs/bbc")
    options = parser.parse_args(texts)
    for place in pull(options.kernels, options.work):
        print(place)
    return 0


def submit(parser: Parser, texts: list[str]) -> int:
    """Submit a file, after a check, or the version of a kernel."""
    from kagglekit.kaggle.competition import submit_file, submit_kernel

    parser.add_argument("what", metavar="WORK|FILE|OWNER/SLUG", help="work folder or CSV; with --version a kernel")
    parser.add_argument("--competition", required=True, metavar="SLUG")
    parser.add_argument("--message", default="kagglekit")
    parser.add_argument("--version", type=int, help="of the kernel")
    parser.add_argument("--file", default="submission.csv", help="that the kernel writes")
    options = parser.parse_args(texts)
    if options.version is None:
        print(submit_file(resolve(options.what), options.competition, options.message))
    else:
        asked = (options.what, options.version, options.competition, options.message, options.file)
        print(submit_kernel(*asked))
    return 0


def budget(parser: Parser, texts: list[str]) -> int:
    """Hours of training and of inference, from a timed sample here."""
    from kagglekit.kaggle.budget import measure
    from kagglekit.running.arguments import parse_arguments, read_arguments
    from kagglekit.running.notebook import find_notebook
    from kagglekit.running.parameters import read_parameters

    parser.add_argument("parameters", nargs="*", metavar="name=value", help="of 3_train, such as max_length=512")
    parser.add_argument("--work", required=True, type=resolve, help="the work folder, such as runs/bbc")
    parser.add_argument("--test-rows", type=int, help="rows of the hidden test; by default those of test")
    parser.add_argument("--limit", type=float, default=12.0, help="hours of a session (12; code competitions: 9)")
    parser.add_argument("--seconds", type=float, default=60.0, help="for the sample (60)")
    options = parser.parse_intermixed_args(texts)
    notebook = find_notebook("3_train")
    values = parse_arguments(notebook, read_parameters(notebook), read_arguments(options.parameters))
    print(measure(options.work, values, options.seconds, limit=options.limit, test_rows=options.test_rows))
    return 0


COMMANDS = {
    "download": download,
    "wheels": wheels,
    "build": build,
    "lint": lint,
    "dry-run": dry_run,
    "push": push,
    "status": status,
    "pull": pull,
    "submit": submit,
    "budget": budget,
}


def to_push(folders: list[Path]) -> list[Path]:
    """Without the folders that `pull` makes beside kernels, so that runs/bbc/kaggle/* are kernels and data sets."""
    return [folder for folder in folders if (folder.parent.name, folder.name) not in PULLED]


def add_owner(parser: Parser) -> None:
    """Add --owner, which push and build need."""
    known = os.environ.get("KAGGLE_USERNAME")
    parser.add_argument("--owner", default=known, required=not known, help="your name at Kaggle (KAGGLE_USERNAME)")


def add_wait(parser: Parser) -> None:
    """Add the options of waiting for kernels."""
    parser.add_argument("--wait", action="store_true", help="until the kernels have run")
    parser.add_argument("--every", type=float, default=30.0, metavar="SECONDS", help="between two looks (30)")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = [f"{program('kaggle')} COMMAND, each with its options by --help:\n"]
        lines += [f"  {name:8} {command.__doc__}" for name, command in COMMANDS.items()]
        print(*lines, sep="\n", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    name, *texts = arguments
    try:
        command = COMMANDS[find_command(name, COMMANDS, program("kaggle"))]
        return command(Parser(program(f"kaggle {name}"), description=command.__doc__), texts)
    except KeyboardInterrupt as error:
        return report(error, "interrupted", 130)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        return report(error, str(error), 2)
    except (RuntimeError, MemoryError, FloatingPointError) as error:
        return report(error, str(error), getattr(error, "code", 1))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a dry run is stopped and cleared away
    sys.exit(main())
