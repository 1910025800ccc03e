"""NEFTune: noise on the word embeddings while training (Jain et al., 2023, arXiv 2310.05914)."""

import math
from types import SimpleNamespace

import torch

from kagglekit.model.surgery import output_changed
from kagglekit.options import check_range
from kagglekit.tricks.trick import Trick

try:
    from transformers.integrations.neftune import neftune_post_forward_hook
except ImportError:  # before it moved
    from transformers.trainer_utils import neftune_post_forward_hook


def add_noise(embedded: torch.Tensor, alpha: float, training: bool = True) -> torch.Tensor:
    """Add uniform noise from `-bound` to `bound`, where bound = alpha / sqrt(tokens * width).

    embedded: (batch, tokens, width); padding counts among the tokens, and gets noise that nothing reads. The formula is
    transformers'; without `training` nothing is added.
    """
    return neftune_post_forward_hook(SimpleNamespace(training=training, neftune_noise_alpha=alpha), None, embedded)


class NEFTune(Trick):
    """Uniform noise on the word embeddings of every training pass.

    alpha: 0 is plain training, 5 to 15 are usual for long texts of language models; the noise of a whole text has about
    the length alpha / sqrt(3), whatever its tokens. Costs nothing.
    """

    bound_: torch.Tensor | float = 0.0  # sum over the steps

    def __init__(self, alpha: float = 5.0, start: float = 0.0):
        self.alpha = alpha
        self.start = start

    def check(self):
        super().check()
        check_range("NEFTune: alpha", self.alpha, 0 <= self.alpha < math.inf, "0 or more")

    def training_step(self, step, model, inputs):
        embeddings = model.get_input_embeddings()
        tokens, width = inputs["input_ids"].shape[-1], embeddings.weight.shape[-1]
        self.steps_ += 1
        self.bound_ = self.bound_ + torch.tensor(self.alpha / (tokens * width) ** 0.5)
        if not self.alpha:
            return step(inputs)  # no random number is drawn
        # around forward and backward: what is computed again for the backward pass must have the same noise again
        with output_changed(embeddings, lambda embedded: add_noise(embedded, self.alpha, embeddings.training)):
            return step(inputs)

    def receipt(self, model):
        return {**super().receipt(model), "mean noise bound": float(self.bound_) / max(self.steps_, 1)}
