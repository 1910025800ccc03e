"""Memory of decoders: what fits the GPUs of a competition, and what to do where something does not.

Bytes for each weight of the backbone, by how it is tuned:

    full     18    float32 weights (4), gradients (4) and Adam's two states (8), and autocast's half-precision copy (2);
                   Rajbhandari et al., 2020, arXiv 1910.02054, count 16, with half-precision gradients
    lora      2.1  frozen weights in half precision (2); adapters of rank 16 in all layers are half a percent of them,
                   in float32 with gradients and states (Hu et al., 2022, arXiv 2106.09685)
    qlora     0.65 4-bit weights with their scales are 0.52 (Dettmers et al., 2023, arXiv 2305.14314); embeddings, a
                   tenth of the weights or less, stay in half precision
    predict   2    half precision
    int8      1.1  a byte a weight, and embeddings in half precision, see `prediction_memory`

Beside them 2.5 GB are for CUDA, its libraries, and the activations of 2,048 tokens with gradient checkpointing: the
input of each layer, and the inside of one (34 bytes a token and feature; Korthikanti et al., 2022, arXiv 2205.05198),
which are 1.2 GB for 14 billion weights. Longer texts and larger batches need more.
"""

from kagglekit.options import check_range

BYTES = {"full": 18.0, "lora": 2.1, "qlora": 0.65, "predict": 2.0, "int8": 1.1}
TRAINED = ("full", "lora", "qlora")
ROOM = 2.5  # GB beside the weights
GPUS = {"T4": [15.8], "two T4s": [15.8, 15.8], "L4": [24.1], "H100": [85.0]}  # GB that torch sees of each
NOTHING = "–"


def needed(size: float, tuning: str) -> float:
    """GB for a backbone of `size` million weights, tuned or only used in that way, see BYTES."""
    check_range("tuning", tuning, tuning in BYTES, f"one of {', '.join(BYTES)}")
    return size * BYTES[tuning] / 1e3 + ROOM


def fits(size: float, tuning: str, gpus: list[float]) -> bool:
    """Whether it fits GPUs of so many GB each; over several it is split by layers, and each needs the room."""
    return needed(size, tuning) - ROOM <= sum(gpus) - ROOM * len(gpus)


def what_fits(size: float) -> dict[str, str]:
    """For each of GPUS the tuning that asks for most and fits, and how it predicts: "lora / predict", "qlora / int8".

    Two GPUs are named where they allow more than one of them; two folds on a GPU each are as one.
    """
    found = {}
    for name, gpus in GPUS.items():
        tuned = next((tuning for tuning in TRAINED if fits(size, tuning, gpus)), NOTHING)
        used = next((way for way in ("predict", "int8") if fits(size, way, gpus)), NOTHING)
        found[name] = f"{tuned} / {used}" if used != NOTHING or tuned != NOTHING else NOTHING
    return found


def choose_gpus(needed: float, free: list[float], first: int = 0) -> list[int]:
    """The GPUs for weights of `needed` GB, of those with so many GB free: `first` alone where they fit, else all.

    Raises MemoryError with the figures where they do not fit."""
    if needed + ROOM <= free[first]:
        return [first]
    if len(free) > 1 and needed <= sum(free) - ROOM * len(free):
        return [*range(len(free))]
    have = " and ".join(f"{gb:.1f}" for gb in free)
    raise MemoryError(
        f"the weights take {needed:.1f} GB, and {ROOM:g} GB beside them on each GPU; {have} GB are free: set "
        "precision='int8' in 5_submit, choose GPU T4 x2, or a smaller backbone"
    )
