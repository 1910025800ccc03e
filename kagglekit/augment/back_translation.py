"""Back-translation: translate a text into another language and back, which rewords it (Sennrich et al., 2016, arXiv
1511.06709; for classification Xie et al., 2020, arXiv 1904.12848)."""

from __future__ import annotations  # the types of knobs are texts, by which options are checked

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import AutoModelForSeq2SeqLM, LogitsProcessor, LogitsProcessorList

from kagglekit.augment.augmenter import Augmenter, random_of
from kagglekit.data.batches import prediction_batches
from kagglekit.data.words import split_sentences
from kagglekit.device import autocast, choose_device, choose_precision, random_state_kept
from kagglekit.files.arrays import loading
from kagglekit.model.backbones import find_backbone, load_config, load_tokenizer, quiet
from kagglekit.options import check_range, knob
from kagglekit.progress import track

PIECE = re.compile(r"\S(?:.{0,398}\S)?(?=\s|$)|\S.{0,399}", re.DOTALL)  # of sentences that never end, in characters


def split_pieces(text: str) -> tuple[list[str], list[str]]:
    """The sentences of a text, long ones in several pieces, and the gaps before, between and after: one more."""
    pieces, gaps = [], [""]
    for sentence in split_sentences(text):
        end = 0
        for piece in PIECE.finditer(sentence):
            gaps[-1] += sentence[end : piece.start()]
            pieces.append(piece[0])
            gaps.append("")
            end = piece.end()
        gaps[-1] += sentence[end:]
    return pieces, gaps


class Draw(LogitsProcessor):
    """Sampling with random numbers of each row's own: Gumbel noise on the `top` best logits makes greedy decoding draw
    from the softmax at `temperature`."""

    def __init__(self, randoms: Sequence[np.random.Generator], temperature: float, top: int):
        self.randoms, self.temperature, self.top = randoms, temperature, top

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        values, ids = scores.float().topk(min(self.top, scores.shape[1]))  # (rows, top)
        noise = np.stack([random.gumbel(size=values.shape[1]) for random in self.randoms])
        noise = torch.from_numpy(noise).to(values)
        drawn = ids.gather(1, (values / self.temperature + noise).argmax(dim=1, keepdim=True))  # (rows, 1)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)


class Translator:
    """One direction: a model with its tokenizer. prefix: put before each text ("translate English to German: ",
    ">>fra<< "). languages: (from, to) as the tokenizer names them ("eng_Latn", "deu_Latn"), for multilingual models."""

    def __init__(self, name: str, prefix: str = "", languages: Sequence[str] = ()):
        path = find_backbone(name)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Recommended: pip install sacremoses")  # which changes quotes only
            self.tokenizer = load_tokenizer(path)
        self.prefix, self.options = prefix, {}
        config = load_config(path)
        if not config.is_encoder_decoder:
            raise ValueError(
                f"BackTranslation: {path} ({config.model_type}) does not translate: name a model such as Marian or T5"
            )
        self.limit = min(self.tokenizer.model_max_length, getattr(config, "max_position_embeddings", None) or 512)
        if languages:
            self.tokenizer.src_lang = languages[0]
            self.options["forced_bos_token_id"] = self._language_id(path, languages[1])
        with random_state_kept(), quiet(), loading(path, weights=True):
            self.model = AutoModelForSeq2SeqLM.from_pretrained(path, dtype=torch.float32)
        self.model.generation_config.forced_eos_token_id = None  # at a position that depends on the batch
        self.model.eval().to(choose_device())

    def _language_id(self, path: str, language: str) -> int:
        number = self.tokenizer.convert_tokens_to_ids(language)
        if number in (None, self.tokenizer.unk_token_id):
            raise ValueError(f"BackTranslation: the tokenizer of {path} has no language {language!r}")
        return number

    @torch.inference_mode()
    def translate(self, texts: Sequence[str], seed: int, temperature: float, top: int, tokens: int = 2048) -> list[str]:
        """Each text in the other language. tokens: of a padded batch; texts of similar length are batched together."""
        device, found = self.model.device, [""] * len(texts)
        precision = choose_precision(device) if device.type == "cuda" else "fp32"
        options = {"truncation": True, "max_length": self.limit}
        read = self.tokenizer([self.prefix + text for text in texts], **options)["input_ids"] if texts else []
        lengths = np.array([len(ids) for ids in read])
        for batch in track(prediction_batches(lengths, tokens), "translating"):
            inputs = self.tokenizer.pad({"input_ids": [read[row] for row in batch]}, return_tensors="pt").to(device)
            most = self._most(lengths[batch[0]])
            options = {"num_beams": 1, "do_sample": False, "max_new_tokens": most, **self.options}
            if temperature:
                draw = Draw([random_of(seed, texts[row]) for row in batch], temperature, top)
                options["logits_processor"] = LogitsProcessorList([draw])
            with autocast(device, precision), quiet():
                output = self.model.generate(inputs["input_ids"], attention_mask=inputs["attention_mask"], **options)
            for row, ids in zip(batch, output.tolist(), strict=True):
                own = ids[1 : 1 + self._most(lengths[row])]  # without start token, and its own limit of tokens
                found[row] = self.tokenizer.decode(own, skip_special_tokens=True).strip()
        return found

    def _most(self, length: int) -> int:
        """The most tokens of a translation of `length` tokens: enough for any, and an end for models that repeat."""
        return min(int(2 * length + 10), self.limit - 2)


@dataclass(eq=False)
class BackTranslation(Augmenter):
    """Translate each text and back, sentence by sentence, with any two translation models of transformers.

    there, back: their folders or names, such as Helsinki-NLP/opus-mt-en-de and Helsinki-NLP/opus-mt-de-en. prefixes:
    put before a text on its way there and back, for models that are prompted. languages: own and other, as the
    tokenizer names them, for multilingual models. temperature: 0 takes the likeliest token each time, so every seed
    gives the same; 0.7 to 1 draws among the `top` likeliest, for other words in each copy (Edunov et al., 2018, arXiv
    1808.09381). A sentence without letters, or with an empty translation, stays as it is.
    Meaning mostly stays, style does not: slang, emoji, names and spelling get lost. Costs hours on a CPU for thousands
    of texts, minutes on a GPU: augment ahead of training, cached. Models are kept from the first call on.
    """

    there: str
    back: str
    temperature: float = knob(0.0, "0: the likeliest token", least=0, most=2)
    top: int = knob(10, "likeliest tokens to draw from", above=0)
    prefixes: list[str] = ("", "")
    languages: list[str] = knob([], "own and other")

    translators_ = None

    def check(self):
        check_range("BackTranslation: prefixes", self.prefixes, len(self.prefixes) == 2, "two: there and back")
        check_range("BackTranslation: languages", self.languages, len(self.languages) in (0, 2), "two: own and other")

    def __call__(self, texts: Sequence[str], seed: int) -> list[str]:
        split = [split_pieces(text) for text in texts]
        sentences = list(dict.fromkeys(one for pieces, _ in split for one in pieces if any(map(str.isalpha, one))))
        translated = sentences
        for translator in self._load():
            translated = translator.translate(translated, seed, self.temperature, self.top)
        reworded = {own: other or own for own, other in zip(sentences, translated, strict=True)}
        return [
            "".join(gap + reworded.get(one, one) for gap, one in zip(gaps, [*pieces, ""], strict=True))
            for pieces, gaps in split
        ]

    def _load(self) -> list[Translator]:
        if self.translators_ is None:
            languages = [self.languages, self.languages[::-1]]
            names = (self.there, self.back)
            try:
                self.translators_ = [Translator(*one) for one in zip(names, self.prefixes, languages, strict=True)]
            except OSError as error:
                error.add_note("BackTranslation: there and back each name a translation model")
                raise
        return self.translators_
