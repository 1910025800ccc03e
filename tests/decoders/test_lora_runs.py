"""Runs with adapters: small folders that stand on one backbone, resumed exactly, begun from, averaged, refused."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from kagglekit.decoders import prediction_memory
from kagglekit.decoders.lora import adapters_of
from kagglekit.decoders.lora_base import BASE, hash_weights
from kagglekit.device import choose_precision
from kagglekit.files import read_json, write_json
from kagglekit.files.arrays import read_tensors
from kagglekit.files.parquet import read_metadata
from kagglekit.kaggle.__main__ import main
from kagglekit.kaggle.bundle import read_bundle, unpack
from kagglekit.kaggle.golden_rows import check_golden_rows
from kagglekit.model.classifier import Classifier
from kagglekit.model.weight_averages import average_models, fuse_backbones
from kagglekit.samples import write_sample
from kagglekit.time_budget import OutOfTime
from kagglekit.training.build_model import reopen_model
from kagglekit.training.finetune import FineTuner
from kagglekit.training.predict import SavedModel, SavedModels
from kagglekit.training.recipe import Recipe
from tests.conftest import run_cells
from tests.training.conftest import Scripted

LORA = {"tuning": "lora", "lora": {"r": 4}, "max_length": 24, "epochs": 2, "batch_size": 6, "learning_rate": 5e-3}


@pytest.fixture
def tuner(task, tables, tiny_decoder, backbones):
    """tuner(family, **knobs): a FineTuner of a tiny backbone with adapters."""

    def make(family="llama", **knobs):
        what = task("multiclass", files={"train": "train.csv", "test": "test.csv"})
        train, test = tables(what, 24)
        folder = backbones[family] if family in backbones else family if "/" in family else tiny_decoder(family)
        return FineTuner(what, train, test, folder, Recipe(**{**LORA, **knobs}), save_seconds=0.0)

    return make


def fit(tuner, folder, seed=0, **more):
    return tuner.fit(np.arange(18), np.arange(18, 24), folder, seed, **more)


@pytest.mark.parametrize("tuning", ["lora", "head"])
@pytest.mark.parametrize("family", ["llama", "deberta-v2", "bert"])
def test_a_saved_model_has_what_was_trained_and_predicts_what_it_predicted(tuner, tmp_path, family, tuning):
    made = tuner(family, tuning=tuning, **({} if tuning == "lora" else {"lora": {}}))
    fitted = fit(made, tmp_path / "fold0")
    folder = tmp_path / "fold0" / "model"
    names = read_tensors(folder / "model.safetensors").keys()
    inside = {name for name in names if name.startswith("backbone.")}
    assert all(".lora_" in name for name in inside) and bool(inside) == (tuning == "lora")
    assert {"head.weight", "center"} <= names and read_json(folder / "classifier.json")["outputs"] == 3
    assert read_json(folder / BASE)["backbone"] == made.backbone
    saved = SavedModel(folder, made.settings | {"backbone": made.backbone}, precision=made.precision)
    assert np.allclose(saved.predict(made.test), fitted.test, atol=2e-3)  # another attention, in bfloat16
    assert all(
        ".lora_" in n or not n.startswith("backbone.")
        for n, p in saved.classifier.named_parameters()
        if p.requires_grad
    )


def test_a_fold_that_is_stopped_goes_on_bit_for_bit_from_a_small_checkpoint(tuner, tmp_path):
    straight = fit(tuner(tricks={"EMA": {"start": 0.3}}), tmp_path / "a" / "fold0")
    stopped = tuner(tricks={"EMA": {"start": 0.3}})
    stopped.budget = Scripted(answers=itertools.chain([False] * 4, itertools.repeat(True)))
    with pytest.raises(OutOfTime):
        fit(stopped, tmp_path / "b" / "fold0")
    (weights,) = (tmp_path / "b" / "fold0" / "checkpoints").glob("checkpoint-*/model.safetensors")
    assert not any(n.endswith("proj.weight") or "embed" in n for n in read_tensors(weights))
    again = fit(tuner(tricks={"EMA": {"start": 0.3}}), tmp_path / "b" / "fold0")
    assert np.array_equal(again.oof, straight.oof) and np.array_equal(again.test, straight.test)


def test_a_frozen_backbone_is_loaded_once_for_all_folds(tuner, tmp_path, monkeypatch):
    made = tuner()
    folders = [tmp_path / f"fold{seed}" / "model" for seed in (0, 1, 2)]
    for seed, folder in enumerate(folders):
        fit(made, folder.parent, seed)
    recipe = made.settings | {"backbone": made.backbone}
    apart = [SavedModel(folder, recipe, precision=made.precision).predict(made.test) for folder in folders]
    loads, load = [], Classifier.load
    monkeypatch.setattr(Classifier, "load", lambda folder: loads.append(folder) or load(folder))
    together = SavedModels(folders, recipe, precision=made.precision)
    assert np.array_equal(together.predict(made.test), np.mean(apart, axis=0, dtype=np.float64).astype(np.float32))
    assert loads == folders[:1] and together.spare is not None


def test_a_backbone_of_other_weights_is_refused_and_what_is_missing_is_named(tuner, tmp_path, tiny_decoder):
    fit(tuner(), tmp_path / "fold0")
    folder = tmp_path / "fold0" / "model"
    base = read_json(folder / BASE)
    assert base["hash"] == hash_weights(Path(tiny_decoder("llama")))
    write_json(folder / BASE, {**base, "backbone": tiny_decoder("qwen3"), "folder": "/nowhere/llama"})
    with pytest.raises(FileNotFoundError, match=r"(?s)has adapters or a head for .*weights " + base["hash"]) as error:
        Classifier.load(folder)
    assert "has other weights" in str(error.value) and "/nowhere/llama" in str(error.value)
    write_json(folder / BASE, {**base, "backbone": "no-such-name", "folder": tiny_decoder("llama")})
    assert adapters_of(Classifier.load(folder))


def test_models_average_as_the_mean_of_their_merged_weights(tuner, tmp_path):
    made = tuner()
    for seed in (0, 1):
        fit(made, tmp_path / f"fold{seed}", seed)
    folders = [tmp_path / f"fold{seed}" / "model" for seed in (0, 1)]
    soup = average_models(folders, [1.0, 3.0])
    soup.save(tmp_path / "soup", made.tokenizer)
    again = Classifier.load(tmp_path / "soup")
    assert again.options["adapters"]["r"] == 8 and len(list((tmp_path / "soup").glob(BASE))) == 1
    merged = [fuse_backbones([folder]) for folder in folders]
    for name, layer in adapters_of(again.backbone).items():
        one, other = (whole.get_submodule(name).weight for whole in merged)
        assert torch.allclose(layer.weight.float() + layer.delta(), (one + 3 * other) / 4, atol=1e-5)
    whole = fuse_backbones(folders, weights=[1.0, 3.0])
    state = {name: x for name, x in whole.state_dict().items()}
    assert all(
        torch.allclose(x, (merged[0].state_dict()[n] + 3 * merged[1].state_dict()[n]) / 4, atol=1e-5)
        for n, x in state.items()
    )


@pytest.mark.parametrize(
    ("knobs", "adapters", "small"),
    [
        ({}, 4, True),
        ({"lora": {"r": 6, "alpha": 8.0}}, 6, True),
        ({"tuning": "full", "lora": {}}, 0, False),
        ({"tuning": "head", "lora": {}}, 0, False),
    ],
)
def test_a_run_begins_with_the_adapters_of_another(tuner, tmp_path, knobs, adapters, small):
    first = tuner()
    fit(first, tmp_path / "fold0")
    start = tmp_path / "fold0" / "model"
    made = tuner(epochs=1, **knobs)
    model = made._build(
        *[getattr(made._gather(np.arange(18), 0), name) for name in ("targets", "features")], str(start)
    )
    theirs = Classifier.load(start)
    found = model.train(False).backbone.float(), theirs.eval().backbone
    ids = torch.randint(5, 300, (2, 7))
    with torch.no_grad():
        one, other = (x(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state for x in found)
    assert torch.allclose(one, other, atol=1e-3) and bool(model.base) == small
    assert all(len(layer.lora_a) == adapters for layer in adapters_of(model).values()) and bool(
        adapters_of(model)
    ) == bool(adapters)


def test_a_run_on_top_of_a_whole_model_is_saved_whole_and_is_begun_from_and_averaged_as_any(tuner, tmp_path):
    fit(tuner(tuning="full", lora={}, epochs=1), tmp_path / "fold0")
    first, folders = str(tmp_path / "fold0" / "model"), [tmp_path / f"fold{n}" / "model" for n in (1, 2)]
    for seed, folder in enumerate(folders):
        fit(tuner(epochs=1), folder.parent, seed, start=first)
        assert not (folder / BASE).exists() and adapters_of(Classifier.load(folder))
    merged = [fuse_backbones([folder]).state_dict() for folder in folders]
    made = tuner(tuning="full", lora={})
    model = made._build(
        *[getattr(made._gather(np.arange(18), 0), name) for name in ("targets", "features")], str(folders[0])
    )
    assert all(torch.allclose(x, merged[0][name], atol=1e-6) for name, x in model.backbone.state_dict().items())
    average_models(folders).save(tmp_path / "soup", made.tokenizer)
    found = fuse_backbones([tmp_path / "soup"]).state_dict()
    assert all(torch.allclose(x, (merged[0][n] + merged[1][n]) / 2, atol=1e-6) for n, x in found.items())
    fit(tuner(tuning="head", lora={}, epochs=1), tmp_path / "fold3", start=first)
    head = tuner(tuning="head", lora={})
    again = reopen_model(tmp_path / "fold3" / "model", head.tokenizer, head.recipe)
    assert not any(p.requires_grad for p in again.backbone.parameters()) and again.head.weight.requires_grad


def test_a_model_that_goes_on_keeps_frozen_weights_in_16_bits_as_one_that_begins(tuner, tmp_path, tiny_decoder):
    whole = AutoModelForCausalLM.from_pretrained(tiny_decoder("qwen3")).bfloat16()
    shutil.copytree(tiny_decoder("qwen3"), tmp_path / "half")
    whole.save_pretrained(tmp_path / "half")
    made = tuner(str(tmp_path / "half"), epochs=1, precision="bf16")
    fit(made, tmp_path / "fold0")
    again = reopen_model(tmp_path / "fold0" / "model", made.tokenizer, made.recipe)
    assert {one.weight.dtype for one in adapters_of(again).values()} == {torch.bfloat16}


def test_adapters_are_merged_before_weights_become_8_bits_and_fit_no_other_strength(tuner, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_memory, "LEAST", 8)  # inputs of a layer
    made, folder = tuner(epochs=1), tmp_path / "fold0" / "model"
    fitted = fit(made, tmp_path / "fold0")
    recipe = made.settings | {"backbone": made.backbone}
    saved = SavedModel(folder, recipe, precision="int8")
    assert np.allclose(saved.predict(made.test), fitted.test, atol=0.05)
    kinds = [type(part).__name__ for part in saved.classifier.backbone.modules()]
    assert kinds.count("Int8Linear") == 14 and not adapters_of(saved.classifier)
    fit(tuner(epochs=1, lora={"r": 4, "alpha": 4}), tmp_path / "fold1")
    model = SavedModel(folder, recipe).classifier
    assert model.refill(folder) and not model.refill(tmp_path / "fold1" / "model")


def test_the_lowest_layers_that_are_frozen_have_no_adapters(tuner):
    made = tuner(freeze_layers=1)
    rows = made._gather(np.arange(18), 0)
    names = adapters_of(made._build(rows.targets, rows.features).backbone)
    assert len(names) == 7 and all(name.startswith("layers.1.") for name in names)


@pytest.mark.parametrize("tuning", ["lora", "head"])
def test_a_pooler_is_trained_whole_as_other_poolings_are(tuner, tmp_path, tuning):
    made = tuner("bert", tuning=tuning, pooling="pooler", **({} if tuning == "lora" else {"lora": {}}))
    folders = [tmp_path / f"fold{seed}" / "model" for seed in (0, 1)]
    fitted = [fit(made, folder.parent, seed) for seed, folder in enumerate(folders)]
    names = {name for name in read_tensors(folders[0] / "model.safetensors") if "pooler" in name}
    assert names == {"pooling.pooler.dense.weight", "pooling.pooler.dense.bias"}
    rows = made._gather(np.arange(18), 0)
    assert all(p.requires_grad for p in made._build(rows.targets, rows.features).pooling.parameters())
    saved = SavedModel(folders[0], made.settings | {"backbone": made.backbone}, precision=made.precision)
    assert np.allclose(saved.predict(made.test), fitted[0].test, atol=2e-3)
    average_models(folders).save(tmp_path / "soup", made.tokenizer)
    mean = Classifier.load(tmp_path / "soup").pooling.pooler.dense.weight
    own = [Classifier.load(folder).pooling.pooler.dense.weight for folder in folders]
    assert torch.allclose(mean, (own[0] + own[1]) / 2, atol=1e-6)


@pytest.mark.parametrize("later", ["lora", "full"])
def test_words_of_an_encoder_begin_with_the_weights_that_adapters_stand_on(tuner, tmp_path, later):
    words = {"bad": ["bad"], "mixed": ["poor"], "good": ["good"]}
    prompt = {"pattern": "{text} it was {mask} .", "verbalizer": words}
    fit(tuner("bert", **prompt), tmp_path / "fold0")
    start = tmp_path / "fold0" / "model"
    made = tuner("bert", tuning=later, **prompt, **({} if later == "lora" else {"lora": {}}))
    rows = made._gather(np.arange(18), 0)
    models = made._build(rows.targets, rows.features, str(start)).eval(), Classifier.load(start).eval()
    batch = {name: x for name, x in rows.features.examples(made.test_rows).__getitems__(np.arange(4)).items()}
    with torch.no_grad():
        one, other = (model(**batch)["logits"] for model in models)
    assert torch.allclose(one, other, atol=1e-3) and other.std() > 0.01


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"lora": {"r": 4}}, "lora=.* has no effect with tuning='full': leave it out, or set tuning to lora or qlora"),
        ({"tuning": "lora", "reinit_layers": 1}, "reinit_layers=1 has no effect with tuning='lora'"),
        ({"tuning": "lora", "freeze_embeddings": True}, "freeze_embeddings=True has no effect with tuning='lora'"),
        ({"tuning": "head", "layer_decay": 0.5}, "layer_decay=0.5 has no effect with tuning='head'"),
        ({"tuning": "head", "freeze_layers": 1}, "freeze_layers=1 has no effect with tuning='head'"),
        ({"tuning": "lora", "lora": {"targts": []}}, "lora has no knob 'targts': did you mean targets"),
        ({"tuning": "head", "tricks": {"Mixout": {}}}, "tricks: Mixout .* tuning='head'"),
        ({"tuning": "head", "tricks": {"GradualUnfreezing": {}}}, "tricks: GradualUnfreezing .* tuning='head'"),
    ],
)
def test_knobs_that_contradict_a_tuning_are_errors(knobs, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**knobs)


def test_rdrop_has_the_dropout_of_adapters():
    assert Recipe(tuning="lora", tricks={"RDrop": {}})
    with pytest.raises(ValueError, match="compares two passes through dropout"):
        Recipe(tuning="lora", lora={"dropout": 0.0}, tricks={"RDrop": {}})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="4 bits need a GPU")
def test_adapters_on_4_bits_give_nearly_the_logits_of_those_on_whole_weights(tuner, tmp_path):
    pytest.importorskip("bitsandbytes")
    whole, packed = (fit(tuner(tuning=tuning), tmp_path / tuning) for tuning in ("lora", "qlora"))
    assert np.abs(whole.test - packed.test).max() < 0.1
    made = tuner(tuning="qlora")
    saved = SavedModel(
        tmp_path / "qlora" / "model", made.settings | {"backbone": made.backbone}, precision=choose_precision()
    )
    assert np.allclose(saved.predict(made.test), packed.test, atol=1e-2)


def test_4_bits_are_refused_without_what_they_need(tuner):
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"tuning=.qlora.*set tuning=.lora."):
            tuner(tuning="qlora")


def test_a_run_goes_into_a_kernel_with_its_backbone_once_and_scores_there_as_at_home(
    tmp_path, tiny_decoder, monkeypatch
):
    """All that a kernel has is the bundle: the backbone and the run of home are gone."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_decoder("llama"), tmp_path / "decoder")
    run_cells("1_eda", data=str(write_sample("tweets", tmp_path / "tweets", 32)), work="runs/w", n_folds=2)
    knobs = {"backbone": str(tmp_path / "decoder"), "tuning": "lora", "epochs": 1.0, "max_length": 24}
    run_cells("3_train", run="llm", work="runs/w", **knobs)
    build = ["build", "--owner", "me", "--competition", "tweets", "--code-competition", "--cpu"]
    main([*build, "5_submit", "work=runs/w", "run=llm", "predict=true"])
    (bundle,) = (file.parent for file in Path("runs/w/kaggle").glob("*/bundle.json"))
    paths = [record["path"] for record in read_bundle(bundle)["files"]]
    assert [path for path in paths if path.endswith("safetensors")] == [
        "inputs/decoder/model.safetensors",
        *(f"runs/w/llm/fold{fold}/model/model.safetensors" for fold in (0, 1)),
    ]
    unpack(Path(shutil.copytree(bundle, tmp_path / "mounted")), tmp_path / "kernel")
    for gone in ("runs", "decoder"):
        shutil.rmtree(tmp_path / gone)
    monkeypatch.chdir(tmp_path / "kernel")
    rounding = read_metadata("runs/w/llm/golden.parquet")["rounding"]
    assert rounding.keys() == {"llm/fold0", "llm/fold1"} and all(0 < far < 0.1 for far in rounding.values())
    found = check_golden_rows("runs/w", "llm")
    assert found["fold"].tolist() == ["0", "1"] and (found["largest difference"] < 0.1).all()
    shutil.rmtree("inputs")
    with pytest.raises(FileNotFoundError, match=r"llm/fold0/model has adapters or a head for the backbone .*not here"):
        check_golden_rows("runs/w", "llm")
