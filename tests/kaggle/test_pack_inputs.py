import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from builds import assert_no_local_path, make, make_work, packed, read_notebook, write
from safetensors.torch import load_file, save

from kagglekit.competition.infer import infer
from kagglekit.files import read_json, write_json
from kagglekit.files.parquet import write_parquet
from kagglekit.kaggle.bundle import read_bundle, unpack
from kagglekit.kaggle.lint import lint
from kagglekit.model.backbones import find_backbone
from kagglekit.runs.identity import identify
from kagglekit.runs.initial_weights import find_starts, make_start
from kagglekit.training.model_inputs import FeatureScaler


@pytest.fixture
def work(tmp_path, monkeypatch):
    """See `make_work`."""
    monkeypatch.chdir(tmp_path)
    return make_work()


def test_what_a_step_reads_is_packed_models_only_where_training_goes_on_from_them(work, tmp_path):
    light = {
        "mlm/params.json",
        "base/params.json",
        "tfidf/params.json",
        "blend/weights.json",
        "blend/fold0/oof.parquet",
    }
    tables = {f"{run}/fold{k}/{t}.parquet" for run in ("base", "tfidf") for k in (0, 1) for t in ("oof", "test")}
    submit = make("5_submit", "work=runs/w", "run=blend")
    assert packed(submit) == {"task.json", "folds.parquet"} | light | tables
    onward = make("3_train", "work=runs/w", "run=more", "start=base")
    models = {f"base/fold{k}/model/model.safetensors" for k in (0, 1)}
    of_base = {path for path in tables if path.startswith("base")} | {"base/params.json", "mlm/params.json"}
    assert packed(onward) == {"task.json", "folds.parquet"} | of_base | models
    told = read_bundle(onward.bundle)
    assert told["train"]["name"] == "train.csv" and len(told["train"]["sha256"]) == 64
    unpack(onward.bundle, tmp_path / "kernel")
    task = read_json(tmp_path / "kernel/runs/w/task.json")
    assert task == read_json(work / "task.json") | {"data": "/kaggle/input/competitions/bbc-news"}
    assert read_json(tmp_path / "kernel/runs/w/base/params.json") == read_json(work / "base/params.json")
    assert_no_local_path(onward, tmp_path)


@pytest.fixture
def saved(work, classifier, tokenizer):
    """saved(**recipe): the run base has models that can predict, of all rows too, and this recipe."""

    def save(**recipe):
        params = read_json(work / "base" / "params.json")
        write_json(
            work / "base" / "params.json", {**params, "recipe": {"backbone": "minilm", "max_length": 20, **recipe}}
        )
        for place in ("fold0", "fold1", "full"):
            classifier(outputs=2, seed=len(place)).save(work / "base" / place / "model")
            tokenizer.save_pretrained(work / "base" / place / "model")
            FeatureScaler(None, None, None, False).save(work / "base" / place / "model")
        write_parquet(work / "base/full/test.parquet", pd.DataFrame({"id": ["1"]}))

    return save


def test_a_kernel_that_predicts_has_the_models_that_are_asked_and_not_what_they_have_learned(work, saved, tmp_path):
    write(tmp_path / "more.csv", tmp_path / "glove.txt", work / "base/full/seed0/checkpoints/step.pt")
    saved(extra=f"{tmp_path}/more.csv", features={"word_vectors": f"{tmp_path}/glove.txt"})
    for full, places in (("", {"fold0", "fold1"}), ("only", {"full"}), ("with", {"fold0", "fold1", "full"})):
        built = make("5_submit", "work=runs/w", "run=base", "predict=true", f"full={full}")
        files = packed(built)
        assert {path.split("/")[1] for path in files if path.endswith("model.safetensors")} == places
        assert not any(path.endswith((".csv", ".txt", ".pt")) for path in files)
        unpack(built.bundle, tmp_path / f"kernel-{full}")
        golden = pd.read_parquet(tmp_path / f"kernel-{full}/runs/w/base/golden.parquet")
        assert {one for one in golden.columns if "/" in one} == {f"base/{place}" for place in places}
    write_json(work / "base/params.json", {"recipe": {"backbone": "tfidf", "extra": f"{tmp_path}/more.csv"}})
    shutil.rmtree(work / "base/full")
    for fold in (0, 1):
        shutil.rmtree(work / f"base/fold{fold}/model")
    again = packed(make("5_submit", "work=runs/w", "run=base", "predict=true"))  # which learns these rows again
    assert "more.csv" in {path.split("/")[-1] for path in again}


def test_of_a_run_whose_image_encoder_is_used_no_other_weights_travel(work):
    place = work / "itc" / "model"
    write(place / "model.safetensors", place / "image_encoder" / "model.safetensors")
    write_json(work / "itc" / "params.json", {"recipe": {"backbone": "minilm", "start": "mlm"}, "inputs": {}})
    params = read_json(work / "base" / "params.json")
    features = {"images": "photo", "images_by": "runs/w/itc/model/image_encoder"}
    write_json(work / "base" / "params.json", {**params, "recipe": {"backbone": "minilm", "features": features}})
    files = packed(make("3_train", "work=runs/w", "run=next", "start=base"))
    assert {path for path in files if path.startswith(("itc", "mlm"))} == {
        *("itc/params.json", "itc/model/image_encoder/model.safetensors", "mlm/params.json")
    }


def test_to_predict_anew_the_models_of_all_members_travel_with_golden_rows(work, saved):
    saved()
    built = make("5_submit", "work=runs/w", "run=blend", "predict=true")
    files = packed(built)
    assert {
        f"base/fold{fold}/model/{file}" for fold in (0, 1) for file in ("model.safetensors", "tokenizer.json")
    } <= files
    assert "blend/golden.parquet" in files and "base/golden.parquet" not in files  # that one is of an older build
    unpack(built.bundle, work.parent / "kernel")
    golden = pd.read_parquet(work.parent / "kernel/runs/w/blend/golden.parquet")
    assert {"base/fold0", "base/fold1"} <= {*golden.columns}
    assert not (work / "blend" / "golden.parquet").exists()  # the run at home is what it was
    assert "precision" not in read_notebook(built.kernels[0]).cells[4].source
    small = make("5_submit", "work=runs/w", "run=blend", "predict=true", "precision=int8", slug="int8-kernel")
    assert read_notebook(small.kernels[0]).cells[4].source.endswith("precision='int8')")
    assert not any("golden" in path or "/model/" in path for path in packed(make("5_submit", "work=runs/w")))
    whole = make(
        "4_ensemble", "work=runs/w", 'runs=["base", "tfidf"]', "run=two", "+", "5_submit", "run=two", "predict=true"
    )
    assert "base/fold1/model/model.safetensors" in packed(whole) and "base/golden.parquet" in packed(whole)


def test_where_folds_begin_with_an_average_it_travels_in_place_of_the_models(work, saved, tmp_path, monkeypatch):
    saved()
    shutil.copytree(work / "base", work / "other")
    for fold in (0, 1):
        file = work / f"other/fold{fold}/model/model.safetensors"
        state = {name: x + 0.1 * fold for name, x in load_file(file).items()}
        file.write_bytes(save(state))
        (file.parent / "checksums.json").unlink()
    steps = ["3_train", "work=runs/w", "run=next", "start=base+other", "folds=[0, 1]"]
    built, two = make(*steps), ["3_train", "work=runs/w", "run=one", "start=base", "folds=[0]", "+", *steps]
    both = make(*two, slug="both-steps")
    weights = {path for path in packed(built) if path.endswith("model.safetensors")}
    assert len(weights) == 2 and all(path.startswith("base/fold") and "/average-" in path for path in weights)
    hashes = {path for path in packed(built) if path.endswith(".only-hash")}
    assert hashes == {f"{run}/fold{k}/model/model.safetensors.only-hash" for run in ("base", "other") for k in (0, 1)}
    whole = {path for path in packed(both) if path.endswith("model.safetensors") and "/model/" in path}
    assert whole == {f"base/fold{k}/model/model.safetensors" for k in (0, 1)}  # which the first step begins with
    assert {path for path in packed(both) if path.endswith(".only-hash")} == {
        path for path in hashes if path.startswith("other")
    }

    def begin(place):
        """The initial weights of each fold, and what params.json says of the inputs."""
        starts = find_starts("runs/w", "base+other", "minilm", [0, 1])
        recipe = {"backbone": "minilm", "start": "base+other"}
        files = [Path(make_start(starts[fold], place / str(fold)), "model.safetensors") for fold in (0, 1)]
        return [file.read_bytes() for file in files], identify(Path("runs/w"), recipe)["inputs"]

    home = begin(tmp_path / "home")
    for number, one in enumerate((built, both)):
        unpack(one.bundle, tmp_path / f"kernel{number}")
        monkeypatch.chdir(tmp_path / f"kernel{number}")
        there = begin(tmp_path / f"there{number}")
        assert there[0] == home[0] and list((tmp_path / f"there{number}").rglob("*.safetensors")) == []
        assert {**there[1], "task": ""} == {**home[1], "task": ""} and len(home[1]["weights of other"]) == 2
        monkeypatch.chdir(tmp_path)


def test_files_from_elsewhere_get_a_place_and_the_parameters_name_it(work, tmp_path):
    far, near = tmp_path.parent / f"{tmp_path.name}.far", Path("models/tiny")
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        write(far / "tiny" / name, near / name)
    write(far / "texts.csv", far / "vectors.parquet", far / "d.tsv.gz")
    write(far / "more.csv", far / "fixes.csv")
    texts = ["3_train", "work=runs/w", "run=next", "start=", f"backbone={far}/tiny"]
    knobs = [f'augment={{"Dictionary": {{"file": "{far}/d.tsv.gz"}}}}', f'pseudo={{"unlabelled": ["{far}/texts.csv"]}}']
    built = make(
        *texts,
        *knobs,
        f'features={{"vectors": "{far}/vectors.parquet"}}',
        f"extra={far}/more.csv",
        f"fixes={far}/fixes.csv",
    )
    values = {}
    exec(read_notebook(built.kernels[0]).cells[3].source, values)
    assert values["backbone"] == "inputs/tiny" and values["pseudo"] == {"unlabelled": ["inputs/texts.csv"]}
    assert values["augment"] == {"Dictionary": {"file": "inputs/d.tsv.gz"}}
    assert values["recipe"]["features"] == {"vectors": "inputs/vectors.parquet"}
    assert values["extra"] == "inputs/more.csv" and values["recipe"]["fixes"] == "inputs/fixes.csv"
    unpack(built.bundle, tmp_path / "kernel")
    for name in ("tiny/config.json", "texts.csv", "vectors.parquet", "d.tsv.gz", "more.csv", "fixes.csv"):
        assert (tmp_path / "kernel/inputs" / name).read_text() == Path(name).name
    assert_no_local_path(built, far)
    close = make("3_train", "work=runs/w", "run=next", "start=", "backbone=models/tiny")  # the recipe stays the same
    assert "models/tiny/config.json" in packed(close) and 'backbone = "models/tiny"' in str(
        read_notebook(close.kernels[0])
    )


def test_the_encoder_of_images_comes_with_the_kernel_and_the_images_are_those_of_the_competition(work, tmp_path):
    far = tmp_path.parent / f"{tmp_path.name}.far"
    write(far / "vit" / "config.json", Path("far/bbc/photos/0.png"))
    for name in ("train", "test"):
        table = pd.read_csv(f"far/bbc/{name}.csv", dtype=str)
        table.assign(photo="photos/0.png").to_csv(f"far/bbc/{name}.csv", index=False)
    (work / "task.json").unlink()
    infer("far/bbc", text="text")[0].save("runs/w")
    features = {"images": "photo", "images_by": f"{far}/vit"}
    built = make("3_train", "work=runs/w", "run=next", "start=mlm", f"features={json.dumps(features)}")
    unpack(built.bundle, tmp_path / "kernel")
    assert (tmp_path / "kernel/inputs/vit/config.json").is_file()
    assert 'images_by": "inputs/vit"' in str(read_notebook(built.kernels[0])).replace("'", '"')
    assert not [name for name in packed(built) if "photos" in name]
    assert_no_local_path(built, far)


def test_a_run_that_was_made_from_a_far_folder_names_its_place_in_the_kernel_too(work, tmp_path):
    far = tmp_path.parent / f"{tmp_path.name}.far"
    write(*(far / "tiny" / name for name in ("config.json", "tokenizer.json", "model.safetensors")))
    recipe = {"backbone": f"{far}/tiny"}
    write_json(work / "mlm" / "params.json", {"recipe": recipe, "asked": recipe, "inputs": {}, "receipts": {}})
    built = make("3_train", "work=runs/w", "run=next", "start=mlm", f"backbone={far}/tiny")
    unpack(built.bundle, tmp_path / "kernel")
    params = read_json(tmp_path / "kernel/runs/w/mlm/params.json")
    assert params["recipe"] == params["asked"] == {"backbone": "inputs/tiny"}
    assert_no_local_path(built, far)


def test_a_run_of_another_work_folder_comes_with_its_task(work, tmp_path, backbone, monkeypatch):
    other = tmp_path / "elsewhere" / "w"  # of the same name
    write_json(other / "task.json", read_json(work / "task.json"))
    write(other / "folds.parquet")
    for run in (other / "lm", work / "mlm"):
        shutil.copytree(backbone, run / "model", dirs_exist_ok=True)
    write_json(other / "lm" / "params.json", {"recipe": {"backbone": "minilm"}, "inputs": {}})
    built = make("3_train", "work=runs/w", "run=next", "start=elsewhere/w/lm+mlm")
    assert 'start = "runs/2-w/lm+mlm"' in read_notebook(built.kernels[0]).cells[3].source
    files = packed(built)
    assert {"runs/2-w/task.json", "runs/2-w/folds.parquet", "runs/2-w/lm/model/model.safetensors.only-hash"} <= files
    (average,) = [path for path in files if path.endswith("model.safetensors")]
    unpack(built.bundle, tmp_path / "kernel")
    monkeypatch.chdir(tmp_path / "kernel")
    (start,) = find_starts("runs/w", "runs/2-w/lm+mlm", "minilm", [0]).values()
    assert make_start(start, tmp_path) == str((tmp_path / "kernel" / average).parent)
    monkeypatch.chdir(tmp_path)
    assert_no_local_path(built, tmp_path)


def test_a_decoder_from_a_package_travels_as_its_folder_under_its_name(work, tmp_path, monkeypatch):
    """The kernel finds it there by the same name, without the package, and the run has the same recipe."""
    dense = tmp_path / "cache" / "smollm2-135m-b179c952-1"
    write(dense / "config.json", dense / "model.safetensors")
    monkeypatch.setattr("kagglekit.kaggle.pack_inputs.dense_folder", lambda name: dense)
    built = make("3_train", "work=runs/w", "run=llm", "backbone=smollm2-135m")
    unpack(built.bundle, tmp_path / "kernel")
    assert (tmp_path / "kernel/smollm2-135m/model.safetensors").read_text() == "model.safetensors"
    assert "smollm2-135m" in (source := str(read_notebook(built.kernels[0]))) and str(dense) not in source
    assert not [one for one in lint(built.kernels[0]) if "backbone" in one.message]
    monkeypatch.chdir(tmp_path / "kernel")
    monkeypatch.setattr("kagglekit.model.backbones.missing_package", lambda name: "it is not installed")
    assert find_backbone("smollm2-135m") == str(tmp_path / "kernel" / "smollm2-135m")
