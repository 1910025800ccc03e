import json
import os
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from folders import write_competition
from safetensors.torch import load_file, save

from kagglekit.competition.infer import infer
from kagglekit.competition.task import read_train
from kagglekit.files import hash_files, read_json, write_json
from kagglekit.files.parquet import write_parquet
from kagglekit.kaggle.build import Step, build, parse_steps
from kagglekit.kaggle.bundle import read_bundle, unpack
from kagglekit.kaggle.cells import MARK
from kagglekit.kaggle.lint import lint
from kagglekit.kaggle.metadata import KERNEL_KEYS, read_kernel_metadata
from kagglekit.model.backbones import find_backbone
from kagglekit.runs.identity import identify
from kagglekit.runs.initial_weights import find_starts, make_start
from kagglekit.runs.tables import write_folds
from kagglekit.training.model_inputs import FeatureScaler


@pytest.fixture
def work(tmp_path, monkeypatch):
    """runs/w: a task with folds, and the runs tfidf, mlm, base (of mlm, with models of two folds) and their blend."""
    monkeypatch.chdir(tmp_path)
    write_competition(Path("far/bbc"), range(12), ("good", "bad"), range(12, 18), "bad")
    task, _ = infer("far/bbc")
    train = read_train(task)
    work = task.save("runs/w").parent
    write_folds(work, train["id"], [row % 3 for row in range(12)], range(12))
    recipes = {"tfidf": {"backbone": "tfidf"}, "mlm": {"backbone": "minilm"}}
    recipes["base"] = {"backbone": "minilm", "start": "mlm", "pattern": "a + b / {text}", "features": {}}
    for name, recipe in recipes.items():
        inputs = {"folds": hash_files([work / "folds.parquet"])} if name != "mlm" else {}
        write_json(work / name / "params.json", {"recipe": recipe, "inputs": inputs, "receipts": {}})
        for fold in (0, 1) if name != "mlm" else ():
            for table in ("oof", "test"):
                write_parquet(work / name / f"fold{fold}" / f"{table}.parquet", pd.DataFrame({"id": ["1"]}))
    write(work / "mlm/model/model.safetensors", work / "base/checkpoints/step.pt", work / "base/fold2/start/x.bin")
    for fold in (0, 1):
        write(
            work / f"base/fold{fold}/model/model.safetensors", work / f"base/fold{fold}/teachers/0/model/m.safetensors"
        )
    write(work / "base/suspects.csv", work / "base/learned/fold0.parquet", work / "mlm/suspects.csv")
    write(work / "base/.hidden", work / "base/golden.parquet", work / "blend/fold0/oof.parquet", work / "tokens/cache")
    write_json(work / "blend" / "weights.json", {"members": ["tfidf", "base"]})
    return work


def write(*files):
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.name)


def make(*texts, **options):
    steps = parse_steps(texts)
    return build(steps, "runs/w/kaggle", "me", **{"competition": "bbc-news", **options})


def read_notebook(kernel):
    (file,) = kernel.glob("*.ipynb")
    return nbformat.read(file, as_version=4)


def packed(built):
    return {record["path"].removeprefix("runs/w/") for record in read_bundle(built.bundle)["files"]}


def assert_no_local_path(built, place):
    """Neither the notebooks nor any text among what they read names a folder of this machine."""
    for folder in [*built.kernels, *([built.bundle] if built.bundle else [])]:
        for file in folder.iterdir():
            assert str(place).encode() not in file.read_bytes(), file


def test_a_kernel_of_one_step_is_that_notebook_with_its_parameters_between_install_and_leave(work, tmp_path):
    built = make("3_train", "work=runs/w", "run=next", "start=mlm", "epochs=2", "backbone=minilm")
    (kernel,) = built.kernels
    assert kernel == work / "kaggle" / "w-next" and {path.name for path in kernel.iterdir()} == {
        "kernel-metadata.json",
        "w-next.ipynb",
    }
    notebook = read_notebook(kernel)
    nbformat.validate(notebook)
    sources = [cell.source for cell in notebook.cells]
    tags = [cell.metadata.get("tags") for cell in notebook.cells]
    assert sources[0].startswith(MARK) and "me/kagglekit-wheels" in sources[0] and sources[1].startswith("# 3")
    assert tags[2] == ["parameters"] and tags[3] == ["injected-parameters"]
    values = {}
    exec(sources[3], values)
    assert {name: values[name] for name in ("work", "run", "start", "epochs")} == {
        "work": "runs/w", "run": "next", "start": "mlm", "epochs": 2,
    }  # fmt: skip
    assert sources[4].endswith("enter(\"runs/w\", competition='bbc-news', gpu=True)".replace('"', "'"))
    assert 'train_in_parallel(\n    "3_train"' in sources[5] and '"run": "next"' in sources[5]
    assert sources[-1].endswith("leave('runs/w', 'next')")
    original = nbformat.read(Step("3_train").source, as_version=4)
    assert sources[6:-1] == [cell.source for cell in original.cells[2:]]
    assert notebook.metadata["kagglekit"] == original.metadata["kagglekit"] and "papermill" not in notebook.metadata
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    assert_no_local_path(built, tmp_path)


def test_the_metadata_tells_every_key_and_attaches_wheels_inputs_and_what_was_asked_for(work):
    ours = dict(datasets=["you/texts/2"], kernels=["me/before"], models=["o/m/transformers/v/1"])
    told = read_kernel_metadata(make("3_train", "work=runs/w", "run=next", "start=", **ours).kernels[0])
    assert set(told) >= {*KERNEL_KEYS} - {"id_no"} and told["enable_internet"] is False and told["is_private"] is True
    assert told["dataset_sources"] == ["me/kagglekit-wheels", "me/w-next-inputs", "you/texts/2"]
    assert told["competition_sources"] == ["bbc-news"] and told["kernel_sources"] == ["me/before"]
    assert (told["id"], told["title"], told["machine_shape"]) == ("me/w-next", "W next", "NvidiaTeslaT4")
    cpu = read_kernel_metadata(make("3_train", "work=runs/w", "run=n", "start=", gpu="", slug="on-a-cpu").kernels[0])
    assert (cpu["enable_gpu"], cpu["machine_shape"], cpu["id"]) == (False, None, "me/on-a-cpu")


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


def test_several_steps_are_a_cell_each_and_what_one_makes_is_not_packed_for_the_next(work, tmp_path):
    built = make("1_eda", "work=runs/w", "data=far/bbc", "+", "3_train", "run=new", "start=", "+", "4_ensemble",
                 'runs=["new", "tfidf"]', "+", "5_submit", "--", "seed=3")  # fmt: skip
    sources = [cell.source for cell in read_notebook(built.kernels[0]).cells]
    assert len(sources) == 8 and sources[1].startswith("# 1_eda, then 3_train, then 4_ensemble, then 5_submit")
    assert ['"3_train"' in source and '"seed": 3' in source for source in sources].index(True) == 4
    assert '"data": "bbc-news"' in sources[3] and '"work": "runs/w"' in sources[6] and "'new', 'blend'" in sources[7]
    assert packed(built) == {f"tfidf/fold{k}/{t}.parquet" for k in (0, 1) for t in ("oof", "test")} | {
        "tfidf/params.json"
    }
    assert make("1_eda", "work=runs/w", "data=far/bbc", slug="only-eda").bundle is None
    assert_no_local_path(built, tmp_path)


def test_the_baseline_begins_from_nothing_and_a_start_that_is_not_here_is_missed(work):
    built = make("3_train", "work=runs/w", "run=next", "backbone=tfidf", "+", "5_submit", "run=next")
    assert packed(built) == {"task.json", "folds.parquet"}
    with pytest.raises(ValueError, match="start='gone' has no effect with backbone='tfidf': leave it out"):
        make("3_train", "work=runs/w", "run=next", "backbone=tfidf", "start=gone")
    with pytest.raises(FileNotFoundError, match=r"start='gone' does not exist; runs/w has .*attached \(--kernel\)$"):
        make("3_train", "work=runs/w", "run=next", "start=gone")
    assert make("3_train", "work=runs/w", "run=next", "start=gone", kernels=["me/before"]).bundle


def test_each_fold_gets_a_kernel_and_all_share_what_they_read(work):
    built = make("3_train", "work=runs/w", "run=next", "start=mlm", each_fold=True)
    assert [kernel.name for kernel in built.kernels] == ["w-next-fold0", "w-next-fold1", "w-next-fold2"]
    for fold, kernel in enumerate(built.kernels):
        sources = [cell.source for cell in read_notebook(kernel).cells]
        assert f"folds = [{fold}]" in sources[3] and not any("train_in_parallel" in source for source in sources)
        assert read_kernel_metadata(kernel)["dataset_sources"][1] == "me/w-next-inputs"
    two = make("3_train", "work=runs/w", "run=next", "start=mlm", "folds=[2, 0]", "full_fit=true", each_fold=True)
    fulls = [str([cell.source for cell in read_notebook(kernel).cells]) for kernel in two.kernels]
    assert ["'full_fit': True" in source.replace('"', "'") for source in fulls] == [True, False]
    assert [kernel.name for kernel in two.kernels] == ["w-next-fold2", "w-next-fold0"]
    with pytest.raises(ValueError, match="5_submit has no folds of its own"):
        make("3_train", "work=runs/w", "run=next", "start=", "+", "5_submit", "run=next", each_fold=True)


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


WRONG = {
    "did you mean epochs": ["3_train", "work=runs/w", "epohcs=3"],
    "start='nowhere' does not exist": ["3_train", "work=runs/w", "start=nowhere"],
    r"backbone='/no/such' does not exist": ["3_train", "work=runs/w", "start=", "backbone=/no/such"],
    r"backbone='deberta-v3-bas' is .*: did you mean deberta-v3-base": [
        *("3_train", "work=runs/w", "run=next", "backbone=deberta-v3-bas")
    ],
    "numbers: train has no column 'txet'.*: did you mean text": [
        *("3_train", "work=runs/w", "run=next", 'features={"numbers": ["txet"]}')
    ],
    "base was made with other settings: pattern was": ["3_train", "work=runs/w", "run=base", "start=mlm", "epochs=9"],
    "loss='mse' does not fit kind='": ["3_train", "work=runs/w", "run=next", 'loss={"mse": {}}'],
    "2_pretrain: run='base' is a run of 3_train": ["2_pretrain", "work=runs/w", "run=base"],
    "'tfidf' is a trained run, or one of those blended": ["4_ensemble", "work=runs/w", "run=tfidf", "runs=base"],
    "full: run='base' has no model of all rows": ["5_submit", "work=runs/w", "run=base", "full=only"],
    "1_eda: text: .*has no column 'txt'": ["1_eda", "work=runs/w", "data=far/bbc", "text=txt"],
    "learn: run='blend' has no fine-tuned models that could learn": [
        *("5_submit", "work=runs/w", "run=blend", "predict=true", 'learn={"pseudo": 0.9}')
    ],
    "learn: whether learning from test helps was not checked at home": [
        *("3_train", "work=runs/w", "run=next", "+", "5_submit", "run=next", "predict=true", 'learn={"pseudo": 0.9}')
    ],
    "needs work=": ["3_train", "start="],
    "step 2 names no notebook": ["3_train", "work=runs/w", "+", "run=base"],
    "steps of a kernel share a work folder": ["3_train", "work=runs/w", "start=", "+", "5_submit", "work=other"],
    "run 1_eda first": ["5_submit", "work=runs/none", "run=tfidf"],
    "tasks: a kernel .* gets the files of one competition": [
        "3_train",
        "work=runs/w",
        "start=",
        'tasks=["runs/w", "v"]',
    ],
    "suite: a kernel .* gets the files of one competition": ["5_submit", "work=runs/w", "run=tfidf", "suite=runs/v"],
    "texts is the work folder 'runs/w', and a kernel": ["2_pretrain", "work=runs/w", "run=next", "texts=runs/w"],
    "the images of pairs='posts.csv' stay on this machine": [
        "2_pretrain",
        "work=runs/w",
        "objective=itc_itm",
        "pairs=posts.csv",
        'objective_options={"image_encoder": "vit"}',
    ],
    "cannot name a run": ["3_train", "work=runs/w", "start=", "run=kaggle"],
}


@pytest.mark.parametrize("words", WRONG)
def test_what_is_wrong_is_said_in_words_and_an_older_build_stays(work, words):
    built = make("3_train", "work=runs/w", "run=next", "start=mlm", slug="the-kernel")
    before = {path: path.read_bytes() for path in (work / "kaggle").rglob("*") if path.is_file()}
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        make(*WRONG[words], slug="the-kernel")
    assert {path: path.read_bytes() for path in (work / "kaggle").rglob("*") if path.is_file()} == before
    assert built.kernels[0].is_dir()


def test_parameters_are_checked_when_a_kernel_is_built_and_again_when_it_was_changed(work):
    for wrong, words in (
        (["epochs=-1", "pooling=nope"], "epochs=-1 is out of range"),
        (["tricks={'FGM': {'epsilon': -1}}"], "FGM: epsilon=-1 is out of range"),
        (["backbone=tfidf", "dropout=0.1"], "dropout=0.1 has no effect with backbone='tfidf'"),
        (["epochs=2", "epochs=3"], "epochs is given twice"),
    ):
        with pytest.raises(ValueError, match=words):
            make("3_train", "work=runs/w", "run=next", *wrong)
    (kernel,) = make("3_train", "work=runs/w", "run=next", "backbone=tfidf", "--", "epochs=2").kernels
    assert not [one for one in lint(kernel) if "epochs" in one.message]
    file = kernel / f"{kernel.name}.ipynb"
    file.write_text(file.read_text().replace('backbone = \\"tfidf\\"', 'backbone = \\"tfidf\\"\\nepochs = -2'))
    assert [one.message for one in lint(kernel) if "epochs=-2 is out of range" in one.message]


def test_options_that_do_not_fit_are_refused(work):
    step = ["3_train", "work=runs/w", "run=next", "start="]
    with pytest.raises(ValueError, match="say competition= its slug"):
        make(*step, competition="")
    with pytest.raises(ValueError, match=r"slug='a.*6 to 50"):
        make(*step, slug="a" * 45)
    with pytest.raises(ValueError, match="NvidiaTeslaP100"):
        make(*step, gpu="NvidiaTeslaP100")
    with pytest.raises(ValueError, match="is a folder of this machine or a sample"):
        make("1_eda", "work=runs/w", competition="", datasets=["me/files"])
    assert not (work / "kaggle").exists() or not [*(work / "kaggle").iterdir()]


def test_a_build_takes_the_place_of_the_one_before_and_gives_the_same_bytes_again(work):
    step = ["3_train", "work=runs/w", "run=next", "start=mlm"]
    first = make(*step)
    files = {path: path.read_bytes() for path in (work / "kaggle").rglob("*") if path.is_file()}
    make(*step)
    assert {path: path.read_bytes() for path in (work / "kaggle").rglob("*") if path.is_file()} == files
    (model,) = (r["name"] for r in read_bundle(first.bundle)["files"] if r["path"].endswith("model.safetensors"))
    assert os.stat(first.bundle / model).st_nlink == 2  # linked, not copied
    write(first.kernels[0] / "stale.txt")
    make(*step[:3], "start=")
    assert not (first.kernels[0] / "stale.txt").exists() and "mlm/params.json" not in packed(first)


def test_hours_are_baked_into_the_steps_that_know_of_them(work):
    folder = Path("own")
    folder.mkdir()
    for name, more in (("3_train", "hours = 0.0"), ("5_submit", "kept = 1")):
        cell = nbformat.v4.new_code_cell(f'work = ""\nrun = "base"\n{more}', metadata={"tags": ["parameters"]})
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / f"{name}.ipynb")
    for hours, baked in ((None, 11.5), (8.5, 8.5), (0, 0)):
        steps = parse_steps(["3_train", "work=runs/w", "+", "5_submit"], folder)
        cells = read_notebook(build(steps, "k", "me", competition="bbc", hours=hours).kernels[0]).cells
        assert f'"hours": {baked}' in cells[3].source and "hours" not in cells[4].source
    own = parse_steps(["3_train", "work=runs/w", "hours=2"], folder)
    assert "hours = 2" in json.dumps(read_notebook(build(own, "k", "me", competition="bbc").kernels[0]))


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
