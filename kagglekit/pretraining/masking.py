"""Which tokens are hidden for masked-language modelling."""

import torch

from kagglekit.training.trick import Trick


def mask_tokens(
    input_ids: torch.Tensor, maskable: torch.Tensor, mask_id: int, vocabulary: int, probability: float = 0.15
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose tokens to predict, anew at every call (Liu et al., 2019), and hide them (Devlin et al., 2019).

    input_ids, maskable: (batch, tokens); only where `maskable` is True can a token be chosen. Each is chosen with
    `probability`; of these 80 % become the mask token, 10 % a random one, 10 % stay.
    Returns the ids with hidden tokens, and where tokens were chosen (bool), both (batch, tokens). Uses the global RNG.
    """
    chance = torch.rand(input_ids.shape, device=input_ids.device)
    chosen = maskable & (chance < probability)
    hidden = torch.where(chosen & (chance < 0.8 * probability), mask_id, input_ids)
    swapped = chosen & (chance >= 0.9 * probability)
    return torch.where(swapped, torch.randint_like(input_ids, vocabulary), hidden), chosen


class DynamicMasking(Trick):
    """Hide other tokens of a text each time it comes by.

    special_ids: tokens that are never chosen, such as the padding. probability: 0.15 is usual; 0 learns nothing.
    """

    def __init__(self, mask_id: int, vocabulary: int, special_ids: list[int], probability: float = 0.15):
        self.mask_id = mask_id
        self.vocabulary = vocabulary
        self.special_ids = special_ids
        self.probability = probability

    def hide(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """`inputs` with some tokens hidden, where they were (`chosen`) and what they were (`labels`, (chosen,))."""
        ids = inputs["input_ids"]
        maskable = ~torch.isin(ids, torch.tensor(self.special_ids, device=ids.device))
        hidden, chosen = mask_tokens(ids, maskable, self.mask_id, self.vocabulary, self.probability)
        return {**inputs, "input_ids": hidden, "chosen": chosen, "labels": ids[chosen]}

    def compute_loss(self, compute, model, inputs):
        self.steps_ += 1
        return compute(self.hide(inputs))
