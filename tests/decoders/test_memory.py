import pytest

from kagglekit.decoders.memory import BYTES, GPUS, fits, needed, what_fits


@pytest.mark.parametrize(
    ("size", "tuning", "gb"),
    [(1000, "full", 20.5), (7568, "lora", 18.4), (7568, "qlora", 7.4), (13990, "predict", 30.5), (0, "int8", 2.5)],
)
def test_memory_is_bytes_a_weight_and_room(size, tuning, gb):
    assert needed(size, tuning) == pytest.approx(gb, abs=0.1)
    assert fits(size, tuning, [gb + 0.1]) and not fits(size, tuning, [gb - 0.1])


def test_two_gpus_hold_twice_as_much_without_their_room():
    assert fits(7568, "lora", [15.8, 15.8]) and not fits(7568, "lora", [15.8])
    assert fits(7568, "lora", [10.5, 10.5]) and not fits(7568, "lora", [10.0, 10.0])


@pytest.mark.parametrize(
    ("size", "found"),
    [
        (135, ["full / predict"] * 4),
        (4022, ["lora / predict", "lora / predict", "lora / predict", "full / predict"]),
        (13990, ["qlora / –", "qlora / int8", "qlora / int8", "lora / predict"]),  # winners: two T4s, GPTQ
        (70000, ["–", "–", "–", "qlora / int8"]),
    ],
)
def test_what_fits_each_gpu_asks_for_most(size, found):
    assert list(what_fits(size).values()) == found and list(what_fits(size)) == list(GPUS)


def test_a_tuning_of_another_name_is_an_error():
    with pytest.raises(ValueError, match=f"tuning='head' .* one of {', '.join(BYTES)}"):
        needed(100, "head")
