"""Patterns and verbalizers from a recipe to the predictions of a saved model."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer
from torch.nn import functional as F
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from kagglekit.data.patterns import fill_pattern, make_pattern
from kagglekit.model.backbones import load_backbone, quiet
from kagglekit.model.classifier import Classifier
from kagglekit.training.finetune import FineTuner
from kagglekit.training.model_inputs import FeatureScaler, read_inputs
from kagglekit.training.predict import predict
from kagglekit.training.recipe import Recipe
from kagglekit.tricks import TRICKS

TRAIN, VALID = np.arange(40, 64), np.arange(40)
ENGLISH = {"pattern": "{text} it was {mask} .", "verbalizer": {"no": ["bad", "poor"], "yes": ["good", "fine"]}}
CHINESE = {"pattern": "{text}，很{mask}", "verbalizer": {"no": ["差", "糟"], "yes": ["好", "棒"]}}
THREE = {"bad": ["bad"], "mixed": ["fine"], "good": ["good"]}
AVERAGES = {"EMA": {"decay": 0.8, "start": 0.0}, "SWA": {"start": 0.0}, "CheckpointSoup": {"start": 0.0}}
INPUTS = {"TokenMasking": {}, "NEFTune": {}, "SupCon": {}, "GradualUnfreezing": {}}
OTHERS = {"AWP": {"start": 0.0}, "FGM": {}, "FreeLB": {"steps": 2}, "Mixout": {}, "Mixup": {}, "PGD": {}, "RDrop": {}}


def english(n, texts):
    """`n` texts with more good words than bad ones or the other way round, and whether it is so."""
    words, balance = texts(2 * n)
    chosen = np.flatnonzero(balance)[:n]
    return [words[row] for row in chosen], balance[chosen] > 0


def chinese(n, texts):
    random = np.random.default_rng(0)
    good = random.random(n) < 0.5
    words = [random.choice(["喜欢", "好看"] if yes else ["无聊", "难看"]) for yes in good]
    return [f"{random.choice(list('这那'))}部电影我{word}" for word in words], good


def by_characters(tokenizer):
    """The tiny tokenizer with another vocabulary."""
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"这那部电影我喜欢好看无聊难，很差糟棒"]
    parts["model"]["vocab"] = {word: number for number, word in enumerate(words)}
    core = Tokenizer.from_str(json.dumps(parts))
    return PreTrainedTokenizerFast(tokenizer_object=core, **tokenizer.special_tokens_map)


def pretrain(tokenizer, prompt, texts, good, folder, steps):
    """Masked-language training on texts in the pattern, whose mask is any of the words that fit; to a folder."""
    torch.manual_seed(0)
    random, words = np.random.default_rng(0), list(prompt["verbalizer"].values())
    tokens = fill_pattern(texts, tokenizer, make_pattern(prompt["pattern"], tokenizer), 32)
    labels = torch.tensor([tokenizer.convert_tokens_to_ids(str(random.choice(words[int(yes)]))) for yes in good])
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertForMaskedLM(BertConfig(**sizes, vocab_size=len(tokenizer), max_position_embeddings=40)).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(steps):
        rows = np.arange(32 * step, 32 * step + 32) % len(texts)
        batch = tokens[rows].pad(tokenizer.pad_token_id)
        hidden = batch["input_ids"] == tokenizer.mask_token_id
        F.cross_entropy(model(**batch).logits[hidden], labels[rows]).backward()
        optimizer.step()
        optimizer.zero_grad()
    with quiet():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def pretrained(texts, tokenizer, tmp_path_factory):
    """Language -> the knobs, a folder with a masked-language model that learned to fill the pattern, and texts that it
    has not seen."""
    made = {}
    for name, prompt, write, core, steps in (
        ("english", ENGLISH, english, tokenizer, 120),
        ("chinese", CHINESE, chinese, by_characters(tokenizer), 40),
    ):
        (words, good), folder = write(364, texts), str(tmp_path_factory.mktemp(name))
        pretrain(core, prompt, words[64:], good[64:], folder, steps)
        made[name] = prompt, folder, words[:64], good[:64]
    return made


@pytest.fixture
def tuner(pretrained, task):
    """tuner(language, **knobs): a FineTuner with a pattern on 64 rows, three steps an epoch on 24 of them."""

    def make(language="english", kind="binary", folder=None, **knobs):
        prompt, source, words, good = pretrained[language]
        names = {"binary": ["no", "yes"], "multiclass": ["bad", "mixed", "good"], "ordinal": ["1", "2", "3"]}[kind]
        numbers = good.astype(int) if kind == "binary" else np.arange(64) % 3
        train = pd.DataFrame({"id": np.arange(64).astype(str), "text": words, "label": np.array(names)[numbers]})
        test = pd.DataFrame({"id": [f"t{n}" for n in range(7)], "text": words[:7]})
        common = {"max_length": 32, "epochs": 1, "batch_size": 8, "learning_rate": 1e-3}
        what = task(kind, metric="qwk" if kind == "ordinal" else "accuracy")
        made = FineTuner(what, train, test, folder or source, Recipe(**{**common, **prompt, **knobs}))
        made.precision = "fp32"
        return made

    return make


def fit_and_load(fine, folder, **options):
    """Fit one fold; its predictions are finite, and those of the saved model, which reads the rows again."""
    fitted, place = fine.fit(TRAIN, VALID, folder / "fold0", 0, **options), folder / "fold0" / "model"
    assert np.isfinite(fitted.oof).all() and np.isfinite(fitted.test).all()
    model, beside = Classifier.load(place), FeatureScaler.load(place)
    test = beside.examples(read_inputs(fine.test, fine.tokenizer, fine.recipe))
    assert np.allclose(predict(model, test, "fp32"), fitted.test, atol=1e-5)
    json.dumps(fitted.receipts)
    return fitted


@pytest.mark.parametrize("language", ["english", "chinese"])
def test_before_any_training_it_is_better_than_chance_and_training_does_not_forget(tuner, tmp_path, language):
    fine = tuner(language)
    fitted, share = fit_and_load(fine, tmp_path), fine.labels[VALID].mean()
    before, after = fitted.receipts["before training"]["score"], fitted.history[-1]["score"]
    assert min(before, after) > max(share, 1 - share) + 0.1 and fitted.oof.shape == (40, 2)


@pytest.mark.parametrize(
    ("kind", "knobs", "columns"),
    [
        ("multiclass", {"verbalizer": THREE}, 3),
        ("multiclass", {"verbalizer": THREE, "loss": {"focal": {}}}, 3),
        ("ordinal", {"verbalizer": {"1": ["bad"], "2": ["fine"], "3": ["good"]}, "loss": {"cross_entropy": {}}}, 1),
    ],
)
def test_other_kinds_of_classes_are_learned(tuner, tmp_path, kind, knobs, columns):
    assert fit_and_load(tuner(kind=kind, **knobs), tmp_path).test.shape == (7, columns)


def test_the_masks_alone_can_be_a_pooling(tuner, tmp_path):
    fit_and_load(tuner(verbalizer={}, pooling="mask", pattern="{mask} {text} {mask}", head="separate"), tmp_path)
    model = Classifier.load(tmp_path / "fold0" / "model")
    assert model.pooling.places.tolist() == [1, -2] and model.pooling.width == 32


def test_a_pattern_without_a_mask_goes_with_every_pooling(tuner, tmp_path):
    fine = tuner(verbalizer={}, pattern="the film ! {text}")
    assert next(iter(fine.rows.tokens))[1:4].tolist() == fine.tokenizer.convert_tokens_to_ids(["the", "film", "!"])
    fit_and_load(fine, tmp_path)


@pytest.mark.parametrize("recipe", [AVERAGES, INPUTS, *({name: OTHERS[name]} for name in OTHERS)], ids="-".join)
def test_every_trick_goes_with_it(tuner, tmp_path, recipe):
    fitted = fit_and_load(tuner(tricks=recipe, dropout=0.1), tmp_path)
    assert all(fitted.receipts[name]["steps"] > 0 for name in recipe)


def test_no_trick_is_forgotten():
    assert {*AVERAGES, *INPUTS, *OTHERS} == {*TRICKS}


def test_all_knobs_of_the_model_go_with_it(tuner, tmp_path):
    knobs = {"freeze_embeddings": True, "freeze_layers": 1, "checkpointing": True, "head_learning_rate": 1e-3}
    fit_and_load(tuner(**knobs, head_dropout=0.1, dropout_samples=2, truncation="tail", max_length=9), tmp_path)
    fit_and_load(tuner(reinit_layers=1, tricks={"FGM": {}, "RDrop": {}, "EMA": {}}, dropout=0.1), tmp_path / "other")


def test_a_fold_that_was_cut_off_goes_on_as_if_it_had_never_been(tuner, tmp_path, monkeypatch):
    fine = tuner(epochs=2, dropout=0.1)
    fine.save_seconds = 0.0
    straight, calls = fine.fit(TRAIN, VALID, tmp_path / "straight", 0), []

    def score(*_):
        calls.append(1)
        return 0.5 if len(calls) < 3 else 1 / 0  # an evaluation asks for the metric and for the loss

    monkeypatch.setattr("kagglekit.training.finetune.score", score)
    with pytest.raises(ZeroDivisionError):
        fine.fit(TRAIN, VALID, tmp_path / "fold0", 0)  # at the evaluation after step 3
    monkeypatch.undo()
    assert list((tmp_path / "fold0" / "checkpoints").glob("*"))
    again = fine.fit(TRAIN, VALID, tmp_path / "fold0", 0)
    assert np.array_equal(again.test, straight.test) and again.receipts == straight.receipts


# A start from it, and from others


def still(tuner, **knobs):
    """A FineTuner that leaves the weights as they are."""
    return tuner(learning_rate=1e-12, weight_decay=0.0, **knobs)


def test_a_plain_run_and_another_verbalizer_go_on_from_it(tuner, tmp_path, weights):
    first = fit_and_load(tuner(learning_rate=5e-3), tmp_path / "pet")
    start, theirs = str(tmp_path / "pet" / "fold0" / "model"), Classifier.load(tmp_path / "pet" / "fold0" / "model")
    bare = str(tmp_path / "bare")
    load_backbone(tuner().backbone).save_pretrained(bare)  # no head, so that it must come from the start
    tuner().tokenizer.save_pretrained(bare)
    again = fit_and_load(still(tuner, folder=bare), tmp_path / "again", start=start)
    assert np.allclose(again.test, first.test, atol=1e-4)
    fit_and_load(still(tuner, pattern="", verbalizer={}), tmp_path / "plain", start=start)
    plain = Classifier.load(tmp_path / "plain" / "fold0" / "model")
    ours, others = weights(plain.backbone), weights(theirs.backbone)
    assert all(torch.allclose(ours[name], others[name], atol=1e-6) for name in others)
    from_plain = fit_and_load(still(tuner), tmp_path / "back", start=str(tmp_path / "plain" / "fold0" / "model"))
    assert not np.allclose(from_plain.test, first.test, atol=1e-4)  # the head is that of the backbone's own files


def test_a_backbone_without_a_head_needs_a_start_that_has_one(tuner, tmp_path, pretrained):
    bare = str(tmp_path / "bare")
    load_backbone(tuner().backbone).save_pretrained(bare)
    tuner().tokenizer.save_pretrained(bare)
    fine = tuner(folder=bare)
    assert {"embeddings", "layer 1", "layer 2", "head"} <= set(fine.plan_rates(TRAIN).columns)
    with pytest.raises(ValueError, match=r"no pretrained head for words .*: start from a run of 2_pretrain"):
        fine.fit(TRAIN, VALID, tmp_path / "fold0", 0)
    assert not (tmp_path / "fold0").exists()
    with_head, own = (
        f.fit(TRAIN, VALID, tmp_path / n, 0, s) for f, n, s in ((fine, "1", tuner().backbone), (tuner(), "2", None))
    )
    assert np.array_equal(with_head.test, own.test)


def test_words_that_do_not_fit_are_an_error_when_the_fine_tuner_is_made(tuner):
    with pytest.raises(ValueError, match="class 'yes' has no word"):
        tuner(verbalizer={"no": ["bad"]})
    with pytest.raises(ValueError, match="max_length=6 is out of range: it must be above 6"):
        tuner(max_length=6)
