from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kagglekit.samples import write_sample
from tests.benchmarks import gpu, train_speed, trick_gain


def test_the_speed_benchmark_times_systems_in_both_phases_and_their_memory(monkeypatch):
    """The other system answers in this process: one of its own takes seconds to begin."""
    systems, worker = ["kagglekit", "Trainer, at its best"], train_speed.Worker

    def begin(system, root):
        if system == "kagglekit":
            return worker(system, root)
        return SimpleNamespace(ask=partial(train_speed.time_system, system), end=lambda: None)

    monkeypatch.setattr(train_speed, "Worker", begin)
    speeds = train_speed.measure("tweets", rows=8, rounds=1, systems=systems, before=None)
    assert list(speeds) == [(phase, system) for phase in ("training", "prediction", "memory") for system in systems]
    assert all(len(values) == 1 and values[0] > 0 for values in speeds.values())


def test_the_speed_table_compares_medians():
    ours, theirs = ("training", "kagglekit"), ("training", "Trainer, defaults")
    last = train_speed.table({"bbc": {ours: [900.0, 3000.0, 60.0], theirs: [1.0, 300.0, 9000.0]}}).splitlines()[-1]
    assert last == "| bbc | training | Trainer, defaults | 300 | 1 to 9,000 | 3.00 times |"


def test_the_gpu_benchmark_runs_every_part_on_a_cpu_and_writes_its_table(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"above\n{gpu.MARKS[0]}old\n{gpu.MARKS[1]}\nbelow\n")
    gpu.main(["--cpu", "--readme", str(page), "--before", str(Path(__file__).parent.parent)])
    written = page.read_text()
    rows = [line.split(" | ") for line in written.splitlines() if line.startswith(("| bert", "| deberta", "| minilm"))]
    assert written.startswith("above") and written.endswith("below\n") and "old" not in written
    assert len(rows) == 2 * 2 * 3 and all(len(row) == 8 and "(" in row[4] for row in rows)
    assert "Of 3 recipes none waits" in written


def test_the_gpu_benchmark_says_that_there_is_no_gpu():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit, match="There is no CUDA GPU here"):
        gpu.main([])


def test_the_table_of_gains_has_verdicts_and_means_and_is_written_into_both_pages(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    for sample, classes in (("tweets", 3), ("reviews-zh", 2)):
        write_sample(sample, tmp_path / "data" / sample, rows=40)
        (tmp_path / sample).mkdir()
        truth = rng.integers(classes, size=200)
        for name, skill in {"base": 1.0, "fgm": 3.0, "cls": 0.2, "mixup": 1.0, "ema": 1.0}.items():
            for seed in range(3) if (name, sample) != ("ema", "tweets") else ():
                logits = skill * np.eye(classes)[truth] + rng.normal(scale=0.7, size=(200, classes))
                probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
                cpu = 2.0 if name == "fgm" else 1.0
                np.savez(tmp_path / sample / f"{name}.{seed}.npz", oof=probs, truth=truth, seconds=cpu, cpu=cpu)
    pages = [tmp_path / page.name.replace("README", page.parent.name) for page in trick_gain.PAGES]
    for page, shipped in zip(pages, trick_gain.PAGES, strict=True):
        page.write_text(shipped.read_text())
    monkeypatch.setattr(trick_gain, "PAGES", pages)
    trick_gain.main(["table", str(tmp_path), "--samples", "tweets", "reviews-zh", "--write"])
    told = capsys.readouterr().out
    rows = {line.split(" | ")[0][2:]: line.rstrip(" |").split(" | ") for line in told.splitlines() if line[0:1] == "|"}
    assert list(rows)[2] == "fgm" and list(rows)[-1] in ("ema", "cls")
    assert all("**helps**" in cell for cell in rows["fgm"][2:5]) and all(
        "**hurts**" in cell for cell in rows["cls"][2:5]
    )
    assert rows["fgm"][-1] == "2.0" and "helps" not in rows["mixup"][4] and rows["ema"][2] == rows["ema"][4] == "-"
    assert told.strip() in pages[0].read_text()
    (line,) = [line for line in pages[1].read_text().splitlines() if line.startswith("| FGM | Miyato")]
    assert line.split(" | ")[5].startswith("+0.") and line.split(" | ")[5].endswith("helps, from half the steps")
    assert "3 seeds each" in pages[1].read_text()
