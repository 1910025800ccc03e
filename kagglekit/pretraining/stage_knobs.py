"""The knobs of one stage of pretraining: the text's pieces, the objective, and the training.

In `2_pretrain`, the most used of them stand in the parameter cell; any other goes into `recipe`, such as
`recipe = {"pack": False}`. On the command line all are alike: `kagglekit run 2_pretrain pack=false`.
"""

from __future__ import annotations  # the types of knobs are texts

from dataclasses import dataclass
from typing import Any

from kagglekit.declared import check_options, read_masking, read_names
from kagglekit.options import SEEDS, Knob, Knobs, documented, knob

SCORED = ("selective", "entropy")  # maskings that ask a model of the task
HIDING = ("mlm", "mlm_sop", "mlm_nsp", "rtd")  # objectives that hide tokens
OPTIONS = {  # objective -> names of its objective_options; their values are checked where they are used
    "mlm": (),
    **dict.fromkeys(("mlm_sop", "mlm_nsp"), ("weight",)),
    **dict.fromkeys(("simcse", "simcse_supervised"), read_names("pretraining/simcse.py", "OPTIONS")),
    "rtd": read_names("pretraining/rtd.py", "OPTIONS"),
    "itc_itm": read_names("pretraining/image_text.py", "OPTIONS"),
}


@documented
@dataclass(frozen=True)
class Stage(Knobs):
    """The knobs of one stage of pretraining.

    Raises ValueError for an unknown name, and for a value of another type or out of range.
    """

    objective: str = knob(
        "mlm",
        "what is learned",
        choices=("mlm", "mlm_sop", "mlm_nsp", "simcse", "simcse_supervised", "rtd", "itc_itm"),
        shown="model",
    )
    objective_options: dict[str, Any] = knob(
        {},
        'such as {"temperature": 0.05} of simcse, or {"image_encoder": "openai/clip-vit-base-patch32"} of itc_itm',
        names={"image_encoder": "model", "generator": "model"},
    )
    masking: str = knob(
        "dynamic",
        "which tokens are hidden",
        choices=("dynamic", "static", "whole_word", "span", *SCORED),
        only={"objective": HIDING},
        shown="model",
    )
    masking_options: dict[str, Any] = knob({}, 'such as {"max_span": 5} of span', only={"objective": HIDING})
    mask_probability: float = knob(
        0.15, "share of tokens that are hidden", above=0, below=1, only={"objective": HIDING}, shown="model"
    )
    epochs: float = knob(1.0, "passes over the text", above=0, only={"steps": False}, shown="training")
    steps: int = knob(0, "in place of epochs; 0: as many as these have", least=0, shown="training")
    max_length: int = knob(128, "tokens of a piece; whole texts are read, piece by piece", above=0, shown="text")
    pack: bool = knob(True, "short texts and the ends of long ones share pieces; never with a masking by a scorer")
    batch_size: int = knob(32, "pieces in a batch, on average", above=0, shown="training")
    learning_rate: float | None = knob(5e-5, "None: by the size of the backbone", above=0, below=1, shown="training")
    dropout: float | None = knob(
        0.0, "None: as the backbone was trained; simcse takes 0.1 in place of 0", least=0, below=1, shown="training"
    )
    held_out: float = knob(0.05, "share of the texts that is measured on", above=0, below=1)
    new_tokens: list[str] = knob(
        [], "words that become tokens of their own, for this and all later phases", shown="text"
    )
    seed: int = knob(0, "of masks and order", least=0, most=SEEDS, shown="training")

    def __post_init__(self):
        super().__post_init__()
        known = {name: Knob(name, "Any", None) for name in OPTIONS[self.objective]}
        check_options(f"objective_options: {self.objective}", self.objective_options, known)
        if self.objective == "itc_itm" and not self.objective_options.get("image_encoder"):
            raise ValueError(
                'objective="itc_itm" reads images: name a vision model, a folder or a name of the hub, '
                'objective_options={"image_encoder": "google/vit-base-patch16-224"}'
            )
        if self.masking_options:
            check_options(f"masking_options: {self.masking}", self.masking_options, read_masking(self.masking).knobs)

    @property
    def packs(self) -> bool:
        """Whether texts share pieces. A model of the task knows texts one by one, and is asked so what matters."""
        return self.pack and self.masking not in SCORED
