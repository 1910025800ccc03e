"""kagglekit COMMAND ...: run notebooks, open JupyterLab, go to Kaggle.

kagglekit kaggle download NAME                   the files of a competition
kagglekit run 3_train work=runs/bbc run=base     a notebook in batch
kagglekit run 3_train --help                     its parameters
kagglekit predict runs/bbc blend rows.csv        new rows with saved models
kagglekit race work=runs/bbc budget=2h           which recipes help here
kagglekit compare base fgm work=runs/bbc         runs side by side
kagglekit ledger work=runs/bbc                   what helps, and how sure
kagglekit report runs/bbc                        one page of HTML to send
kagglekit lab data/tweets                        copies of them in JupyterLab
kagglekit kaggle build 3_train work=runs/bbc     kernels and submissions
kagglekit sample tweets data/tweets              a sample competition
"""

import signal
import sys
from importlib import import_module

COMMANDS = {
    "run": "kagglekit.run",
    "predict": "kagglekit.running.new_rows",
    "compare": "kagglekit.reports.compare",
    "report": "kagglekit.reports.report",
    "race": "kagglekit.gains.race",
    "ledger": "kagglekit.gains.ledger",
    "lab": "kagglekit.running.lab",
    "kaggle": "kagglekit.kaggle.__main__",
    "sample": "kagglekit.samples",
}


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    if arguments is None:  # called as a program
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a notebook's kernel is stopped too
        arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__.strip(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] not in COMMANDS:
        from kagglekit.running.command_line import find_command, program

        try:
            find_command(arguments[0], COMMANDS, program())
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
    return import_module(COMMANDS[arguments[0]]).main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
