from pathlib import Path

import pytest
import torch

from tests.benchmarks import gpu
from tests.benchmarks.train_speed import measure, table


def test_the_speed_benchmark_times_systems_in_both_phases_and_their_memory():
    systems = ["kagglekit", "Trainer, at its best"]
    speeds = measure("tweets", rows=8, rounds=1, systems=systems, before=None)
    assert list(speeds) == [(phase, system) for phase in ("training", "prediction", "memory") for system in systems]
    assert all(len(values) == 1 and values[0] > 0 for values in speeds.values())


def test_the_speed_table_compares_medians():
    ours, theirs = ("training", "kagglekit"), ("training", "Trainer, defaults")
    last = table({"bbc": {ours: [900.0, 3000.0, 60.0], theirs: [1.0, 300.0, 9000.0]}}).splitlines()[-1]
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
