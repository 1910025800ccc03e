"""The terminal of a run, through a pseudo-terminal: what moves, what stays, and how it ends."""

import io
import os
import sys
from select import select

import nbformat
import pytest

from kagglekit.files import write_json
from kagglekit.running.notebook import find_notebook
from kagglekit.running.terminal import CHAINED, TerminalLine, describe, sections
from tests.screen import Screen, open_terminal, resize

FOLD = {"phase": "fold 1 (2 of 5)", "at": "step 140/225", "figures": ["loss 0.412", "score 0.912"], "ends": 1200.0}


@pytest.fixture
def window(tmp_path):
    """A line in a terminal of 80 columns; `show(**state)`: the kernel reports that; `screen()`: what is seen."""

    class Window:
        def __init__(self):
            self.ours, self.theirs = open_terminal()
            self.stream, self.seen = os.fdopen(self.theirs, "w"), Screen()
            self.line = TerminalLine("3_train base", tmp_path / "state.json", {"1 + 1": "Tokens (3 of 9)"}, self.stream)

        def show(self, **state):
            write_json(self.line.file, state)
            self.line.refresh()
            return self.screen()

        def screen(self):
            self.stream.flush()
            while select([self.ours], [], [], 0.05)[0]:  # what was written takes a moment to arrive
                self.seen.feed(os.read(self.ours, 1 << 16).decode())
            return self.seen.lines

    window = Window()
    yield window
    window.stream.close()
    os.close(window.ours)


def test_one_line_moves_and_what_is_said_stays(now, window):
    window.line.refresh()
    assert window.screen() == ["3_train base  starting  0:00"]
    now[0] += 7
    window.line.enter("1 + 1")
    window.line.refresh()
    assert window.screen() == ["3_train base  Tokens (3 of 9)  0:07"]
    said = ["fold 0: accuracy 0.9123", "CAUTION: " + "a long warning " * 6]
    assert window.show(**FOLD, said=said[:1]) == [
        "3_train base  fold 0: accuracy 0.9123",
        "3_train base  fold 1 (2 of 5)  step 140/225  loss 0.412  score 0.912  3:13 left",
    ]
    now[0] += 3  # it counts down also while the kernel is silent
    window.line.refresh()
    assert window.screen()[-1].endswith("  3:10 left")
    window.line.file.write_text('{"phase": "fo')  # being written
    window.line.refresh()
    lines = window.show(**FOLD, said=said)
    assert "".join(lines[1:-1]) == f"3_train base  {said[1]}"
    window.line.close()
    assert window.screen()[-1] == "" and window.screen()[0] == "3_train base  fold 0: accuracy 0.9123"


def test_the_line_fits_a_window_that_becomes_smaller_and_is_sent_only_when_it_changes(now, window):
    window.show(**FOLD)
    for columns, words in ((40, "fold 1 (2 of 5)  score 0.912  3:20 left"), (9, "fold 1 (")):
        window.screen()
        window.seen = Screen(columns)
        resize(window.theirs, columns)
        assert window.show(**FOLD) == [words]
        window.show(**FOLD)
        assert window.seen.moved == [words]


def test_what_the_runner_prints_stands_above_the_line(now, window):
    window.show(**FOLD)
    line = window.screen()[-1]
    with window.line.printing_above():
        print("from a library", end="")
        assert window.screen() == [line]
        print(", in two pieces\nand")
        sys.stderr.write("file.py:7: UserWarning: beware\n")
        sys.stdout.write("not ended")
    assert window.screen() == [
        "from a library, in two pieces",
        "and",
        "file.py:7: UserWarning: beware",
        "not ended",
        line,
    ]


def test_without_a_terminal_there_is_a_line_in_thirty_seconds_and_what_is_said(now, tmp_path):
    file, output = tmp_path / "state.json", io.StringIO()
    line = TerminalLine("1_eda", file, stream=output)
    for second in range(70):
        now[0] += 1
        said = ["fold 0: accuracy 0.5"] if second >= 40 else []
        write_json(file, {"phase": f"at {second}", "figures": ["a figure " * 20], "said": said})
        line.refresh()
    printed = output.getvalue().splitlines()
    assert [one.split("  ")[1] for one in printed] == ["at 29", "fold 0: accuracy 0.5"]
    assert len(printed[0]) > 190 and "\r" not in output.getvalue()


def test_sections_are_the_headings_that_cells_stand_below():
    found = sections(nbformat.read(find_notebook("3_train"), as_version=4))
    names = list(dict.fromkeys(found.values()))
    assert names[0].startswith("Task and folds (1 of ") and names[-1].startswith("What was written (")
    assert "import numpy" not in "".join(found)


@pytest.mark.parametrize("chained", [False, True])
def test_a_run_ends_with_its_result_and_with_what_to_type_next_unless_that_follows(monkeypatch, tmp_path, chained):
    monkeypatch.setenv(CHAINED, "1" * chained)
    result = ["3_train base: accuracy 0.9, folds 0-4", "next: python -m kagglekit.run 4_ensemble work=w"]
    lines = describe("3_train base", result, "done in 1:02", tmp_path / "a.ipynb").splitlines()
    assert lines == [result[0], f"  done in 1:02: {tmp_path}/a.ipynb", f"  {result[1]}"][: 3 - chained]
