import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression

from kagglekit.files import write_json
from kagglekit.training.column_knobs import fill_in_images
from kagglekit.training.finetune import FineTuner
from kagglekit.training.images import ImageEncoder, find_images, image_vectors, read_image
from kagglekit.training.predict import SavedModel
from kagglekit.training.recipe import Recipe
from tests.pretraining.conftest import make_pairs, make_vit


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a ViT, 240 pictures in photos/, and the words of their colours."""
    folder = tmp_path_factory.mktemp("images")
    make_vit(folder / "vit")
    (folder / "photos").mkdir()
    return folder, make_pairs(folder / "photos", 240)[2]


def row(number):
    return f"row {number + 1}"


def test_files_are_found_as_written_or_by_their_name_alone(place):
    folder, _ = place
    found = find_images(["photos/0.png", " 1.jpg ", "", "3"], folder, row)
    assert found == [folder / "photos/0.png", folder / "photos/1.jpg", None, folder / "photos/3.jpg"]
    with pytest.raises(FileNotFoundError, match=r"row 2 is 'lost.png': there is no such file in .* nor below it"):
        find_images(["0.png", "lost.png"], folder, row)
    with pytest.raises(FileNotFoundError, match=r"row 1 is 'other/0.png': there is no such file"):
        find_images(["other/0.png"], folder, row)


def test_a_name_that_two_folders_have_is_an_error(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "x.png")
    with pytest.raises(ValueError, match=r"row 1 is 'x.png', and .*x.png and .*x.png both have that name"):
        find_images(["x.png"], tmp_path, row)
    assert find_images(["b/x.png"], tmp_path, row) == [tmp_path / "b/x.png"]


@pytest.mark.parametrize(("mode", "suffix"), [("L", "png"), ("P", "png"), ("RGBA", "png"), ("1", "png"), ("L", "jpg")])
def test_an_image_of_any_mode_is_read_in_colours(tmp_path, mode, suffix):
    Image.new("RGB", (20, 10), "white").convert(mode).save(tmp_path / f"x.{suffix}")
    read = read_image(tmp_path / f"x.{suffix}", "x")
    assert read.mode == "RGB" and read.size == (20, 10) and read.getpixel((3, 3)) == (255, 255, 255)


def test_an_image_is_turned_as_the_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.new("RGB", (20, 10)).save(tmp_path / "x.jpg", exif=exif)
    assert read_image(tmp_path / "x.jpg", "x").size == (10, 20)


@pytest.mark.parametrize("content", [b"", b"no image", "half"])
def test_a_damaged_file_is_named(tmp_path, place, content):
    whole = (place[0] / "photos/1.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(ValueError, match=r"^row 7 is .*/x.jpg, which cannot be read as an image \(.*\): replace it$"):
        read_image(tmp_path / "x.jpg", "row 7")


def test_an_encoder_is_saved_and_loaded_alike_and_keeps_its_mode(place, tmp_path):
    folder, _ = place
    encoder, files = ImageEncoder.load(str(folder / "vit")), [folder / "photos/0.png", folder / "photos/1.jpg"]
    encoder.train()
    vectors = encoder.vectors(files, "fp32")
    assert encoder.training and vectors.shape == (2, encoder.width) == (2, 24)
    encoder.save(tmp_path / "saved")
    assert torch.equal(ImageEncoder.load(str(tmp_path / "saved")).vectors(files, "fp32"), vectors)
    assert torch.allclose(encoder.vectors(files[:1], "fp32"), vectors[:1], atol=1e-6)


def test_what_reads_no_images_is_refused(backbone, place, tmp_path):
    with pytest.raises(ValueError, match=r"reads no images \(bert\): name a vision model, such as a ViT"):
        ImageEncoder.load(backbone)
    make_vit(tmp_path / "vit")
    (tmp_path / "vit/preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"has no preprocessor_config.json, which says how its images are scaled"):
        ImageEncoder.load(str(tmp_path / "vit"))


def test_vectors_are_kept_by_encoder_and_files_and_are_missing_for_an_empty_cell(place, tmp_path, monkeypatch):
    folder, _ = place
    cells, known = ["photos/0.png", "", "photos/1.jpg", "0.png"], ["a", "b", "c", "d"]
    read = lambda encoder, cells=cells: image_vectors(encoder, cells, known, folder, "photo", tmp_path)  # noqa: E731
    found = read(str(folder / "vit"))
    assert found.shape == (4, 24) and found.dtype == np.float32 and np.isnan(found[1]).all()
    assert np.array_equal(found[0], found[3]) and not np.allclose(found[0], found[2])
    with monkeypatch.context() as patch:
        patch.setattr(ImageEncoder, "load", None)  # read from the file
        assert np.array_equal(read(str(folder / "vit")), found, equal_nan=True)
    torch.manual_seed(1)
    encoder = ImageEncoder.load(str(folder / "vit"))
    torch.nn.init.normal_(encoder.model.layernorm.weight)
    encoder.save(tmp_path / "other")
    assert not np.allclose(read(str(tmp_path / "other"))[0], found[0])
    with pytest.raises(ValueError, match="features: images: column 'photo' is empty in all rows"):
        read(str(folder / "vit"), ["", "", "", ""])
    with pytest.raises(FileNotFoundError, match=r"features: images: column 'photo' of id 'b' is 'lost.png'"):
        read(str(folder / "vit"), ["0.png", "lost.png", "", ""])


@pytest.fixture
def shown(task, place, texts, backbone, tmp_path):
    """shown(**knobs): a FineTuner of texts that say nothing, whose label is the colour of the circle in the picture."""
    folder, words = place
    tops = [top for top, _ in words]
    chosen = [number for number, top in enumerate(tops) if top in ("good", "bad", "fine")]
    files = {"train": "train.csv", "test": "test.csv"}
    known = task("multiclass", classes=["bad", "fine", "good"], data=str(folder), files=files)
    table = pd.DataFrame({"id": [str(n) for n in chosen], "text": texts(len(chosen))[0]})
    table["photo"] = [f"photos/{n}.{'jpg' if n % 2 else 'png'}" for n in chosen]
    train, test = table.assign(label=[tops[n] for n in chosen]), table.assign(id="t" + table["id"])

    def make(features, **knobs):
        knobs = {"max_length": 24, "epochs": 5, "batch_size": 4, "learning_rate": 1e-4, **knobs}
        recipe = fill_in_images(Recipe(features=features, **knobs), str(tmp_path), "")
        made = FineTuner(known, train, test, backbone, recipe, cache=tmp_path / "tokens")
        made.precision = "fp32"
        return made

    return make


def test_a_picture_that_decides_is_learned_as_by_logistic_regression(shown, place, tmp_path, monkeypatch):
    fine = shown({"images": "photo", "images_by": str(place[0] / "vit")})
    count = len(fine.train)
    train, valid = np.arange(count * 2 // 3), np.arange(count * 2 // 3, count)
    labels = np.array(fine.train["label"])
    vectors = fine.rows.vectors
    scaled = (vectors - vectors[train].mean(axis=0)) / vectors[train].std(axis=0)
    yardstick = LogisticRegression(max_iter=1000).fit(scaled[train], labels[train]).score(scaled[valid], labels[valid])
    write_json(tmp_path / "run/params.json", {})
    fitted = fine.fit(train, valid, tmp_path / "run/fold0", seed=0)
    right = np.array(fine.task.classes)[fitted.oof.argmax(axis=1)] == labels[valid]
    assert yardstick > 0.8 and right.mean() > yardstick - 0.15
    assert np.array_equal(fine.test_rows.vectors, fine.rows.vectors)  # the same pictures
    monkeypatch.setattr("kagglekit.training.predict.load_task", lambda work: {tmp_path: fine.task}[work])
    saved = SavedModel(tmp_path / "run/fold0/model", fine.settings, precision="fp32")
    assert np.allclose(saved.predict(fine.test), fitted.test, atol=1e-5)
    with pytest.raises(ValueError, match="reads the column 'photo', which the rows do not have"):
        saved.predict(fine.test.drop(columns="photo"))


def test_the_encoder_is_that_of_the_run_to_start_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = Recipe(features={"images": "photo"})
    for work in ("w", "v"):
        write_json(tmp_path / work / "pics/model/image_encoder/config.json", {})
    for start, encoder in (("pics", "w/pics/model/image_encoder"), ("v/pics", "v/pics/model/image_encoder")):
        assert fill_in_images(recipe, "w", start).features == {"images": "photo", "images_by": encoder}
    for start in ("", "mlm", "pics+v/pics"):
        with pytest.raises(ValueError, match="name one as images_by, or as start a run of 2_pretrain"):
            fill_in_images(recipe, "w", start)
    assert fill_in_images(Recipe(), "w", "pics") == Recipe()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (
            {"images": "photo"},
            "images are read by a vision model: name one as images_by, or as start a run of",
        ),
        ({"images_by": "vit"}, "features: images_by goes with images, and there are none"),
        ({"images": "photo", "vectors": "v.parquet"}, "images are read as vectors, and there are others"),
    ],
)
def test_images_need_an_encoder_and_no_other_vectors(features, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        fill_in_images(Recipe(features=features), str(tmp_path), "")


def test_a_column_that_test_lacks_is_an_error(shown):
    with pytest.raises(ValueError, match="'zzz'"):
        shown({"images": "zzz", "images_by": "x"})
