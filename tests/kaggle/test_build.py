import json
import os
from pathlib import Path

import nbformat
import pytest
from builds import assert_no_local_path, make, make_work, packed, read_notebook, write

from kagglekit.kaggle.build import Step, build, parse_steps
from kagglekit.kaggle.bundle import read_bundle
from kagglekit.kaggle.cells import MARK
from kagglekit.kaggle.lint import lint
from kagglekit.kaggle.metadata import KERNEL_KEYS, read_kernel_metadata


@pytest.fixture
def work(tmp_path, monkeypatch):
    """See `make_work`."""
    monkeypatch.chdir(tmp_path)
    return make_work()


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
