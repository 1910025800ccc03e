"""The options of adapters, the knob `lora` of a recipe, and which linear layers of a backbone its targets name."""

from __future__ import annotations  # the types of knobs are texts; no torch is loaded until a model is looked at

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kagglekit.options import Knobs, did_you_mean, documented, knob

ALL = "all-linear"
TUNINGS = ("full", "lora", "qlora", "head")
ADAPTED = ("lora", "qlora")
SHOWN = 12  # names of layers in a message


@documented
@dataclass(frozen=True)
class LoraOptions(Knobs):
    """Adapters: which linear layers have one, and how large it is (LoRA; Hu et al., 2021, arXiv 2106.09685).

    What an adapter adds is multiplied by alpha / r. Raises ValueError for a value of another type or out of range.
    """

    owner = "lora"

    r: int = knob(16, "rank of an adapter; 4 to 64 are usual: more learns more, and takes more memory", least=1)
    alpha: float = knob(32.0, "strength: what an adapter adds is multiplied by alpha / r", above=0)
    dropout: float = knob(0.05, "of what an adapter reads, while training", least=0, below=1)
    targets: str | list[str] = knob(
        ALL, 'linear layers that have one: all-linear, or ends of their names, such as ["q_proj", "v_proj"]'
    )
    whole: list[str] = knob(
        [], 'parts of the backbone that are trained whole besides, by the ends of their names: ["norm"]'
    )

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.targets, str) and self.targets != ALL:
            raise ValueError(f"lora: targets={self.targets!r} must be {ALL!r}, or a list of names of layers")
        if not self.targets:
            raise ValueError("lora: targets=[] names no layer: set tuning='head' to train the head alone")


def find_parts(names: Sequence[str], wanted: Sequence[str], knob: str, what: str) -> list[str]:
    """The names that end in one of `wanted`, whole words between dots: "q_proj" is "layers.0.self_attn.q_proj".

    knob, what: for the error, a ValueError with what may have been meant and with the last words of all names.
    """
    for one in wanted:
        if not any(_ends(name, one) for name in names):
            known = list(dict.fromkeys(name.rsplit(".", 1)[-1] for name in names))
            known = [name for name in known if not name.isdecimal()]
            listed = ", ".join(known[:SHOWN]) + (", ..." if len(known) > SHOWN else "")
            meant = did_you_mean(one.rsplit(".", 1)[-1], known)
            raise ValueError(f"lora: {knob} has {one!r}{f'{meant} T' if meant else ': t'}he {what} are {listed}")
    return [name for name in names if any(_ends(name, one) for one in wanted)]


def _ends(name: str, end: str) -> bool:
    return f".{name}".endswith(f".{end}")


def pack_options(dtype: Any) -> dict[str, Any]:
    """Options of `from_pretrained` for a frozen backbone in 4 bits, the rest of it and its products in `dtype` (QLoRA;
    Dettmers et al., 2023, arXiv 2305.14314). Raises ValueError as `check_quantised` does."""
    check_quantised()
    from transformers import BitsAndBytesConfig

    from kagglekit.device import choose_device

    packing = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return {"quantization_config": packing, "device_map": {"": choose_device()}}


def check_quantised() -> None:
    """Raise ValueError unless this machine has what a backbone of 4 bits needs: a CUDA GPU, and bitsandbytes."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(
            "tuning='qlora' keeps the backbone in 4 bits by the package bitsandbytes, which is not installed: "
            "pip install bitsandbytes on a machine with a CUDA GPU, or set tuning='lora'"
        )
    import torch

    if not torch.cuda.is_available():
        raise ValueError("tuning='qlora' needs a CUDA GPU, and this machine has none: set tuning='lora'")
