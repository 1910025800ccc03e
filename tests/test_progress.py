"""Progress of a kernel, and the line that its runner shows."""

import io

import pytest

from kagglekit.files import read_json, write_json
from kagglekit.progress import VARIABLE, Progress, TerminalLine, clock, say


def test_progress_reports_twice_a_second_and_asks_for_figures_only_then(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "progress.json"))
    monkeypatch.setattr(Progress, "_closed", [])
    now, asked = [100.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with Progress("fold 2/5", 225, start=25) as progress:
        for step in range(26, 126):
            now[0] += 0.125
            progress.update(step, loss=lambda: asked.append(1) or 0.41234, lr=8.1e-5, epoch=1500)
        line = read_json(tmp_path / "progress.json")["line"]
    assert len(asked) == 26  # at once, then every 0.5 of 12.5 s
    assert line == "fold 2/5  step 125/225  loss 0.412  lr 8.1e-05  epoch 1500  0:12 left"
    assert capsys.readouterr().out == "fold 2/5: 100 steps in 0:12\n"


def test_progress_left_by_an_exception_has_no_closing_line_and_one_without_a_runner_is_a_bar(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "progress.json"))
    with pytest.raises(KeyError), Progress("fold 1/5", 3):
        raise KeyError
    assert capsys.readouterr().out == ""
    monkeypatch.delenv(VARIABLE)
    with Progress("fold 1/5", 3) as progress:
        progress.update(3, loss=0.5)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "3/3" in shown.err


def test_the_terminal_shows_one_line_written_over(tmp_path):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    file, terminal = tmp_path / "progress.json", Terminal()
    line = TerminalLine("3_train base", file, terminal)
    line.refresh()
    write_json(file, {"line": "fold 2/5  step 140/225", "closed": []})
    line.refresh()
    file.write_text('{"line": "fold')  # being written
    line.close()
    shown = terminal.getvalue().split("\r")
    assert shown[1:] == [
        "3_train base  running for 0:00\x1b[K",
        "3_train base  fold 2/5  step 140/225\x1b[K",
        "3_train base  fold 2/5  step 140/225\x1b[K",
        "\x1b[K",
    ]
    assert "\n" not in terminal.getvalue()


def test_without_a_terminal_there_is_a_line_in_thirty_seconds_and_one_for_each_ended_phase(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    file, output = tmp_path / "progress.json", io.StringIO()
    line = TerminalLine("1_eda", file, output)
    for second in range(0, 70):
        now[0] = float(second)
        closed = ["fold 1: 9 steps in 0:40"] if second >= 40 else []
        write_json(file, {"line": f"at {second}", "closed": closed})
        line.refresh()
    assert output.getvalue().splitlines() == ["1_eda  at 30", "1_eda  fold 1: 9 steps in 0:40"]


def test_clock():
    assert [clock(s) for s in (0, 72, 3672)] == ["0:00", "1:12", "1:01:12"]


@pytest.mark.parametrize("terminal", [True, False])
def test_what_a_notebook_says_keeps_its_line_in_the_terminal(tmp_path, monkeypatch, capsys, terminal):
    class Output(io.StringIO):
        def isatty(self):
            return terminal

    say("without a runner")
    file, output = tmp_path / "progress.json", Output()
    monkeypatch.setenv(VARIABLE, str(file))
    monkeypatch.setattr(Progress, "_said", [])
    line = TerminalLine("5_submit base", file, output)
    line.refresh()
    say("CAUTION: no row of class x")
    with Progress("fold 1/5", 3):
        line.refresh()
    line.refresh()
    say("written")
    line.close()
    assert [
        row for row in output.getvalue().replace("\r", "\n").split("\n") if "CAUTION" in row or "written" in row
    ] == [f"5_submit base  {text}" + "\x1b[K" * terminal for text in ("CAUTION: no row of class x", "written")]
    assert "CAUTION: no row of class x" in capsys.readouterr().out
