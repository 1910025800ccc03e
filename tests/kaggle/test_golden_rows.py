"""Golden rows: honest rounding passes, and a model that is not the one of home does not."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from kagglekit.competition.infer import infer
from kagglekit.competition.task import encode_labels, read_test, read_train
from kagglekit.ensembling.blend import blend_runs
from kagglekit.ensembling.methods import BlendPlan
from kagglekit.files import read_json, write_json
from kagglekit.files.arrays import SEAL
from kagglekit.files.parquet import read_parquet
from kagglekit.kaggle.golden_rows import FLOOR, OF_IMAGES, TOLERANCE, check_golden_rows, differences, write_golden
from kagglekit.kaggle.in_kernel import check_golden
from kagglekit.model.backbones import find_backbone, load_backbone, load_tokenizer
from kagglekit.model.classifier import Classifier
from kagglekit.runs.folder import Fitted, open_run, save_fold
from kagglekit.runs.tables import read_folds, read_metadata, read_run, write_folds, write_parquet
from kagglekit.training.finetune import FineTuner
from kagglekit.training.model_inputs import FeatureScaler
from kagglekit.training.recipe import Recipe
from tests.pretraining.conftest import make_pairs, make_vit

FOLDS = np.arange(40) % 2
COLUMNS = ["run", "fold", "rows", "largest difference", "tolerance"]


@pytest.fixture(scope="module")
def home(texts, backbone, tmp_path_factory):
    """A work folder: base (2 folds), beside (numbers and vectors), tfidf, their blends, and minilm, a real model."""
    place = tmp_path_factory.mktemp("parity")
    data, work = place / "data", place / "work"
    data.mkdir()
    words, balance = texts(40)
    rows = pd.DataFrame({"id": [f"a{n}" for n in range(40)], "text": words, "stars": np.arange(40)})
    rows.assign(label=np.where(balance > 0, "yes", "no")).to_csv(data / "train.csv", index=False)
    rows.iloc[:5].assign(id=list("vwxyz")).to_csv(data / "test.csv", index=False)
    pd.DataFrame({"id": list("vwxyz"), "label": "no"}).to_csv(data / "sample_submission.csv", index=False)
    vectors = rows[["id"]].assign(a=np.linspace(-1, 1, 40), b=1.0)
    pd.concat([vectors, vectors.iloc[:5].assign(id=list("vwxyz"))]).to_parquet(place / "vectors.parquet", index=False)
    task, _ = infer(data, kind="binary", text="text")
    task.save(work)
    train, test = read_train(task, ["stars"]), read_test(task, ["stars"])
    write_folds(work, train["id"], FOLDS)

    def save(name, recipe, fit, folds=(0,)):
        folder = open_run(work, name, {"seed": 0, "start": "", **recipe})
        for k in folds:
            held_out = np.flatnonzero(k == FOLDS)
            save_fold(
                folder, k, fit(np.flatnonzero(k != FOLDS), held_out, folder / f"fold{k}"), train["id"][held_out],
                test["id"], task,
            )  # fmt: skip

    more = {"features": {"numbers": ["stars"], "vectors": str(place / "vectors.parquet")}}
    known = {"candidates": "stars"}  # each row of training has one class, and no other
    for name, knobs, folds in (("base", {}, (0, 1)), ("beside", more, (0,)), ("known", known, (0,))):
        recipe = Recipe(max_length=12, epochs=2, batch_size=8, learning_rate=3e-2, **knobs)
        learner = FineTuner(task, train, test, backbone, recipe)
        save(name, {"backbone": backbone} | recipe.as_dict(), lambda *a, t=learner: t.fit(*a, seed=0), folds)
    guess = np.full((25, 2), 0.5)
    save("tfidf", {"backbone": "tfidf"}, lambda *a: Fitted(guess[:20], guess[:5]), (0, 1))
    found = find_backbone("minilm")

    def begin(ours, held_out, folder):
        torch.manual_seed(0)
        Classifier(load_backbone(found), "softmax", 2).save(folder / "model", load_tokenizer(found))
        FeatureScaler(None, None, None, False).save(folder / "model")
        return Fitted(guess[:20], guess[:5])

    save("minilm", {"backbone": "minilm"} | Recipe(max_length=12).as_dict(), begin)
    folds, labels = read_folds(work, train["id"]), encode_labels(task, train)
    runs = [read_run(work, name, task, folds, test["id"]) for name in ("base", "tfidf")]
    blend_runs(runs, labels, BlendPlan(task.kind, task.metric, "mean")).save(work, "both", task)
    for name in ("base", "beside", "both", "minilm", "known"):
        assert write_golden(work, name) == work / name / "golden.parquet"
    return work


@pytest.fixture
def work(home, tmp_path):
    """A copy of it, elsewhere, by links: a file that is changed must be written anew. Nothing of home is needed."""
    shutil.copytree(home, tmp_path / "kernel" / "runs", copy_function=os.link)
    write_json(tmp_path / "kernel" / "runs" / "task.json", {})
    return tmp_path / "kernel" / "runs"


def change(model: Path, how):
    """Weights of a model, changed by how(name, tensor)."""
    file = model / "model.safetensors"
    state = {name: how(name, x).contiguous() for name, x in load_file(file).items()}
    file.unlink()
    save_file(state, file)
    (file.parent / SEAL).unlink(missing_ok=True)


def test_golden_rows_go_from_the_shortest_text_to_the_longest_with_the_logits_of_each_model(home):
    table, told = pd.read_parquet(home / "base" / "golden.parquet"), read_metadata(home / "base" / "golden.parquet")
    assert list(table) == ["id", "text", "label", "base/fold0", "base/fold1"] and len(table) == 16
    train = pd.read_csv(home.parent / "data" / "train.csv")
    lengths = train["text"].str.len()
    assert table["text"].str.len().is_monotonic_increasing
    assert [len(table["text"].iloc[end]) for end in (0, -1)] == [lengths.min(), lengths.max()]
    assert np.stack(table["base/fold0"]).shape == (16, 2)
    assert told["models"] == {f"base/fold{k}": f"base/fold{k}/model" for k in (0, 1)}
    assert told["tolerance"] == TOLERANCE and "transformers" in told["versions"]
    oof = pd.read_parquet(home / "base" / "fold0" / "oof.parquet").set_index("id")
    logits = dict(zip(table["id"], torch.tensor(np.stack(table["base/fold0"])).softmax(-1)[:, 1].tolist(), strict=True))
    both = [(logits[row], oof.loc[row].iloc[2]) for row in logits if row in oof.index]
    assert len(both) > 3 and all(abs(ours - theirs) < 0.02 for ours, theirs in both)  # the run was made in bf16 or fp32


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("both", "fp32"),
        ("base", "fp16"),
        ("base", "bf16"),
        ("beside", "bf16"),
        ("known", "bf16"),
        ("minilm", "fp16"),
        ("minilm", "bf16"),
    ],
)
def test_honest_rounding_stays_below_half_of_the_tolerance(home, name, precision):
    found = check_golden_rows(home, name, precision)
    assert list(found) == COLUMNS and (found["rows"] == 16).all()
    assert found["run"].tolist() == {"both": ["base", "base"], "base": ["base", "base"]}.get(name, [name])
    assert (found["tolerance"] == TOLERANCE[precision]).all()
    assert (found["largest difference"] < TOLERANCE[precision] / 2).all(), found
    assert (found["largest difference"] > 0).all() == (precision != "fp32")


def test_models_score_in_the_precision_of_their_run_where_none_is_asked_for(work):
    params = read_json(work / "minilm" / "params.json")
    for asked, tolerance in (("fp32", TOLERANCE["fp32"]), ("bf16", TOLERANCE["bf16"])):
        write_json(work / "minilm" / "params.json", params | {"recipe": params["recipe"] | {"precision": asked}})
        assert check_golden_rows(work, "minilm")["tolerance"].tolist() == [tolerance]


def test_a_blend_and_a_copy_elsewhere_are_checked_without_the_data(work):
    (work.parent.parent / "vectors.parquet").unlink(missing_ok=True)
    params = read_json(work / "beside" / "params.json")
    params["recipe"]["features"]["vectors"] = "/gone/vectors.parquet"
    write_json(work / "beside" / "params.json", params)
    assert check_golden_rows(work, "beside", "fp32")["largest difference"].max() < 1e-4
    assert check_golden_rows(work, "both", "fp32")["fold"].tolist() == ["0", "1"]


@pytest.mark.parametrize(("name", "precision"), [("base", "fp32"), ("known", "fp32"), ("minilm", "bf16")])
def test_one_layer_with_other_weights_is_found(work, name, precision):
    torch.manual_seed(1)

    def how(key, x):
        return torch.randn_like(x) * x.std() if "layer.1." in key and x.dim() == 2 else x

    change(work / name / "fold0" / "model", how)
    with pytest.raises(RuntimeError, match=rf"The model {name}/fold0 does not score as at home: the logits of"):
        check_golden_rows(work, name, precision)


def test_a_little_noise_is_found_where_the_precision_can_see_it(work):
    change(work / "minilm" / "fold0" / "model", lambda key, x: x * 1.05 if "layer.3.output.dense.weight" in key else x)
    with pytest.raises(RuntimeError, match=r"spread, and fp16 may differ by 0.015. Versions: all are the same"):
        check_golden_rows(work, "minilm", "fp16")


def test_what_bf16_moves_at_home_it_may_move_in_a_kernel(work):
    """A decoder that learned little gives all rows nearly the same logits, and rounding moves them by more of that."""
    file = work / "minilm" / "golden.parquet"
    table, metadata = read_parquet(file), read_metadata(file)
    assert metadata["rounding"] == {}  # of decoders alone
    for rounding, limits in ((0.01, (0.1, 0.015)), (0.2, (0.4, 0.06)), (5.0, (1.0, 1.0))):
        file.unlink()
        write_parquet(file, table, metadata | {"rounding": {"minilm/fold0": rounding}})
        for precision, limit in zip(("bf16", "fp16"), limits, strict=True):
            assert check_golden_rows(work, "minilm", precision)["tolerance"].tolist() == [pytest.approx(limit)]


def test_versions_that_differ_are_told(work):
    change(work / "base" / "fold1" / "model", lambda key, x: -x if key == "head.weight" else x)
    file = work / "base" / "golden.parquet"
    table, told = pd.read_parquet(file), read_metadata(file)
    now = told["versions"]["transformers"]
    told["versions"]["transformers"] = "4.0.0"
    write_parquet(file, table, told)
    with pytest.raises(RuntimeError, match=rf"base/fold1 .* Versions: transformers 4.0.0 there, {now} here\. Other"):
        check_golden_rows(work, "base", "fp32")


def test_another_tokenizer_or_another_length_is_found(work):
    file = work / "minilm" / "fold0" / "model" / "tokenizer.json"
    told, before = json.loads(file.read_text()), file.read_text()
    words = told["model"]["vocab"]
    words["good"], words["the"] = words["the"], words["good"]
    file.unlink()
    file.write_text(json.dumps(told))
    (file.parent / SEAL).unlink()
    with pytest.raises(RuntimeError, match="Other weights, another tokenizer or another version of transformers"):
        check_golden_rows(work, "minilm", "bf16")
    file.write_text(before)
    params = read_json(work / "minilm" / "params.json")
    params["recipe"]["max_length"] = 8
    write_json(work / "minilm" / "params.json", params)
    with pytest.raises(RuntimeError, match="The model minilm/fold0"):
        check_golden_rows(work, "minilm", "bf16")


def test_what_is_not_there_and_what_is_no_precision_is_named(work):
    assert write_golden(work, "tfidf") is None and not (work / "tfidf" / "golden.parquet").exists()
    with pytest.raises(FileNotFoundError, match=r"tfidf has no golden.parquet: build the kernel again"):
        check_golden_rows(work, "tfidf")
    with pytest.raises(ValueError, match="precision='fp64' is out of range: it must be one of fp32, fp16, bf16, int8"):
        check_golden_rows(work, "base", "fp64")
    with pytest.raises(ValueError, match="rows=0 is out of range: it must be 1 or more"):
        write_golden(work, "base", rows=0)
    shutil.rmtree(work / "base" / "fold1" / "model")
    with pytest.raises(FileNotFoundError, match="fold1/model has no model: train its fold again"):
        check_golden_rows(work, "base", "fp32")


def test_a_difference_is_in_units_of_the_spread_and_nan_is_infinitely_far():
    golden = np.array([[1.0, -1.0], [-1.0, 1.0]])
    assert differences(golden, golden).tolist() == [0.0, 0.0]
    assert differences(golden + np.array([[0.0, 0.5], [0.0, 0.0]]), golden).tolist() == [0.5, 0.0]
    assert differences(10 * golden + 1, 10 * golden).tolist() == [0.1, 0.1]
    assert differences(np.full((2, 2), 0.3), np.full((2, 2), 0.2)) == pytest.approx([0.1 / FLOOR] * 2)
    assert differences(np.full((2, 2), np.nan), golden).tolist() == [np.inf, np.inf]
    lowest = [[np.finfo(np.float32).min], [np.finfo(np.float32).min]]  # of an answer that no row has
    without = np.hstack([golden, lowest])
    assert differences(without, without).tolist() == [0.0, 0.0]
    moved = golden + np.array([[0.0, 0.5], [0.0, 0.0]])
    assert differences(np.hstack([moved, lowest]), without).tolist() == [0.5, 0.0]
    assert differences(np.hstack([golden, [[0.0], [-3e38]]]), without)[0] > 1e30


@pytest.fixture
def pictures(texts, backbone, tmp_path, monkeypatch):
    """A run that reads images beside the text, with its golden rows, and the folder of its image encoder."""
    data, vit = tmp_path / "data", make_vit(tmp_path / "vit")
    (data / "photos").mkdir(parents=True)
    make_pairs(data / "photos", 24)
    rows = pd.DataFrame({"id": [f"a{n}" for n in range(24)], "text": texts(24)[0], "label": np.arange(24) % 2})
    rows["photo"] = [f"photos/{n}.{'jpg' if n % 2 else 'png'}" for n in range(24)]
    rows.loc[0, "photo"] = ""
    rows.to_csv(data / "train.csv", index=False)
    rows.drop(columns="label").iloc[4:].assign(id=list("abcdefghijklmnopqrst")).to_csv(data / "test.csv", index=False)
    task, _ = infer(data, kind="binary", text="text")
    task.save(tmp_path / "work")
    recipe = Recipe(max_length=12, epochs=1, batch_size=12, features={"images": "photo", "images_by": vit})
    train, test = read_train(task, ["photo"]), read_test(task, ["photo"])
    learner, held_out = FineTuner(task, train, test, backbone, recipe), np.arange(12)
    write_folds(tmp_path / "work", train["id"], np.arange(24) // 12)
    folder = open_run(tmp_path / "work", "seen", {"seed": 0, "start": "", "backbone": backbone} | recipe.as_dict())
    fitted = learner.fit(np.arange(12, 24), held_out, folder / "fold0", 0)
    save_fold(folder, 0, fitted, train["id"][held_out], test["id"], task)
    write_golden(tmp_path / "work", "seen")
    return tmp_path / "work", Path(vit)


def test_two_images_go_through_the_encoder_again_without_the_data(pictures):
    work, _ = pictures
    table = pd.read_parquet(work / "seen" / "golden.parquet")
    shutil.rmtree(work.parent / "data")
    assert table["seen/images"].notna().sum() == 2 and table["seen/images"].dropna().map(len).max() < 800
    found = check_golden_rows(work, "seen", "fp32")
    assert found["fold"].tolist() == ["0", "images"] and found["rows"].tolist() == [16, 2]
    assert 0 <= found["largest difference"][1] < OF_IMAGES / 2
    assert check_golden(work)[1].startswith("golden images of seen: 2 read as at home (largest difference ")


@pytest.mark.parametrize("what", ["weights", "processor"])
def test_an_encoder_that_reads_images_otherwise_is_told(pictures, what):
    work, vit = pictures
    if what == "weights":
        change(vit, lambda name, x: x.flip(1) if x.dim() == 2 else x)
    else:
        config = read_json(vit / "preprocessor_config.json")
        write_json(vit / "preprocessor_config.json", config | {"image_mean": [0.485, 0.456, 0.406]}, plain=True)
    with pytest.raises(RuntimeError, match=r"The image encoder of seen, .*vit, does not read images as at home: a vec"):
        check_golden_rows(work, "seen", "fp32")
