"""Synonyms from a masked-language model: the words that it predicts in the place of another."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from transformers import AutoModelForMaskedLM

from kagglekit.data.batches import prediction_batches
from kagglekit.data.tokens import join_tokens, special_ends
from kagglekit.data.words import Words, fitting, is_chinese, load_jieba, whole_words
from kagglekit.device import choose_device, random_state_kept
from kagglekit.files.arrays import loading
from kagglekit.model.backbones import (
    backbone_folder,
    count_positions,
    find_backbone,
    load_config,
    load_tokenizer,
    quiet,
)
from kagglekit.model.surgery import output_changed
from kagglekit.progress import track


class MaskedPredictions:
    """The words that the backbone's masked-language head predicts in a word's place (Jiao et al., 2020, section 4.2).

    The model reads the text and, after it, the text with the word masked, so that predictions mean about the same
    (Qiang et al., 2020, LSBert). Chinese words are predicted character by character; those that jieba does not know are
    dropped. top: how many are kept. context: tokens on either side that are read, at most.
    A backbone without a trained head is an error: run 2_pretrain first and name the model of that run.
    """

    asked = 1

    def __init__(self, backbone: str, top: int = 5, context: int = 50):
        self.backbone, self.top, self.context = backbone, top, context
        self.model_: torch.nn.Module | None = None

    def find(self, places: Sequence[tuple[Words, int]], chinese: str = "jieba") -> list[list[str]]:
        """The predictions for the word at each place, likeliest first."""
        if not places:
            return []
        if self.model_ is None:
            self._load()
        rows, masks = zip(*(self._hide(text, at) for text, at in places), strict=True)
        tokens, found = join_tokens(rows), [[] for _ in places]
        for batch in track(prediction_batches(tokens.lengths, 4096), "finding synonyms"):
            inputs = tokens[batch].pad(self.tokenizer_.pad_token_id)
            chosen = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
            for line, row in enumerate(batch):
                chosen[line, masks[row]] = True
            scores = self._score(inputs, chosen).split([len(masks[row]) for row in batch])  # each (masks, vocabulary)
            for row, own in zip(batch, scores, strict=True):
                text, at = places[row]
                found[row] = self._choose(text.words[at], own, chinese)
        return found

    def _load(self):
        path = find_backbone(self.backbone)
        self.tokenizer_ = load_tokenizer(path)
        config = load_config(path)
        headless = self.tokenizer_.mask_token_id is None  # of a decoder too
        with random_state_kept(), quiet(), loading(backbone_folder(path), weights=True):
            if not headless:
                model, info = AutoModelForMaskedLM.from_pretrained(
                    path, config=config, dtype=torch.float32, output_loading_info=True
                )
        if headless or info["missing_keys"]:
            raise ValueError(
                f"backbone {path} has no masked-language head: its predictions would be random words. Run 2_pretrain "
                "on it, and name the model of that run as the option backbone (runs/.../mlm/model), or name another "
                "backbone, or another source of synonyms"
            )
        self.first_, self.last_ = special_ends(self.tokenizer_)
        limit = count_positions(config) or 512
        self.room_ = min(self.context, (limit - len(self.first_) - 2 * len(self.last_) - 16) // 4)  # on either side
        words = whole_words(self.tokenizer_)
        spaced = {word: number for word, number in words.items() if not is_chinese(word)}
        single = {word: number for word, number in words.items() if is_chinese(word) and len(word) == 1}
        self.tables_ = {True: (list(single), list(single.values())), False: (list(spaced), list(spaced.values()))}
        self.model_ = model.eval().to(choose_device())

    def _hide(self, text: Words, at: int) -> tuple[np.ndarray, np.ndarray]:
        """The input for one place (tokens,), and the positions that are masked."""
        word = text.words[at]
        before, own, behind = (
            np.array(self.tokenizer_(part, add_special_tokens=False)["input_ids"], dtype=np.int32)
            for part in (
                str(Words(text.words[:at], text.gaps[: at + 1])).rstrip(),
                f" {word}",
                str(Words(text.words[at + 1 :], text.gaps[at + 1 :])),
            )
        )
        before, behind = before[max(len(before) - self.room_, 0) :], behind[: self.room_]
        masked = np.full(min(len(word), 4) if is_chinese(word) else 1, self.tokenizer_.mask_token_id, dtype=np.int32)
        start = [self.first_, before, own[:12], behind, self.last_, before]
        row = np.concatenate([*start, masked, behind, self.last_])
        return row, sum(map(len, start)) + np.arange(len(masked))

    @torch.inference_mode()
    def _score(self, inputs: dict[str, torch.Tensor], chosen: torch.Tensor) -> torch.Tensor:
        """Logits of the `chosen` tokens of a batch (chosen, vocabulary): the head sees no others."""
        device = next(self.model_.parameters()).device

        def keep(output):
            output["last_hidden_state"] = output["last_hidden_state"][chosen.to(device)][None]  # (1, chosen, width)
            return output

        with output_changed(self.model_.base_model, keep):
            return self.model_(**{name: tensor.to(device) for name, tensor in inputs.items()}).logits[0].float().cpu()

    def _choose(self, word: str, scores: torch.Tensor, chinese: str) -> list[str]:
        """The likeliest words for one place by the logits of its masks (masks, vocabulary)."""
        if is_chinese(word) and len(word) > 4:
            return []
        names, numbers = self.tables_[is_chinese(word)]
        several = int(2000 ** (1 / len(scores)))  # characters for each mask, all combinations of which are ranked
        k = min(4 * self.top if len(scores) == 1 else several, len(numbers))
        best, order = scores.log_softmax(dim=1)[:, numbers].topk(k)  # (masks, k)
        lines = [list(zip(*line, strict=True)) for line in zip(best.tolist(), order.tolist(), strict=True)]
        ranked = sorted(product(*lines), key=lambda parts: -sum(value for value, _ in parts))
        candidates = ["".join(names[number] for _, number in parts) for parts in ranked]
        if is_chinese(word) and len(word) > 1 and chinese == "jieba":
            known = load_jieba().dt
            known.check_initialized()
            candidates = [candidate for candidate in candidates if known.FREQ.get(candidate)]
        return fitting(word, candidates)[: self.top]
