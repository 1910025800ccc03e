"""NEFTune: noise on the word embeddings while training (Jain et al., 2023, arXiv 2310.05914)."""

from types import SimpleNamespace

import torch

from kagglekit.model.surgery import output_changed
from kagglekit.tricks.trick import Trick, knob, trick

try:
    from transformers.integrations.neftune import neftune_post_forward_hook
except ImportError:  # before it moved
    from transformers.trainer_utils import neftune_post_forward_hook


def add_noise(embedded: torch.Tensor, alpha: float, training: bool = True) -> torch.Tensor:
    """Add uniform noise from `-bound` to `bound`, where bound = alpha / sqrt(tokens * width).

    embedded: (batch, tokens, width); padding counts among the tokens, and gets noise that nothing reads. Without
    `training` nothing is added. The formula is that of transformers.
    """
    return neftune_post_forward_hook(SimpleNamespace(training=training, neftune_noise_alpha=alpha), None, embedded)


@trick
class NEFTune(Trick):
    """Uniform noise on the word embeddings of every training pass.

    The noise of a whole text has about the norm alpha / sqrt(3), however many tokens it has. Costs nothing.
    """

    mean = "bound_", "mean noise bound"
    bound_ = 0.0  # a sum over the steps

    alpha: float = knob(5.0, "0: plain training; 5 to 15 are usual for long texts of language models", least=0)

    def training_step(self, step, model, inputs):
        embeddings = model.get_input_embeddings()
        tokens, width = inputs["input_ids"].shape[-1], embeddings.weight.shape[-1]
        self.steps_ += 1
        self.bound_ = self.bound_ + torch.tensor(self.alpha / (tokens * width) ** 0.5)
        if not self.alpha:
            return step(inputs)  # no random number is drawn
        # around forward and backward: layers that are computed again for the backward pass get the same noise again
        with output_changed(embeddings, lambda embedded: add_noise(embedded, self.alpha, embeddings.training)):
            return step(inputs)
