"""Token masking: hide random words of the input while fine-tuning (word dropout; Iyyer et al., 2015)."""

import torch

from kagglekit.tricks.trick import Trick, knob, trick


def hide_tokens(
    input_ids: torch.Tensor, maskable: torch.Tensor, mask_id: int, probability: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each token becomes the mask token with `probability`, where `maskable`.

    input_ids, maskable: (batch, tokens) or (batch, chunks, tokens). Returns new ids, and where they were hidden (bool).
    """
    chosen = maskable & (torch.rand(input_ids.shape, device=input_ids.device) < probability)
    return input_ids.masked_fill(chosen, mask_id), chosen


@trick
class TokenMasking(Trick):
    """Replace words by the mask token, different ones at every step; special tokens and padding stay.

    Costs nothing. Tricks that come after it in the recipe, and R-Drop in any place, see the same words hidden. A
    backbone without a mask token is an error. Used by winners of the Feedback Prize competitions (2022).
    """

    hidden_, words_ = 0.0, 0.0  # sums over the steps, on the device: reading them would wait

    probability: float = knob(0.1, "0: plain training; 0.15 is usual; above 0.4 the text is lost", least=0, below=1)

    def training_step(self, step, model, inputs):
        if model.mask_id is None:
            raise ValueError("TokenMasking needs a mask token, and this backbone has none: leave TokenMasking out")
        self.steps_ += 1
        if not self.probability:
            return step(inputs)  # no random number is drawn
        ids = inputs["input_ids"]
        special = torch.tensor(model.special_ids, dtype=ids.dtype).to(ids.device, non_blocking=True)
        maskable = inputs["attention_mask"].bool() & ~torch.isin(ids, special)
        hidden, chosen = hide_tokens(ids, maskable, model.mask_id, self.probability)
        self.hidden_ = self.hidden_ + chosen.sum()
        self.words_ = self.words_ + maskable.sum()
        return step({**inputs, "input_ids": hidden})

    def receipt(self, model):
        share = float(self.hidden_) / max(float(self.words_), 1)
        return {**super().receipt(model), "share of tokens masked": share}
