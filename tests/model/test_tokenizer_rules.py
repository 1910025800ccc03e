"""Pieces of every SentencePiece family against SentencePiece itself, and masks as transformers 4.57.6 read them."""

import base64
import io
import json
import unicodedata

import pytest
import sentencepiece
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer
from transformers.convert_slow_tokenizer import import_protobuf

from kagglekit.data.patterns import fill_pattern, make_pattern
from kagglekit.model.backbones import load_tokenizer
from kagglekit.model.tokenizer_rules import make_normalizer

LINES = ["the film was good and the plot was bad, the end was fine", *("".join(map(chr, range(33, 127)))).split("'")]
LINES += ["电影 很 好看 台湾", "café naïve über élan", "한국 가각", "カタカナ ガギ バ が", "Việt ệ ắ", "TM 1⁄2 kg"]
AWKWARD = """ＡＢＣ the ｆｉｌｍ|the film…|the\u00a0film|the\u200bfilm|the \u200b film|the\nfilm|the\tfilm
=film\r\n\r\nthe|a  b   c|  lead|trail  |trail\u00a0|the film \n|ﬁne ﬃ|™ ½ ㎏|cafe\u0301|e\u0301\u0301|“good” ‘bad’
=a–b—c|，。！？～|한국어 가각|ﾊﾞ ｶﾞ ｶﾀｶﾅ|カ\u3099|👍🏽 the 👩\u200d👩\u200d👧|\u2028the\u2029film\u0085end|don´t|[UNK
=the\x00film\x07|\ufeffthe film|▁the ▁▁film| |x² y₃ ①|\u3000电影\u3000|İstanbul ẞ ß|A\u00adB|\u202ethe|ﷺ
=the\u2009film\u205f|\u00a0\u200b|"""
AWKWARD = [text for line in AWKWARD.split("\n=") for text in line.split("|")]
AWKWARD += [unicodedata.normalize("NFD", text) for text in ("Việt ệ ắ", "한국 가각", "élan über")]
BERT = {"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"}
ALBERT = {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "control_symbols": "[CLS],[SEP],[MASK]"}
FAMILIES = {  # class -> its model type, the name of its file, options of training, and of the tokenizer
    "DebertaV2Tokenizer": ("deberta-v2", "spm.model", {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, **BERT}, {}),
    "BigBirdTokenizer": ("big_bird", "spiece.model", {"user_defined_symbols": "[SEP],[CLS],[MASK]"}, {}),
    "XLMRobertaTokenizer": ("xlm-roberta", "sentencepiece.bpe.model", {}, {}),
    "MBartTokenizer": ("mbart", "sentencepiece.bpe.model", {}, {}),
    "MBart50Tokenizer": ("mbart", "sentencepiece.bpe.model", {}, {}),
    "NllbTokenizer": ("m2m_100", "sentencepiece.bpe.model", {"model_type": "bpe"}, {}),
    "T5Tokenizer": ("t5", "spiece.model", {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}, {}),
    "PegasusTokenizer": ("pegasus", "spiece.model", {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}, {}),
    "AlbertTokenizer": (
        "albert",
        "spiece.model",
        ALBERT,
        {"do_lower_case": False, "keep_accents": True},
    ),
    "FNetTokenizer": ("fnet", "spiece.model", {}, {"do_lower_case": False, "keep_accents": True}),
}


def train(place, **options):
    (place / "lines.txt").write_text("\n".join(LINES * 20))
    made, rules = io.BytesIO(), {"normalization_rule_name": "nmt_nfkc", "character_coverage": 1.0}
    rules |= {"vocab_size": 400, "hard_vocab_limit": False, "minloglevel": 2, **options}
    sentencepiece.SentencePieceTrainer.train(input=str(place / "lines.txt"), model_writer=made, **rules)
    return made.getvalue()


def write_folder(folder, kind, model_type, **options):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, **options}))
    return folder


def pieces(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ["?" if number == tokenizer.unk_token_id else tokenizer.convert_ids_to_tokens(number) for number in ids]


@pytest.mark.parametrize("kind", FAMILIES)
def test_pieces_are_those_of_sentencepiece_after_loading_and_after_saving_and_loading_again(kind, tmp_path):
    model_type, name, options, settings = FAMILIES[kind]
    folder = write_folder(tmp_path / "hub", kind, model_type, **settings)
    (folder / name).write_bytes(train(tmp_path, **options))
    own = sentencepiece.SentencePieceProcessor(model_file=str(folder / name))
    first = load_tokenizer(str(folder))
    first.save_pretrained(write_folder(tmp_path / "run", kind, model_type))
    second = load_tokenizer(str(tmp_path / "run"))
    second.save_pretrained(write_folder(tmp_path / "next run", kind, model_type))
    assert not list((tmp_path / "run").glob("*.model"))  # the rules come from tokenizer.json
    assert type(first).__name__ == kind and first.is_fast and len(AWKWARD) > 40
    for tokenizer in (first, second, load_tokenizer(str(tmp_path / "next run"))):
        for text in AWKWARD:
            numbers = own.encode(text)
            right = ["?" if number == own.unk_id() else own.id_to_piece(number) for number in numbers]
            assert pieces(tokenizer, text) == right, (text, tokenizer.name_or_path)
    assert pieces(first, "Ａ…") == ["▁", "A", ".", ".", "."]


def test_a_saved_tokenizer_without_rules_stays_as_its_model_read_it(tmp_path):
    kind, model_type = "DebertaV2Tokenizer", "deberta-v2"
    folder = write_folder(tmp_path / "hub", kind, model_type)
    (folder / "spm.model").write_bytes(train(tmp_path, **FAMILIES[kind][2]))
    AutoTokenizer.from_pretrained(folder).save_pretrained(write_folder(tmp_path / "old run", kind, model_type))
    assert pieces(load_tokenizer(str(tmp_path / "old run")), "ＡＢ the") == ["▁", "?", "▁", "t", "h", "e"]
    assert pieces(load_tokenizer(str(folder)), "ＡＢ the") == ["▁", "A", "B", "▁", "t", "h", "e"]


@pytest.mark.parametrize("rule", ["nmt_nfkc", "nfkc", "nmt_nfkc_cf"])
def test_a_normalizer_treats_single_characters_as_sentencepiece_does(rule, tmp_path):
    model = train(tmp_path, normalization_rule_name=rule)
    own = sentencepiece.SentencePieceProcessor(model_proto=model)
    spec = import_protobuf().ModelProto.FromString(model).normalizer_spec
    ours = make_normalizer(base64.b64encode(spec.precompiled_charsmap).decode())
    wrong = []
    for number in [*range(1, 0xD800, 7), *range(0xE000, 0x2FA20, 7)]:
        text = f"a{chr(number)}b"
        if number != 0x2581 and ours.normalize_str(text) != own.normalize(text).replace("▁", " ").strip():
            wrong.append(hex(number))
    assert not wrong


BYTES = {"RobertaTokenizer": "roberta", "LongformerTokenizer": "longformer", "DebertaTokenizer": "deberta"}
BYTES |= {"BartTokenizer": "bart", "LEDTokenizer": "led"}


@pytest.mark.parametrize("kind", BYTES)
def test_a_mask_has_no_token_for_the_space_before_it_without_a_tokenizer_json(kind, tmp_path):
    special = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"] if "Deberta" in kind else "<s> <pad> </s> <unk> <mask>"
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = special.split() if isinstance(special, str) else special
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=special, initial_alphabet=core.pre_tokenizer.alphabet()
    )
    core.train_from_iterator(["It was good. It was bad, the film."] * 20, trainer)
    folder = write_folder(tmp_path / "hub", kind, BYTES[kind])
    core.model.save(str(folder))
    first = load_tokenizer(str(folder))
    first.save_pretrained(write_folder(tmp_path / "run", kind, BYTES[kind]))
    mask = first.mask_token
    for tokenizer in (first, load_tokenizer(str(tmp_path / "run"))):
        assert tokenizer.get_vocab() == core.get_vocab()
        assert pieces(tokenizer, f"It was {mask}.") == ["It", "Ġwas", mask, "."]  # seen in transformers 4.57.6
        assert pieces(tokenizer, f"the {mask} {mask} film")[:3] == ["the", mask, mask]
        filled = fill_pattern(["the film"], tokenizer, make_pattern("{text} It was {mask}.", tokenizer), 20)
        at = filled.flat.tolist().index(tokenizer.mask_token_id)
        assert tokenizer.convert_ids_to_tokens(filled.flat[at - 1 : at + 2].tolist()) == ["Ġwas", mask, "."]
