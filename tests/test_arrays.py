import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kagglekit.arrays import cached_arrays, read_arrays, read_tensors, write_arrays, write_tensors
from kagglekit.data.tokens import tokenize
from kagglekit.files import Damaged
from kagglekit.learners.frozen import Frozen
from kagglekit.model.backbones import load_backbone, load_tokenizer
from kagglekit.model.classifier import Classifier

ARRAYS = {"flat": np.arange(300, dtype=np.int32), "lengths": np.array([100, 200])}
STATE = {"w": torch.arange(12.0).reshape(3, 4), "b": torch.zeros((), dtype=torch.bfloat16), "n": torch.arange(3)}


@pytest.mark.parametrize(
    "write, read, file", [(write_arrays, read_arrays, "a.npz"), (write_tensors, read_tensors, "a.st")]
)
def test_what_is_read_is_what_was_written_whatever_byte_is_flipped(tmp_path, write, read, file):
    path, values = tmp_path / file, ARRAYS if file == "a.npz" else STATE
    write(path, values)

    def same(found):
        pairs = [(torch.as_tensor(found.get(name, 0)), torch.as_tensor(values[name])) for name in values]
        return found.keys() == values.keys() and all(torch.equal(*pair) for pair in pairs)

    assert same(read(path))
    data, named = path.read_bytes(), 0
    for at in np.random.default_rng(0).permutation(len(data))[:200]:
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        try:
            assert same(read(path)), at  # bytes that say nothing, such as a date in an npz
        except Damaged as error:
            assert str(error).startswith(f"{path} ") and "\n" not in str(error)
            named += 1
    assert named > 120
    for cut in (b"", data[: len(data) // 2], data[:3], b"no such file", bytes(len(data))):
        path.write_bytes(cut)
        with pytest.raises(Damaged, match=f"^{path} is "):
            read(path)


def test_tensors_without_a_checksum_are_read_as_they_are(tmp_path):
    save_file(STATE, tmp_path / "a.safetensors")
    assert read_tensors(tmp_path / "a.safetensors").keys() == STATE.keys()


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
