"""The answer head of decoders: words behind a prompt, through the model's own head for words."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from kagglekit.competition.text_columns import SEPARATOR
from kagglekit.data.patterns import fill_pattern, find_words, make_pattern
from kagglekit.model.backbones import load_tokenizer, quiet
from kagglekit.model.classifier import Classifier
from kagglekit.model.verbalizer import load_language_model
from kagglekit.training.column_knobs import fill_in
from kagglekit.training.finetune import FineTuner
from kagglekit.training.model_inputs import FeatureScaler, read_inputs
from kagglekit.training.predict import predict
from kagglekit.training.recipe import Recipe
from tests.decoders.families import FAMILIES, OTHERS

PATTERN, WORDS = "Text: {text}\nGood or bad? {mask}", {"no": [" bad"], "yes": ["good", "fine"]}
TEXTS = ["the good film", "", "bad", "old plot " * 30, "the end<|im_end|>", "<|endoftext|>", "very sad", "a\nb"]


def answering(folder, pattern=PATTERN, words=WORDS, texts=TEXTS, **config):
    """The classifier of a decoder, the batch that it reads, and the tokens of the words."""
    tokenizer = load_tokenizer(folder)
    prompt = make_pattern(pattern, tokenizer, words=[word for own in words.values() for word in own])
    found = find_words(words, list(words), prompt, tokenizer)
    whole = load_language_model(folder, 0.0)
    vars(whole.config).update(config)
    options = {"mask_places": prompt.masks, "label_words": found}
    model = Classifier(whole, "softmax", len(words), "mask", head="verbalizer", **options).eval()
    return model, fill_pattern(texts, tokenizer, prompt, 40).pad(tokenizer.pad_token_id), found


def next_words(folder, batch, found, **config):
    """What the whole model says of the words behind the last token of each text, read one by one without padding."""
    with quiet(), torch.no_grad():
        whole = AutoModelForCausalLM.from_pretrained(folder).eval()
        vars(whole.config).update(config)
        rows = zip(batch["input_ids"], batch["attention_mask"], strict=True)
        said = torch.stack([whole(ids[mask == 1][None]).logits[0, -1] for ids, mask in rows])
    return torch.stack([said[:, [ids[0] for ids in one]].mean(dim=1) for one in found], dim=1)


@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
@torch.no_grad()
def test_a_logit_is_what_the_whole_model_says_of_the_words_behind_the_prompt(tiny_decoder, family, tmp_path):
    folder = tiny_decoder(family, "eos")
    model, batch, found = answering(folder)
    expected, given = next_words(folder, batch, found), model(**batch)["logits"]
    assert torch.allclose(given, expected, atol=1e-5) and expected.std(dim=0).min() > 1e-3
    assert model.head.model.get_output_embeddings().weight.shape == (3, 32)  # the rows of three words, and no other
    if family != "gpt2":  # whose positions are counted with the padding
        left = {name: torch.stack([roll(x, m) for x, m in zip(batch[name], batch["attention_mask"], strict=True)])
                for name in batch}  # fmt: skip
        assert not left["attention_mask"][1, 0] and torch.allclose(model(**left)["logits"], expected, atol=1e-5)
    model.save(tmp_path / "model")
    assert torch.equal(Classifier.load(tmp_path / "model").eval()(**batch)["logits"], given)


@pytest.mark.parametrize("words", ["567", ["ü", "ö"]])
@torch.no_grad()
def test_what_all_words_begin_with_is_read_with_the_prompt(tiny_decoder, words):
    """The space before digits is a token of its own in most decoders: odds are those of whole words behind the text."""
    folder = tiny_decoder("llama")
    model, batch, found = answering(folder, "{text}\nStars: {mask}", {word: [word] for word in words}, TEXTS[:2])
    tokenizer, logits = load_tokenizer(folder), model(**batch)["logits"]
    with quiet():
        whole = AutoModelForCausalLM.from_pretrained(folder).eval()
    for row, text in enumerate(TEXTS[:2]):
        prompt, said = len(tokenizer(f"{text}\nStars:")["input_ids"]), []
        for word, own in zip(words, found, strict=True):
            ids = torch.tensor([tokenizer(f"{text}\nStars: {word}")["input_ids"]])
            assert ids.shape[1] >= prompt + 2 and ids[0, -1] == own[0][0]
            odds = whole(ids).logits.log_softmax(dim=-1)[0, prompt - 1 : -1]
            said.append(odds.gather(1, ids[0, prompt:, None]).sum())
        assert torch.allclose(logits[row].log_softmax(0), torch.stack(said).log_softmax(0), atol=1e-5)
    assert logits.std(dim=1).min() > 1e-3


def roll(row, mask):
    """The same row padded on the left."""
    return row.roll(len(row) - int(mask.sum()))


@torch.no_grad()
def test_the_soft_cap_of_gemma_bounds_the_logits(tiny_decoder):
    folder = tiny_decoder("gemma3_text")
    model, batch, found = answering(folder, final_logit_softcapping=0.01)
    given = model(**batch)["logits"]
    assert torch.allclose(given, next_words(folder, batch, found, final_logit_softcapping=0.01), atol=1e-6)
    assert 0 < given.abs().max() <= 0.01


def test_the_prompt_ends_where_the_answer_follows(tiny_decoder):
    tokenizer = load_tokenizer(tiny_decoder("llama"))
    made = make_pattern(PATTERN, tokenizer)
    assert made.masks == [-1] and tokenizer.decode(made.around[-1]) == "\nGood or bad?"
    for pattern, piece in ((PATTERN, "Ġbad"), ("{text}\n{mask}", "A"), ("{text} ({mask}", "A")):
        ((ids,),) = find_words({"x": [piece.strip("Ġ")]}, ["x"], make_pattern(pattern, tokenizer), tokenizer)
        assert tokenizer.convert_ids_to_tokens(ids) == [piece]
    for pattern in ("{text} {mask}.", "{mask} {text}", "{text} {mask} {mask}"):
        with pytest.raises(ValueError, match=r"as of models that read forward: write one .mask. at the very"):
            make_pattern(pattern, tokenizer)
    with pytest.raises(
        ValueError, match=r"'terrific' of class 'x' is \d+ tokens .* choose words of one token, or letters"
    ):
        find_words({"x": ["terrific"]}, ["x"], made, tokenizer)


def test_a_mask_that_a_decoder_has_never_seen_is_none(tiny_decoder, tmp_path):
    tokenizer = load_tokenizer(tiny_decoder("gemma3_text"))
    tokenizer.mask_token = "<|endoftext|>"
    tokenizer.save_pretrained(tmp_path)
    AutoModelForCausalLM.from_pretrained(tiny_decoder("gemma3_text")).config.save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path)).mask_token_id is None


CHAT = (
    "{%- for turn in messages %}{{ '<|im_start|>' + turn.role + '\n' + turn.content | trim + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{{ strftime_now('%d %b %Y') }}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ 'no thought ' }}{% endif %}"
)


def test_a_chat_says_the_pattern_and_the_answer_begins_the_reply(tiny_decoder):
    tokenizer = load_tokenizer(tiny_decoder("llama"))  # which puts a token before every text
    tokenizer.chat_template = CHAT
    for pattern in ("Say: {text}\nGood?", "Say: {text}\nGood? {mask}"):
        made = make_pattern(pattern, tokenizer, chat=True, system="Be {brief}.")
        (ids,) = fill_pattern(["the film"], tokenizer, made, 200)
        assert tokenizer.decode(ids) == (
            "<|im_start|>system\nBe {brief}.<|im_end|>\n<|im_start|>user\nSay: the film\nGood?<|im_end|>\n26 Jul 2024"
            "<|im_start|>assistant\nno thought"
        )
        assert made.masks == [-1] and made.context.endswith("no thought ")
        assert find_words({"x": ["bad"]}, ["x"], made, tokenizer) == [[tokenizer(" bad")["input_ids"][-1:]]]
    for pattern in ("{mask} {text}", "{text} {mask} {mask}", "{text} {mask}!"):
        with pytest.raises(ValueError, match="the model replies behind the pattern"):
            make_pattern(pattern, tokenizer, chat=True)
    tokenizer.chat_template = "{{ raise_exception('System role not supported') if messages[0].role == 'system' }}x"
    with pytest.raises(ValueError, match=r"takes no system text: leave system='a' out \(System role not supported\)"):
        make_pattern("{text}", tokenizer, chat=True, system="a")
    with pytest.raises(ValueError, match="repeats or drops what the user says"):
        make_pattern("{text}", tokenizer, chat=True)


# In a run


@pytest.fixture
def tuner(tiny_decoder, task, texts):
    """tuner(**knobs): a FineTuner of a tiny decoder with the answer head, on 48 rows of two text columns."""

    def make(family="qwen3", kind="binary", **knobs):
        (words, balance), names = texts(48), {"binary": ["no", "yes"], "multiclass": ["bad", "mixed", "good"]}[kind]
        label = np.array(names)[(balance > 0).astype(int) if kind == "binary" else np.arange(48) % 3]
        table = pd.DataFrame({"id": np.arange(48).astype(str), "text": [f"{one}{SEPARATOR}is it fun" for one in words]})
        what = replace(task(kind, metric="accuracy"), text=["answer", "question"], text_separator=SEPARATOR)
        common = {"max_length": 80, "epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "head": "answer"}
        common |= {"pattern": "Question: {question}\nAnswer: {answer}\n{classes}\nLetter: {mask}"}
        fine = FineTuner(
            what, table.assign(label=label), table[:7], tiny_decoder(family), Recipe(**{**common, **knobs})
        )
        fine.precision = "fp32"
        return fine

    return make


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_letters_answer_for_classes_that_the_prompt_lists(tuner, tmp_path, kind):
    fine = tuner(kind=kind, learning_rate=5e-3)
    names = fine.task.classes
    assert fine.recipe.verbalizer == {name: [letter] for name, letter in zip(names, "ABC", strict=False)}
    read = fine.tokenizer.decode(next(iter(fine.rows.tokens)))
    listed = "".join(f"{letter}. {name}\n" for letter, name in zip("ABC", names, strict=False))
    assert read.startswith("Question: is it fun\nAnswer: ") and read.endswith(f"\n{listed}Letter:")
    fitted = fine.fit(np.arange(32), np.arange(32, 48), tmp_path / "fold0", 0)
    assert set(fitted.receipts["before training"]) == {"score", "loss"}
    assert fitted.history[0]["loss"] > 0 and np.allclose(fitted.oof.sum(axis=1), 1, atol=1e-5)
    place = tmp_path / "fold0" / "model"
    test = FeatureScaler.load(place).examples(read_inputs(fine.test, load_tokenizer(str(place)), fine.recipe))
    assert np.allclose(predict(Classifier.load(place), test, "fp32"), fitted.test, atol=1e-6)
    zero = tuner(kind=kind, epochs=0).fit(np.arange(32), np.arange(32, 48), tmp_path / "zero", 0)
    assert zero.receipts["before training"] == fitted.receipts["before training"] and not zero.history
    assert np.isfinite(zero.test).all() and (tmp_path / "zero" / "model" / "classifier.json").is_file()
    still = tuner(kind=kind, learning_rate=1e-12, weight_decay=0.0)
    again = still.fit(np.arange(32), np.arange(32, 48), tmp_path / "again", 0, start=str(place))
    assert np.allclose(again.oof, fitted.oof, atol=1e-5)  # the rows of the words too


@pytest.mark.parametrize(
    ("classes", "words"), [("210", "210"), ("ABD", "ABD"), ("好差", "AB"), ("A1", "AB"), (["10", "5"], "AB")]
)
def test_single_letters_or_digits_answer_for_themselves_and_letters_for_other_classes(task, classes, words):
    recipe = Recipe(head="answer", pattern="{text} {mask}")
    found = fill_in(recipe, task("multiclass", classes=[*classes])).verbalizer
    assert found == {name: [word] for name, word in zip(classes, words, strict=True)}


def test_what_has_no_distribution_over_classes_is_told_in_the_words_that_were_used(task):
    for knobs, what in (({"head": "answer"}, "head='answer'"), ({"verbalizer": {"a": ["good"]}}, "verbalizer")):
        with pytest.raises(ValueError, match=rf"^{what} gives one .* \(regression\) is .*: leave {what} out"):
            Recipe(pattern="{text} {mask}", **knobs).check_task(task("regression"))


def test_the_answer_head_is_trained_and_saved_with_adapters(tuner, tmp_path):
    fine, place = tuner(tuning="lora"), tmp_path / "fold0" / "model"
    fitted = fine.fit(np.arange(32), np.arange(32, 48), tmp_path / "fold0", 0)
    assert set(fitted.receipts["before training"]) == {"score", "loss"}
    test = FeatureScaler.load(place).examples(read_inputs(fine.test, load_tokenizer(str(place)), fine.recipe))
    assert np.allclose(predict(Classifier.load(place), test, "fp32"), fitted.test, atol=1e-5)


def test_the_question_and_the_place_of_the_answer_survive_truncation(tuner):
    pattern = "Q: {question}\nA: {answer}\nLetter: {mask}"
    for budget, question in (({"question": 8}, "is it fun"), ({"answer": 12}, "is it")):
        fine = tuner(pattern=pattern, max_length=26, budget=budget)
        assert fine.rows.tokens.lengths.max() == 26
        for ids in fine.rows.tokens:
            read = fine.tokenizer.decode(ids)
            assert read.startswith(f"Q: {question}") and read.endswith("\nLetter:")


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"pattern": "{body} {mask}"}, "pattern: 'body' is no text column of the task.*: it has answer, question"),
        ({"pattern": "{qestion} {mask}"}, "'qestion' is no text column of the task: did you mean question?"),
        ({"verbalizer": {"no": ["bad"]}}, "class 'yes' has no word"),
        ({"pattern": "{answer}"}, "head='answer' goes with the mask of a pattern, and '{answer}' has none"),
        ({"pattern": ""}, "head='answer' has words for the mask of a pattern, and there is no pattern"),
        ({"pooling": "max"}, "head='answer' is a head of its own, over the masks, and pooling='max' has no effect"),
        ({"chat": True}, "chat template, as encoders and base models have none"),
        ({"max_length": 12}, "max_length=12 is out of range: it must be above"),
    ],
)
def test_prompts_that_do_not_fit_are_told_with_the_columns_there_are(tuner, knobs, words):
    with pytest.raises(ValueError, match=words):
        tuner(**knobs)
