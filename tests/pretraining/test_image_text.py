import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from kagglekit.model.backbones import load_tokenizer
from kagglekit.pretraining.image_text import (
    ImagePairs,
    alike,
    check_pairs,
    draw_negatives,
    image_text_contrast,
    read_image_pairs,
    recalls,
)
from kagglekit.pretraining.pretraining_run import StageRun
from kagglekit.pretraining.stage_knobs import Stage
from kagglekit.pretraining.stages import pretrain
from kagglekit.runs.run_knobs import PretrainingRun
from tests.pretraining.conftest import make_pairs

NONE_ALIKE = torch.arange(8).reshape(4, 2)


@pytest.fixture
def posts(tmp_path):
    """A table of 24 posts beside its folder of pictures, in a file whose cells tests change."""
    (tmp_path / "img").mkdir()
    texts, files, _ = make_pairs(tmp_path / "img", 24)
    table = pd.DataFrame({"text": texts, "image": [f"img/{file.name}" for file in files]})

    def write(**cells):
        for column, (row, cell) in cells.items():
            table.loc[row, column] = cell
        table.to_csv(tmp_path / "posts.csv", index=False)
        return tmp_path / "posts.csv"

    return write


def test_texts_find_unseen_images_after_training(backbone, vit, pictures, tmp_path):
    options = {"image_encoder": vit, "width": 32}
    how = {"steps": 70, "batch_size": 32, "learning_rate": 6e-3, "held_out": 0.3, "max_length": 12}
    stage = Stage("itc_itm", objective_options=options, **how)
    trained, held = pictures.split(0.3, 0)
    assert not {pictures.texts[row] for row in trained} & {pictures.texts[row] for row in held}
    found = pretrain(stage, backbone, load_tokenizer(backbone), pictures.texts, tmp_path, labels=pictures)
    for way in ("text_to_image_at_1", "image_to_text_at_1"):
        assert found.before[way] < 0.2 and found.after[way] > 0.8, found  # of 49: 43 in float32, 45 or more in bf16
    assert found.receipts["Matching"]["temperature"] != pytest.approx(0.07, abs=1e-4)
    assert (tmp_path / "model/image_encoder/preprocessor_config.json").is_file()


def test_the_contrast_is_symmetric_cross_entropy_and_leaves_out_what_is_alike():
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    own = torch.arange(4)
    plain = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    assert torch.allclose(image_text_contrast(logits, NONE_ALIKE), plain)
    pairs = NONE_ALIKE.clone()
    pairs[1, 0] = pairs[0, 0]  # two images of one text
    changed = logits.clone()
    changed[0, 1] = changed[1, 0] = 1e4
    assert torch.allclose(image_text_contrast(logits, pairs), image_text_contrast(changed, pairs))
    assert image_text_contrast(changed, NONE_ALIKE) > 1e3
    assert image_text_contrast(logits, torch.zeros(4, 2)) == 0  # all alike: there is nothing to tell apart


def test_negatives_are_drawn_by_similarity_and_are_never_alike():
    apart = ~alike(torch.tensor([[0, 0], [0, 1], [2, 1], [3, 3]]))
    assert apart.tolist() == [[0, 0, 1, 1], [0, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 0]]
    scores = torch.zeros(4, 4)
    scores[3, 1] = 3.0
    torch.manual_seed(0)
    drawn = torch.stack([draw_negatives(scores, apart)[1] for _ in range(2000)])  # (draws, rows)
    assert all(apart[row, column] for row in range(4) for column in drawn[:, row].unique())
    assert (drawn[:, 3] == 1).float().mean() == pytest.approx(np.exp(3) / (np.exp(3) + 2), abs=0.02)
    assert [part.tolist() for part in draw_negatives(scores, apart & False)] == [[], []]


def test_recalls_count_what_is_alike_as_right():
    texts = torch.eye(8)
    images = texts[[1, 0, 2, 3, 4, 5, 6, 7]] + 0.5 * texts  # two are swapped, and the right one comes next
    numbers = torch.arange(16).reshape(8, 2)
    expected = {f"{way}_at_{k}": one for way in ("text_to_image", "image_to_text") for k, one in ((1, 0.75), (5, 1.0))}
    assert recalls(texts, images, numbers) == expected
    numbers[1, 0] = numbers[0, 0]
    assert set(recalls(texts, images, numbers).values()) == {1.0}


def test_no_text_and_no_image_is_trained_on_and_measured_with():
    texts, hashes = list("aabcdefghi"), ["0", "1", "1", "3", "4", "5", "5", "7", "8", "9"]
    pairs = ImagePairs(texts, [None] * 10, hashes)
    for seed in range(20):
        trained, held = pairs.split(0.2, seed)
        assert sorted([*trained, *held]) == list(range(10)) and len(held) >= 2
        for values in (texts, hashes):
            assert not {values[row] for row in trained} & {values[row] for row in held}
    with pytest.raises(ValueError, match="the 10 rows are 1 groups that share a text or an image, and 4 are needed"):
        ImagePairs(["a"] * 10, [None] * 10, hashes).split(0.2, 0)


@pytest.mark.parametrize("options", [{"matching": 0.0}, {"matching": 0.5}, {"matching": 0.0, "mlm": 0.7}])
def test_the_losses_are_weighted_and_0_leaves_one_out(prepare, compute_loss, options):
    prepared = prepare("itc_itm", options=options)
    batch = prepared.examples.__getitems__(list(range(8)))
    torch.manual_seed(0)
    loss, outputs = compute_loss(prepared, prepared.tricks)(batch)
    rest = loss - image_text_contrast(outputs["logits"], batch["labels"])
    assert ("matched" in outputs) == bool(options["matching"]) and ("tokens" in outputs) == ("mlm" in options)
    if options["matching"]:
        right = (torch.arange(len(outputs["matched"])) < 8).long()
        assert torch.allclose(rest, 0.5 * F.cross_entropy(outputs["matched"], right), atol=1e-5)
    else:
        assert (rest > 0.1) if "mlm" in options else rest == 0


@pytest.mark.parametrize(
    ("cells", "error", "message"),
    [
        (
            {"image": (4, "img/lost.jpg")},
            FileNotFoundError,
            "column 'image' in row 5 is 'img/lost.jpg': there is no such",
        ),
        ({"image": (4, "")}, ValueError, "column 'image' is empty in row 5"),
        ({"text": (2, " ")}, ValueError, "column 'text' is empty in row 3"),
    ],
)
def test_a_row_without_text_or_image_is_named(posts, cells, error, message):
    with pytest.raises(error, match=f"posts.csv: {message}"):
        read_image_pairs(posts(**cells), [])


@pytest.mark.parametrize(("name", "kept"), [("0.png", 200), ("1.jpg", 400), ("2.png", 0)])
def test_a_broken_image_is_named_with_its_row(posts, tmp_path, name, kept):
    file = tmp_path / "img" / name
    file.write_bytes(file.read_bytes()[:kept] if kept != 200 else b"x" * 200)
    texts, files = read_image_pairs(posts(), ["text", "image"])
    row = int(name.split(".")[0]) + 1
    with pytest.raises(
        ValueError, match=rf"posts.csv: column 'image' in row {row} is .*{name}, which cannot be read as"
    ):
        check_pairs(texts, files, "posts.csv", ["text", "image"])


def test_columns_can_be_named_and_one_that_lacks_is_an_error(posts):
    texts, files = read_image_pairs(posts(), [])
    assert len(texts) == len(files) == 24 and {file.suffix for file in files} == {".jpg", ".png"}
    assert Image.open(files[0]).size == (16, 16)
    with pytest.raises(ValueError, match="has no column 'photo': it has text, image"):
        read_image_pairs(posts(), ["text", "photo"])
    with pytest.raises(ValueError, match=r"pair_columns=.* is out of range: .*two columns"):
        PretrainingRun(pair_columns=["text"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.001}, "temperature=0.001 is out of range"),
        ({"width": 100}, "width=100 is out of range: it must be a multiple of 64, or below"),
        ({"mlm": -1.0}, "mlm=-1.0 is out of range"),
        ({"pooling": "max"}, "pooling='max' is out of range: it must be mean or cls"),
    ],
)
def test_an_option_out_of_range_is_an_error(prepare, options, message):
    with pytest.raises(ValueError, match=message):
        prepare("itc_itm", options=options)


def test_an_encoder_that_reads_no_images_is_an_error(prepare, backbone):
    with pytest.raises(ValueError, match=r"reads no images \(bert\): name a vision model"):
        prepare("itc_itm", options={"image_encoder": backbone})
    with pytest.raises(ValueError, match='objective="itc_itm" reads images: name a vision model'):
        Stage("itc_itm")


@pytest.mark.parametrize(
    ("column", "ours", "refused"),
    [("text", True, False), ("label", False, True), ("tag", True, True), ("tag", False, False)],
)
def test_labels_of_the_task_are_no_captions(posts, task, tables, backbone, vit, tmp_path, column, ours, refused):
    of_task = task("multiclass", data=str(tmp_path if ours else tmp_path / "elsewhere"))
    train, _ = tables(of_task)
    file = posts()
    table = pd.read_csv(file).assign(label="x", tag=np.resize(of_task.classes, 24))
    table["label"] += table.index.astype(str)
    table.to_csv(file, index=False)
    stage = Stage("itc_itm", objective_options={"image_encoder": vit}, max_length=12)

    columns = [] if column == "text" else [column, "image"]  # those are the default

    def begin():
        where = {"backbone": backbone, "pairs": str(file), "pair_columns": columns}
        return StageRun(tmp_path, of_task, train, table[column].tolist(), stage, **where)

    if refused:
        with pytest.raises(ValueError, match=f"pair_columns: column '{column}' of .* holds labels of this task"):
            begin()
    else:
        assert begin().settings["pair_columns"] == columns  # as given: else a run could not go on


def test_pairs_are_needed(task, tables, backbone, vit, tmp_path):
    of_task = task("multiclass")
    stage = Stage("itc_itm", objective_options={"image_encoder": vit}, max_length=12)
    with pytest.raises(ValueError, match=r'reads texts with images: name a table of them, pairs="posts.csv"'):
        StageRun(tmp_path, of_task, tables(of_task)[0], ["a"], stage, backbone=backbone)
