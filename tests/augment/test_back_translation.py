"""There and back by two translation models: tiny ones, with random weights."""

import json

import numpy as np
import pytest
import sentencepiece
import torch
from transformers import MarianConfig, MarianMTModel, MarianTokenizer, T5Config, T5ForConditionalGeneration

from kagglekit.augment.back_translation import BackTranslation, Draw, Translator, split_pieces
from kagglekit.augment.catalogue import augment_texts, make_augmenter
from kagglekit.model.backbones import quiet

TEXTS = ["a good film. it was fun!", "", "the bad plot\n\nno end", "😂 12", "very " * 8 + "old"]


@pytest.fixture(scope="module")
def t5(tmp_path_factory, tokenizer):
    """A tiny T5 with the tokenizer of the tests."""
    return str(save_t5(tmp_path_factory.mktemp("t5"), tokenizer, 0))


def save_t5(folder, tokenizer, seed):
    torch.manual_seed(seed)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 30}
    ids = {"pad_token_id": 0, "eos_token_id": 3, "decoder_start_token_id": 0}
    with quiet():
        model = T5ForConditionalGeneration(T5Config(**sizes, **ids, tie_word_embeddings=False))
        model.shared.weight.data.mul_(5)  # so that the output depends on the input
        model.lm_head.weight.data.normal_()[:5] = 0  # and is more than nothing
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def marian(tmp_path_factory, texts):
    """A tiny Marian model with a sentencepiece tokenizer of its own, as those of Helsinki-NLP have."""
    folder = tmp_path_factory.mktemp("marian")
    options = {"vocab_size": 60, "hard_vocab_limit": False, "minloglevel": 2, "model_prefix": str(folder / "source")}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(texts(200)[0]), **options)
    (folder / "target.spm").write_bytes((folder / "source.model").read_bytes())
    (folder / "source.model").rename(folder / "source.spm")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    names = dict.fromkeys([*(pieces.id_to_piece(k) for k in range(len(pieces))), "</s>", "<unk>", "<pad>"])
    (folder / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(names)}))
    tokenizer = MarianTokenizer(*(str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")))
    torch.manual_seed(0)
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
    sizes |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 64}
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    ids = {"pad_token_id": pad, "eos_token_id": end, "forced_eos_token_id": end, "decoder_start_token_id": pad}
    with quiet():
        model = MarianMTModel(MarianConfig(vocab_size=len(names), init_std=1.0, **sizes, **ids))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    "text", ["A film. 3.5 stars! ok", "", "\n\n a\n b ", "很好。不错！吧", "...", "x" * 1000, "word " * 200]
)
def test_pieces_and_what_stands_between_make_the_text(text):
    pieces, gaps = split_pieces(text)
    assert "".join(gap + one for gap, one in zip(gaps, [*pieces, ""], strict=True)) == text
    assert all(one.strip() == one and 0 < len(one) <= 400 for one in pieces)


def test_pieces_are_sentences_where_these_are_short():
    assert split_pieces("A film. 3.5 stars!  ok\nno")[0] == ["A film.", "3.5 stars!", "ok", "no"]
    assert split_pieces("很好。不错！吧")[0] == ["很好。", "不错！", "吧"]


def test_a_drawn_token_comes_from_the_softmax_of_the_best():
    scores = torch.tensor([[0.0, 1.0, 3.0, 2.0]]).repeat(4000, 1)
    randoms = [np.random.default_rng(k) for k in range(4000)]
    drawn = Draw(randoms, temperature=2.0, top=3)(None, scores).argmax(dim=1)
    shares = torch.bincount(drawn, minlength=4) / 4000
    expected = torch.tensor([0.0, *torch.softmax(torch.tensor([1.0, 3.0, 2.0]) / 2, dim=0)])
    assert torch.allclose(shares, expected, atol=0.03)


def test_greedy_decoding_is_that_of_transformers(t5):
    translator = Translator(t5)
    inputs = translator.tokenizer("a good film", return_tensors="pt")
    ids = translator.model.generate(inputs["input_ids"], num_beams=1, do_sample=False, max_new_tokens=20)
    expected = translator.tokenizer.decode(ids[0], skip_special_tokens=True)
    assert translator.translate(["a good film"], 0, 0.0, 10) == [expected] and expected


@pytest.mark.filterwarnings("ignore:Recommended")
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("kind", ["t5", "marian"])
def test_a_result_depends_on_text_and_seed_alone(request, kind, temperature):
    model = request.getfixturevalue(kind)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    augmenter = BackTranslation(model, model, temperature)
    first = augmenter(TEXTS, 1)
    assert first == [augmenter([text], 1)[0] for text in TEXTS] == BackTranslation(model, model, temperature)(TEXTS, 1)
    assert (first == augmenter(TEXTS, 2)) == (temperature == 0)
    assert torch.equal(before, torch.get_rng_state())
    assert first[0] != TEXTS[0] and first[1:4:2] == TEXTS[1:4:2] and "\n\n" in first[2]


def test_the_second_model_reads_what_the_first_one_wrote(t5, tokenizer, tmp_path):
    other = str(save_t5(tmp_path, tokenizer, 1))
    there = Translator(t5).translate(["a good film"], 0, 0.0, 10)
    assert BackTranslation(t5, other)(["a good film"], 0) == Translator(other).translate(there, 0, 0.0, 10)
    prefixed = Translator(t5, "the bad ").translate(["a good film"], 0, 0.0, 10)
    assert prefixed == Translator(t5).translate(["the bad a good film"], 0, 0.0, 10) != there


def test_a_language_is_the_first_token_of_a_translation(t5):
    translator = Translator(t5, "", ["good", "film"])
    assert translator.translate(["it was fun"], 0, 0.0, 10)[0].startswith("film")
    with pytest.raises(ValueError, match="has no language 'deu_Latn'"):
        Translator(t5, "", ["good", "deu_Latn"])


def test_a_model_that_does_not_translate_is_an_error(t5, backbone):
    with pytest.raises(ValueError, match=r"\(bert\) does not translate"):
        BackTranslation(t5, backbone)(["a"], 0)
    with pytest.raises(OSError, match="there is no folder /no/model") as error:
        BackTranslation("/no/model", t5)(["a"], 0)
    assert error.value.__notes__ == ["BackTranslation: there and back each name a translation model"]


def test_it_is_made_by_a_recipe_and_cached(t5, tmp_path):
    augmenter = make_augmenter({"BackTranslation": {"there": t5, "back": t5}}, "")
    made = augment_texts(TEXTS, augmenter, 0, tmp_path)
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text()) == made == augment_texts(TEXTS, augmenter, 0, tmp_path)
