"""Fifty steps of every trick, and a few of every other way to train, on real texts with the real weights of MiniLM.

To take less time, the model is the lower third of MiniLM, with a vocabulary of the words of these texts alone: they are
tokenised and encoded as before. Tricks train the upper of its two layers, and the embeddings.
"""

import gc
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedTokenizerFast

from kagglekit.competition.infer import infer
from kagglekit.competition.task import read_test, read_train
from kagglekit.data.truncation import TRUNCATIONS
from kagglekit.losses.catalogue import LOSSES, fitting_losses
from kagglekit.model.backbones import find_backbone, load_backbone, load_tokenizer
from kagglekit.model.heads import HEADS
from kagglekit.model.pooling import POOLINGS
from kagglekit.options import knobs_of
from kagglekit.samples import write_sample
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import SCHEDULES, Recipe
from kagglekit.tricks import TRICKS

VALID = np.arange(8)
DEPTH = 2
RECIPES = [  # tricks that show what they do in one run
    {"Mixup": {}, "Mixout": {}, "EMA": {}, "SWA": {}, "CheckpointSoup": {}},
    {"TokenMasking": {}, "NEFTune": {}, "RDrop": {}, "SupCon": {}, "GradualUnfreezing": {}},
    {"FGM": {}},
    {"AWP": {}},
    {"PGD": {"steps": 2}},  # steps are passes, and time
    {"FreeLB": {"steps": 2}},
]
AUXILIARY = {"auxiliary": {"length": 0.3, "asks": 0.3}, "learned_weights": True}
MIXES = [  # losses that add up
    ("multiclass", {"cross_entropy": {"label_smoothing": 0.1, "class_weights": "balanced"}, "focal": {"weight": 0.5}}),
    ("multilabel", {"bce": {"pos_weight": "balanced"}, "soft_f1": {"weight": 0.5}}),
    ("regression", {"smooth_l1": {}, "pearson": {"weight": 0.5}, "ranking": {"weight": 0.1}}),
]
KINDS = ("multiclass", "multilabel", "regression", "ordinal")
RUNS = [*((kind, {loss: {}}) for kind in KINDS for loss in fitting_losses(kind)), *MIXES]
LONG = [{"truncation": cut} for cut in TRUNCATIONS]
LONG += [
    {"chunks": 3, "chunk_stride": 4, "chunk_pooling": pooling} for pooling in knobs_of(Recipe)["chunk_pooling"].choices
]


def every(names, run):
    """Each of `names` in turn."""
    return list(names)[run % len(names)]


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Name -> task, train and test, with columns of train that can be learned beside."""
    folder, made = tmp_path_factory.mktemp("samples"), {}
    for name in ("tweets", "drugs", "bbc"):
        task, _ = infer(write_sample(name, folder / name, rows=48))
        train, test = read_train(task)[: 16 if name == "bbc" else 48], read_test(task)[:4]
        train["length"] = train["text"].str.len().astype(str)
        train["asks"] = train["text"].str.contains("?", regex=False).astype(int).astype(str)
        made[name] = task, train, test
    task, train, test = made["tweets"]
    train = train.assign(good=(train["sentiment"] == "positive").astype(int).astype(str))
    train["shouts"] = train["text"].str.contains("!", regex=False).astype(int).astype(str)
    task = replace(task, kind="multilabel", labels=["good", "shouts"], classes=[], metric="f1_micro")
    made["multilabel"] = task, train, test
    task, train, test = made["drugs"]
    made["regression"] = replace(task, kind="regression", classes=[], metric="rmse"), train, test
    return {**made, "multiclass": made["tweets"], "ordinal": made["drugs"]}


@pytest.fixture(scope="module")
def minilm(samples, tmp_path_factory):
    """A folder with the lower layers of MiniLM, and of its vocabulary what the samples need."""
    source, folder = find_backbone("minilm"), str(tmp_path_factory.mktemp("minilm"))
    tokenizer, model = load_tokenizer(source), load_backbone(source, pooler=True)
    texts = [text for _, *tables in samples.values() for table in tables for text in table["text"]]
    kept = sorted({*tokenizer.all_special_ids, *(i for ids in tokenizer(texts)["input_ids"] for i in ids)})
    number = {old: new for new, old in enumerate(kept)}
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    parts["model"]["vocab"] = {word: number[i] for word, i in parts["model"]["vocab"].items() if i in number}
    for token in parts["added_tokens"]:
        token["id"] = number[token["id"]]
    for token in parts["post_processor"]["special_tokens"].values():
        token["ids"] = [number[i] for i in token["ids"]]
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(parts)), **tokenizer.special_tokens_map
    ).save_pretrained(folder)
    words = model.get_input_embeddings().weight.detach()[kept]
    model.set_input_embeddings(nn.Embedding.from_pretrained(words, freeze=False, padding_idx=0))
    model.config.vocab_size, model.config.num_hidden_layers = len(kept), DEPTH
    del model.encoder.layer[DEPTH:]
    model.save_pretrained(folder)
    gc.collect()
    gc.freeze()  # as in conftest
    return folder


@pytest.fixture
def fit(samples, minilm, tmp_path):
    """fit(sample, steps, rows, **knobs): what so many steps of batches of 4 texts lead to, and the loss of each."""

    def make(sample, steps, rows, **knobs):
        task, train, test = samples[sample]
        common = {"max_length": 16, "batch_size": 4, "epochs": 4 * steps / rows, "evaluate_every": 10}
        fine = FineTuner(task, train, test, minilm, Recipe(**{**common, "dropout": 0.1, **knobs}))
        fitted = fine.fit(np.arange(8, 8 + rows), VALID, tmp_path / "fold0", seed=0)
        shutil.rmtree(tmp_path / "fold0")  # pytest keeps folders, and these are large
        losses = np.array([row["loss"] for row in fitted.history])
        assert len(losses) == steps and np.isfinite(losses).all()
        assert np.isfinite(fitted.oof).all() and np.isfinite(fitted.test).all() and len(fitted.test) == 4
        return fitted, losses

    return make


def test_the_smaller_model_leaves_tokens_and_their_vectors_as_they_were(samples, minilm):
    texts = samples["bbc"][1]["text"][:2].tolist()
    states, words = [], []
    for path in (find_backbone("minilm"), minilm):
        tokenizer = load_tokenizer(path)
        batch = tokenizer(texts, max_length=64, truncation=True, return_tensors="pt")
        states.append(load_backbone(path).eval()(**batch, output_hidden_states=True).hidden_states[DEPTH])
        words.append([tokenizer.convert_ids_to_tokens(ids) for ids in batch["input_ids"]])
    assert words[0] == words[1] and torch.equal(*states)


@pytest.mark.parametrize("recipe", RECIPES, ids="-".join)
def test_fifty_steps_of_every_trick(fit, recipe):
    fitted, losses = fit("tweets", 50, 40, tricks=recipe, freeze_layers=1)
    assert losses[-10:].mean() < losses[:10].mean()  # an epoch is 10 steps
    for name in recipe:
        assert fitted.receipts[name]["steps"] > 0 and np.isfinite(list(fitted.receipts[name].values())).all()


@pytest.mark.parametrize("run", range(len(RUNS)), ids=lambda run: f"{RUNS[run][0]}-{'-'.join(RUNS[run][1])}")
def test_a_few_steps_of_every_loss_and_of_every_pooling_head_and_schedule(fit, run):
    kind, loss = RUNS[run]
    pooling, head, schedule = (every(names, run) for names in (POOLINGS, HEADS, SCHEDULES))
    knobs = {"pooling": pooling, "head": head, "schedule": schedule, "cycles": 1 + schedule.endswith("restarts")}
    knobs |= {"pattern": "{text} {mask}"} if pooling == "mask" else {}
    knobs |= {} if head == "linear" else AUXILIARY
    _, losses = fit(kind, 6, 8, loss=loss, dropout=0.0, learning_rate=5e-4, **knobs)
    assert losses[-2:].mean() < losses[:2].mean()  # an epoch is 2 steps


@pytest.mark.parametrize("knobs", LONG, ids=lambda knobs: list(knobs.values())[-1])
def test_a_few_steps_of_every_way_to_read_long_texts(fit, knobs):
    _, losses = fit("bbc", 6, 8, **knobs)
    assert losses[-2:].mean() < losses[:2].mean()


def test_nothing_is_left_out():
    losses = {(kind, name) for name, kinds in LOSSES.items() for kind in kinds if kind in KINDS}
    assert {(kind, name) for kind, loss in RUNS for name in loss} == losses
    assert {name for recipe in RECIPES for name in recipe} == {*TRICKS}
    assert all(len(names) <= len(RUNS) for names in (POOLINGS, HEADS, SCHEDULES))  # each has its turn
