import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoTokenizer,
    DebertaV2Tokenizer,
    PreTrainedTokenizerFast,
)

from kagglekit.data.tokens import tokenize
from kagglekit.model.backbones import load_backbone, load_tokenizer, quiet
from kagglekit.model.classifier import Classifier
from kagglekit.model.vocabulary import LIST, add_tokens, resize_embeddings, split_word, suggest_tokens
from kagglekit.training.build_model import load_encoder

TEXT = "the Oldfilm was\n\nbad oldfilms , new-ish :)"
WORDS = ["\n", "oldfilm", "new-ish", ":)"]


def pieces_with_marks():
    pieces = [*"▁abcdefghijklmnopqrstuvwxyzO,:)-", "▁the", "▁was", "▁bad", "▁", "film", "▁film"]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [(piece, 0.0) for piece in special] + [(piece, -1.0) for piece in dict.fromkeys(pieces)]
    return DebertaV2Tokenizer(vocab=vocabulary)


def bytes_in_pairs():
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: n for n, piece in enumerate(["<pad>", "<unk>", "<mask>", *letters, "ba", "Ġba", "Ġbad"])}
    core = Tokenizer(models.BPE(vocabulary, [("b", "a"), ("Ġ", "ba"), ("Ġba", "d")]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", mask_token="<mask>")


def read(tokenizer, text):
    return tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False)["input_ids"])


def masked_lm(backbones, kind, tied, rows=30):
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(backbones[kind])
    config.tie_word_embeddings, config.vocab_size = tied, rows
    model = AutoModelForMaskedLM.from_config(config).eval()
    bias = model.get_output_embeddings().bias
    torch.nn.init.normal_(bias)  # it begins as zeros, which would hide one that is lost
    return model


def test_new_words_are_whole_tokens_in_word_pieces_and_a_newline_that_was_dropped_is_one(backbone):
    tokenizer = load_tokenizer(backbone)
    assert "\n" not in read(tokenizer, TEXT)
    assert add_tokens(tokenizer, WORDS) == 4
    found = read(tokenizer, TEXT)
    assert found == ["the", "oldfilm", "was", "\n", "\n", "bad", "[UNK]", ",", "new-ish", ":)"]


def test_new_words_are_whole_tokens_where_spaces_are_marks_and_leave_no_lone_mark():
    tokenizer = pieces_with_marks()
    assert add_tokens(tokenizer, ["\n", "oldfilm", ":)"]) == 3
    assert read(tokenizer, "the oldfilm was\n\nbad film :)") == [
        *["▁the", "oldfilm", "▁was", "\n", "\n", "▁bad", "▁film", ":)"]
    ]


def test_bytes_in_pairs_know_a_newline_already_and_keep_case_apart():
    tokenizer = bytes_in_pairs()
    assert add_tokens(tokenizer, ["\n", "bad", "Bad", "good"]) == 3  # "bad" is two pieces, " bad" one
    assert read(tokenizer, "good Bad \n") == ["good", "Bad", "Ġ", "Ċ"]


def test_a_word_that_is_there_or_is_twice_the_same_in_small_letters_is_added_once(backbone):
    tokenizer = load_tokenizer(backbone)
    assert add_tokens(tokenizer, ["film", "Film", "Covid", "covid", "Covid"]) == 1
    assert add_tokens(tokenizer, ["COVID", "Covid"]) == 0
    assert len(tokenizer) == 31


@pytest.mark.parametrize("word", ["", " ", "a film ", " covid"])
def test_an_empty_word_or_one_with_spaces_around_it_is_refused(backbone, word):
    with pytest.raises(ValueError, match="new_tokens"):
        add_tokens(load_tokenizer(backbone), [word])


def test_chinese_words_are_found_inside_a_text_without_spaces(backbone):
    tokenizer = load_tokenizer(backbone)
    add_tokens(tokenizer, ["很好"])
    assert read(tokenizer, "电影很好看").count("很好") == 1


@pytest.mark.parametrize("tied", [True, False])
def test_new_rows_are_means_of_the_pieces_and_survive_saving_tied_or_not(backbones, tmp_path, architecture, tied):
    model, tokenizer = masked_lm(backbones, architecture, tied), load_tokenizer(backbones[architecture])
    before = {n: layer.weight.detach().clone() for n, layer in enumerate(layers(model))}
    bias = model.get_output_embeddings().bias.detach().clone()
    add_tokens(tokenizer, ["\n", "films"])  # film ##s
    pieces = split_word(tokenizer, "films")
    assert len(pieces) == 2 and split_word(tokenizer, "\n") == []
    random = torch.get_rng_state()
    assert resize_embeddings(model, tokenizer) == 2
    assert torch.equal(random, torch.get_rng_state())
    for n, layer in enumerate(layers(model)):
        assert layer.weight.shape[0] == 32 and torch.equal(layer.weight[:30], before[n])
        assert torch.allclose(layer.weight[30], before[n].mean(dim=0), atol=1e-6)
        assert torch.allclose(layer.weight[31], before[n][pieces].mean(dim=0), atol=1e-6)
    assert torch.allclose(model.get_output_embeddings().bias[30:], torch.stack([bias.mean(), bias[pieces].mean()]))
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
    with quiet():
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        again, tokenizer_again = AutoModelForMaskedLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    ids = torch.tensor([tokenizer("the\nfilms .")["input_ids"]])
    assert tokenizer_again("the\nfilms .")["input_ids"] == ids[0].tolist() and {30, 31} <= set(ids[0].tolist())
    assert torch.equal(again.eval()(input_ids=ids).logits, model(input_ids=ids).logits)
    assert (again.get_output_embeddings().weight is again.get_input_embeddings().weight) == tied
    assert resize_embeddings(again, tokenizer_again) == 0


def layers(model):
    return [model.get_input_embeddings(), model.get_output_embeddings()]


def test_spare_rows_are_used_before_the_model_grows(backbones):
    model, tokenizer = masked_lm(backbones, "deberta-v2", True, rows=40), load_tokenizer(backbones["deberta-v2"])
    add_tokens(tokenizer, ["films"])
    spare = model.get_input_embeddings().weight[31].detach().clone()
    assert resize_embeddings(model, tokenizer) == 1
    table = model.get_input_embeddings().weight
    assert table.shape[0] == 40 and torch.equal(table[31], spare)
    assert torch.allclose(table[30], table[split_word(tokenizer, "films")].mean(dim=0), atol=1e-6)


def test_nothing_changes_where_nothing_was_added(backbones):
    model, tokenizer = masked_lm(backbones, "bert", True), load_tokenizer(backbones["bert"])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert add_tokens(tokenizer, []) == 0 and resize_embeddings(model, tokenizer) == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not hasattr(model.config, LIST)


def test_rows_that_a_first_phase_trained_are_kept_by_the_next(backbones):
    model, tokenizer = masked_lm(backbones, "bert", True), load_tokenizer(backbones["bert"])
    add_tokens(tokenizer, ["films"])
    resize_embeddings(model, tokenizer)
    with torch.no_grad():
        model.get_input_embeddings().weight[30] = 7.0
    add_tokens(tokenizer, ["plots"])
    assert resize_embeddings(model, tokenizer) == 1
    assert (model.get_input_embeddings().weight[30] == 7.0).all()
    assert model.config.new_tokens == ["films", "plots"]


def test_a_classifier_on_an_encoder_with_new_tokens_is_saved_and_gives_its_encoder(backbone, tmp_path):
    tokenizer = load_tokenizer(backbone)
    add_tokens(tokenizer, WORDS)
    encoder = load_backbone(backbone, 0.0)
    assert resize_embeddings(encoder, tokenizer) == 4
    model = Classifier(encoder, "softmax", 3).eval()
    model.save(tmp_path / "model", tokenizer)
    batch = tokenize([TEXT], load_tokenizer(str(tmp_path / "model")), 30).pad(0)
    again = Classifier.load(tmp_path / "model").eval()
    assert torch.equal(again(**batch)["logits"], model(**batch)["logits"])
    other = load_backbone(backbone, 0.0)
    resize_embeddings(other, tokenizer)
    load_encoder(other, tmp_path / "model")
    assert torch.equal(other.get_input_embeddings().weight, encoder.get_input_embeddings().weight)


def test_suggestions_are_frequent_words_in_many_pieces_and_a_newline_that_is_dropped(backbone):
    texts = ["the films are old\nyes"] * 4 + ["Films, Kafka"] * 3 + ["rare 电影很好"] * 2
    table = suggest_tokens(texts, load_tokenizer(backbone), min_texts=3)
    assert table["token"].tolist() == ["\n", "films", "are", "kafka"]
    assert table["texts"].tolist() == [4, 7, 4, 3]
    assert table["pieces"].tolist() == [0, 2, 0, 0]  # unknown words have none
    assert table["saved"].tolist() == [0, 7, 0, 0]
    assert suggest_tokens(texts, load_tokenizer(backbone), n=1)["token"].tolist() == ["films"]
    sample = suggest_tokens(texts * 10, load_tokenizer(backbone), most=45)  # every other one of 90
    assert sample["texts"].tolist() == [20, 35, 20, 15, 10]
    assert suggest_tokens([], load_tokenizer(backbone)).empty


def test_suggested_tokens_shorten_the_texts_by_what_was_promised(backbone):
    texts, tokenizer = [f"the films plots {n}" for n in range(6)], load_tokenizer(backbone)
    before = tokenize(texts, tokenizer, 30).lengths.sum()
    table = suggest_tokens(texts, tokenizer)
    assert add_tokens(tokenizer, table["token"]) == len(table) == 2
    assert before - tokenize(texts, tokenizer, 30).lengths.sum() == table["saved"].sum() == 12
    assert np.array_equal(table["saved"], [6, 6])


def test_words_of_two_columns_are_not_glued_together(backbone):
    texts = ["the metal\ufdd0kettle"] * 9
    assert set(suggest_tokens(texts, load_tokenizer(backbone))["token"]) == {"metal", "kettle"}
