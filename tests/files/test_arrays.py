import numpy as np
import pytest
import torch

from kagglekit.data.tokens import tokenize
from kagglekit.files import Damaged
from kagglekit.files.arrays import (
    SEAL,
    cached_arrays,
    check_seal,
    loading,
    read_arrays,
    read_tensors,
    seal,
    write_arrays,
)
from kagglekit.learners.frozen import Frozen
from kagglekit.model.backbones import load_backbone, load_tokenizer
from kagglekit.model.classifier import Classifier
from kagglekit.model.weight_averages import fuse_backbones

ARRAYS = {"flat": np.arange(300, dtype=np.int32), "lengths": np.array([100, 200])}


def test_what_is_read_is_what_was_written_whatever_byte_is_flipped(tmp_path):
    path = tmp_path / "a.npz"
    write_arrays(path, ARRAYS)
    data, named = path.read_bytes(), 0
    for at in np.random.default_rng(0).permutation(len(data))[:200]:
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        try:
            found = read_arrays(path)
            assert all(np.array_equal(found[name], ARRAYS[name]) for name in ARRAYS), at  # a date, a flag
        except Damaged as error:
            assert str(error).startswith(f"{path} ") and "\n" not in str(error)
            named += 1
    assert named > 150
    for cut in (b"", data[: len(data) // 2], data[:3], b"no such file", bytes(len(data))):
        path.write_bytes(cut)
        with pytest.raises(Damaged, match=f"^{path} is "):
            read_arrays(path)


@pytest.mark.parametrize("cut", [b"", b"abc", b"no such file at all", bytes(99)])
def test_damaged_tensors_are_named(tmp_path, cut):
    (tmp_path / "a.safetensors").write_bytes(cut)
    with pytest.raises(Damaged, match=f"^{tmp_path}/a.safetensors is "):
        read_tensors(tmp_path / "a.safetensors")


@pytest.mark.parametrize("content", [None, b"", b"PK cut", "pickle"])
def test_a_cache_that_is_missing_or_damaged_is_made_again_without_a_word(tmp_path, content, capsys):
    file = tmp_path / "cache.npz"
    if content == "pickle":
        np.array([{}], dtype=object).dump(file)
    elif content is not None:
        file.write_bytes(content)
    assert cached_arrays(file, lambda: ARRAYS)["flat"].tolist() == list(range(300))
    assert cached_arrays(file, lambda: pytest.fail("made twice")).keys() == ARRAYS.keys()
    assert capsys.readouterr().out == ""


def test_damaged_tokens_and_vectors_are_made_again(tmp_path, tokenizer, backbone, task, tables):
    def read():
        tokens = tokenize(["good film", "bad"], tokenizer, 9, tmp_path)
        learner = Frozen(task("binary"), *tables(task("binary")), backbone, max_length=9, cache=tmp_path)
        return tokens.flat, learner.vectors()

    first = read()
    files = list(tmp_path.iterdir())
    for file in files:
        file.write_bytes(file.read_bytes()[:50])
    assert len(files) == 3 and all(np.array_equal(*pair) for pair in zip(first, read(), strict=True))
    assert all(len(read_arrays(file)) for file in files)


@pytest.mark.parametrize(
    "load, file",
    [
        (load_tokenizer, "tokenizer.json"),
        (load_tokenizer, "tokenizer_config.json"),
        (load_backbone, "config.json"),
        (load_backbone, "model.safetensors"),
        (load_backbone, "pytorch_model.bin"),
        (Classifier.load, "config.json"),
        (Classifier.load, "classifier.json"),
        (Classifier.load, "model.safetensors"),
    ],
)
@pytest.mark.parametrize("left", [0, 100, 0.5])
def test_the_damaged_file_of_a_model_is_named(tmp_path, backbone, classifier, tokenizer, load, file, left):
    folder = tmp_path / "model"
    if load == Classifier.load:
        classifier().save(folder, tokenizer)
    else:
        model = load_backbone(backbone)
        model.save_pretrained(folder)
        load_tokenizer(backbone).save_pretrained(folder)
        if file == "pytorch_model.bin":
            torch.save(model.state_dict(), folder / file)
            (folder / "model.safetensors").unlink()
    load(folder if load == Classifier.load else str(folder))
    data = (folder / file).read_bytes()
    (folder / file).write_bytes(data[: left if left != 0.5 else len(data) // 2])
    with pytest.raises(Damaged, match=f"^{folder / file} is "):
        load(folder if load == Classifier.load else str(folder))


def test_every_byte_of_a_sealed_model_counts_and_what_is_gone_is_named(tmp_path, backbone, classifier, tokenizer):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    classifier().save(ours, tokenizer)
    fuse_backbones([backbone], theirs)  # as a stage of pretraining, it is one of transformers
    assert fuse_backbones([ours, ours]) and len(read_tensors(ours / "model.safetensors"))

    def load(folder):
        load_tokenizer(str(folder))
        return Classifier.load(folder) if folder == ours else load_backbone(str(folder))

    for folder in (ours, theirs):
        load(folder)
        for file in [file for file in folder.iterdir() if file.name != SEAL]:
            data = file.read_bytes()
            for place in (0.2, 0.5, 0.9):
                at = int(place * len(data))
                file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
                with pytest.raises(Damaged, match=f"^{file} "):
                    load(folder)
            file.unlink()
            with pytest.raises((Damaged, FileNotFoundError), match=f"^{file} does not exist: fetch it again"):
                load(folder)
            file.write_bytes(data)
        (folder / SEAL).unlink()  # by version 0.2
        load(folder)


@pytest.mark.parametrize("name", ["image_encoder/config.json", "image_encoder/model.safetensors"])
def test_files_below_the_folder_of_a_model_are_sealed_too(tmp_path, name):
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_bytes(b"[1, 2]")
    (tmp_path / "config.json").write_text("{}")
    seal(tmp_path)
    for weights in (False, True):
        check_seal(tmp_path, weights)
    (tmp_path / name).write_bytes(b"[1, 3]")
    with pytest.raises(Damaged, match=f"^{tmp_path / name} is "):
        check_seal(tmp_path, weights=name.endswith("safetensors"))


def test_a_loader_that_fails_names_a_damaged_file_below_the_folder(tmp_path):
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text('{"cut')
    with pytest.raises(Damaged, match=r"tokenizer\.json"), loading(tmp_path):
        raise OSError("cannot be loaded")
