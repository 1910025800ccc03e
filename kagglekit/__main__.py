"""kagglekit COMMAND ...: run a notebook, open JupyterLab, build and push kernels for Kaggle, write a sample.

kagglekit run 3_train work=runs/bbc run=base     as python -m kagglekit.run
kagglekit compare base fgm work=runs/bbc         runs side by side
kagglekit report runs/bbc                        one page of HTML to send
kagglekit lab data/tweets                        JupyterLab on copies of the notebooks in runs/tweets
kagglekit kaggle build 3_train work=runs/bbc     as python -m kagglekit.kaggle
kagglekit sample tweets data/tweets              as python -m kagglekit.samples
"""

import signal
import sys
from importlib import import_module

COMMANDS = {
    "run": "kagglekit.run",
    "compare": "kagglekit.reports.compare",
    "report": "kagglekit.reports.report",
    "lab": "kagglekit.running.lab",
    "kaggle": "kagglekit.kaggle.__main__",
    "sample": "kagglekit.samples",
}


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    if arguments is None:  # called as a program
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a notebook's kernel is stopped too
        arguments = sys.argv[1:]
    if arguments and arguments[0] in COMMANDS:
        return import_module(COMMANDS[arguments[0]]).main(arguments[1:])
    asked = bool(arguments) and arguments[0] in ("-h", "--help")
    print(__doc__.strip(), file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main())
