"""Progress of a notebook: a bar in JupyterLab, one line in the terminal when `kagglekit.run` runs it."""

import json
import os
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

VARIABLE = "KAGGLEKIT_PROGRESS"  # names the file through which a kernel reports to its runner
EVERY = 0.5  # seconds between two reports; other calls cost almost nothing


def clock(seconds: float) -> str:
    """72 -> `1:12`, 3672 -> `1:01:12`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Progress:
    """The progress of one phase, such as a fold's training.

        with Progress("fold 2/5", total=225) as progress:
            for step, batch in enumerate(batches, 1):
                ...
                progress.update(step, loss=lambda: loss.item(), lr=rate)

    Figures are numbers, texts, or functions without arguments, which are called only when a report is due (twice a
    second), so that no step waits for the device. A resumed phase begins at `start`, which the rate leaves out. Under
    the runner the notebook itself shows only a closing line.
    """

    _closed: ClassVar[list[str]] = []  # the closing lines of this kernel's phases
    _said: ClassVar[list[str]] = []  # the lines of `say`

    def __init__(self, phase: str, total: int, unit: str = "step", start: int = 0):
        self.phase, self.total, self.unit, self.start = phase, total, unit, start
        self.done, self.figures = start, {}
        self.began, self.due, self.bar = time.monotonic(), 0.0, None
        self.file = os.environ.get(VARIABLE)
        if not self.file:
            from tqdm.auto import tqdm

            self.bar = tqdm(total=total, desc=phase, unit=unit, initial=start, mininterval=EVERY, dynamic_ncols=True)
        self.update(start)

    def update(self, done: int, **figures) -> None:
        """Report that `done` of `total` units are done."""
        self.done = done
        if figures:
            self.figures = figures
        if (now := time.monotonic()) >= self.due:
            self.due = now + EVERY
            self._report()

    def close(self) -> None:
        """End the phase; one left by an exception has no closing line."""
        if self.file:
            done = self.done - self.start
            line = f"{self.phase}: {done} {self.unit}{'s' * (done != 1)} in {clock(time.monotonic() - self.began)}"
            print(line)
            self._closed.append(line)
        self._report()
        if self.bar is not None:
            self.bar.close()

    def __enter__(self):
        return self

    def __exit__(self, error, *_):
        if error is None:
            self.close()
        elif self.bar is not None:
            self.bar.close()

    def _report(self) -> None:
        values = {name: value() if callable(value) else value for name, value in self.figures.items()}
        figures = {name: str(v) if isinstance(v, (str, int)) else f"{v:.3g}" for name, v in values.items()}
        if self.bar is not None:
            self.bar.set_postfix(figures, refresh=False)
            self.bar.update(self.done - self.bar.n)
            return
        elapsed, steps = time.monotonic() - self.began, self.done - self.start
        words = [self.phase, f"{self.unit} {self.done}/{self.total}", *(f"{n} {v}" for n, v in figures.items())]
        if steps > 0:
            words.append(f"{clock(elapsed / steps * (self.total - self.done))} left")
        _write(self.file, "  ".join(words))


def say(text: str) -> None:
    """Print a line that the terminal of the runner shows too."""
    print(text)
    if file := os.environ.get(VARIABLE):
        Progress._said.append(text)
        _write(file, "")


def _write(file: str, line: str) -> None:
    state = {"line": line, "closed": Progress._closed, "said": Progress._said}
    with suppress(OSError):  # a full disk must not end a training for a line in the terminal
        Path(file).write_text(json.dumps(state) + "\n", encoding="utf-8")


class TerminalLine:
    """The runner's side: the last report in `file` as one line that is overwritten on a terminal.

    Where the output is no terminal, a plain line every `every` seconds, and one for each phase that ended. What the
    kernel has to `say` keeps its line on both.
    """

    def __init__(self, title: str, file: Path, stream=None, every: float = 30):
        self.title, self.file, self.stream, self.every = title, file, stream or sys.stdout, every
        self.began = self.printed = time.monotonic()
        self.state = {"line": "", "closed": []}
        self.printed_lines = self.printed_said = 0  # closing lines, and those of `say`, already printed

    def refresh(self) -> None:
        """Read the file, and show it when a line is due."""
        with suppress(FileNotFoundError, json.JSONDecodeError):  # not written yet, or being written: next time
            self.state = json.loads(self.file.read_text(encoding="utf-8"))
        said = self.state.get("said", [])[self.printed_said :]
        self.printed_said += len(said)
        whole = "\r{}  {}\x1b[K\n" if self.stream.isatty() else "{}  {}\n"
        self.stream.writelines(whole.format(self.title, text) for text in said)
        now = time.monotonic()
        line = f"{self.title}  {self.state['line'] or f'running for {clock(now - self.began)}'}"
        if self.stream.isatty():
            width = shutil.get_terminal_size().columns
            self.stream.write(f"\r{line[: width - 1]}\x1b[K")
        else:
            ended = self.state["closed"][self.printed_lines :]
            self.printed_lines += len(ended)
            if ended or now - self.printed >= self.every:
                self.printed = now
                self.stream.writelines(f"{text}\n" for text in [f"{self.title}  {text}" for text in ended] or [line])
        self.stream.flush()

    def close(self) -> None:
        """Show the last state and leave the terminal's line empty."""
        self.refresh()
        if self.stream.isatty():
            self.stream.write("\r\x1b[K")
            self.stream.flush()
