from concurrent.futures import ThreadPoolExecutor

from kagglekit.model.backbones import find_backbone
from tests.benchmarks.train_speed import SYSTEMS, measure, table


def test_the_speed_benchmark_times_every_system_in_both_phases():
    workers = {system: ThreadPoolExecutor(1) for system in SYSTEMS}
    speeds = measure("tweets", max_length=32, rows=8, rounds=1, backbone=find_backbone("minilm"), workers=workers)
    assert list(speeds) == [(phase, system) for phase in ("training", "prediction") for system in SYSTEMS]
    assert all(len(values) == 1 and values[0] > 0 for values in speeds.values())


def test_the_speed_table_compares_medians():
    ours, theirs = ("training", "kagglekit"), ("training", "Trainer, defaults")
    last = table({"bbc": {ours: [900.0, 3000.0, 60.0], theirs: [1.0, 300.0, 9000.0]}}).splitlines()[-1]
    assert last == "| bbc | training | Trainer, defaults | 300 | 1 to 9,000 | 3.00 times |"
