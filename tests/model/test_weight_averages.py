import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import AutoModel

from kagglekit.files import read_json, write_json
from kagglekit.files.arrays import SEAL
from kagglekit.model.backbones import find_backbone, load_backbone, load_tokenizer, quiet
from kagglekit.model.classifier import Classifier
from kagglekit.model.weight_averages import average_models, average_weights, fuse_backbones, greedy_soup


@pytest.fixture
def saved(classifier, tmp_path, tokenizer):
    """saved(n, **options): folders of `n` classifiers from the same backbone, each somewhat away from it."""

    def make(n=3, **options):
        folders = []
        for number in range(n):
            model = classifier(**options)
            torch.manual_seed(number + 1)
            for parameter in model.parameters():
                parameter.data += 0.02 * torch.randn_like(parameter)
            folders.append(tmp_path / f"fold{number}" / "model")
            model.save(folders[-1], tokenizer)
        return folders

    return make


def states(n=3):
    torch.manual_seed(0)
    return [{"weight": torch.randn(3, 2), "ids": torch.arange(4), "mask": torch.tensor([True])} for _ in range(n)]


def test_the_average_is_the_mean():
    members = states()
    soup = average_weights(members)
    assert torch.allclose(soup["weight"], torch.stack([member["weight"] for member in members]).mean(dim=0))
    assert torch.equal(soup["ids"], torch.arange(4)) and torch.equal(soup["mask"], torch.tensor([True]))


@given(st.lists(st.floats(0, 10), min_size=1, max_size=6).filter(lambda weights: sum(weights) > 1e-3))
@settings(max_examples=50, deadline=None)
def test_weights_weigh_and_need_not_sum_to_one(weights):
    members = states(len(weights))
    mean = sum(w * member["weight"].double() for w, member in zip(weights, members, strict=True)) / sum(weights)
    assert torch.allclose(average_weights(members, weights)["weight"].double(), mean, atol=1e-5)


def test_the_average_of_equals_is_the_same_bit_for_bit():
    member = states(1)[0]
    for weights in (None, [0.3, 0.0, 5.0], [0.0, 0.7, 0.1]):
        soup = average_weights([member] * 3, weights)
        assert all(torch.equal(soup[name], member[name]) for name in member)


def test_members_are_left_alone_and_may_come_from_a_generator():
    members, copies = states(), states()
    soup = average_weights(iter(members))
    soup["weight"].add_(1), soup["ids"].add_(1)
    for member, copy in zip(members, copies, strict=True):
        assert all(torch.equal(member[name], copy[name]) for name in member)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_halves_are_averaged_in_float32_and_types_stay(dtype):
    torch.manual_seed(0)
    members = [{"weight": torch.randn(100).to(dtype)} for _ in range(9)]
    soup = average_weights(members)["weight"]
    assert soup.dtype == dtype
    exact = torch.stack([member["weight"].double() for member in members]).mean(dim=0)
    assert torch.allclose(soup.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-7)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weight": torch.zeros(2, 2)}, r"state 0 and state 1 .*: weight is \[3, 2\] in one, \[2, 2\] in the other"),
        ({"bias": torch.zeros(1)}, r"bias is missing in one, \[1\] in the other"),
        ({"ids": torch.arange(4) + 1}, "state 0 and state 1 cannot be averaged: the integers of ids differ"),
    ],
)
def test_states_that_differ_in_form_are_an_error(change, words):
    one, other = states(2)
    with pytest.raises(ValueError, match=words):
        average_weights([one, {**other, **change}])


@pytest.mark.parametrize(
    ("n", "weights", "words"),
    [
        (0, None, "there is nothing to average"),
        (2, [0.0, 0.0], "no state with a weight above 0"),
        (2, [1.0, -1.0], "the weight of state 1=-1.0 is out of range: it must be 0 or more"),
        (2, [1.0], "shorter"),
        (2, [1.0, 1.0, 1.0], "longer"),
    ],
)
def test_weights_that_make_no_mean_are_an_error(n, weights, words):
    with pytest.raises(ValueError, match=words):
        average_weights(states(n), weights)


def test_the_greedy_soup_takes_what_does_not_make_it_worse():
    """By hand, nearness to 1: 1.5 is best; then 0 comes in, the mean of 0.75 being nearer; then 3 does not."""
    members = [{"weight": torch.tensor([value])} for value in (3.0, 1.5, -0.0)]
    seen = []

    def nearness(state):
        seen.append(state["weight"].item())
        return -abs(state["weight"].item() - 1)

    soup, numbers, score = greedy_soup(members, nearness)
    assert soup["weight"].item() == 0.75 and numbers == [1, 2] and score == -0.25
    assert seen == [3.0, 1.5, 0.0, 0.75, 1.5]
    soup, numbers, score = greedy_soup(members, lambda state: -nearness(state), higher_is_better=False)
    assert soup["weight"].item() == 0.75 and numbers == [1, 2] and score == 0.25


def test_a_greedy_soup_of_equal_scores_is_the_uniform_soup():
    members = states(4)
    soup, numbers, _ = greedy_soup(members, lambda state: 0.5)
    assert numbers == [0, 1, 2, 3] and torch.allclose(soup["weight"], average_weights(members)["weight"])


def test_a_state_without_a_score_is_never_a_member():
    members = [{"weight": torch.tensor([value])} for value in (1.0, 2.0)]
    scores = {1.0: float("nan"), 2.0: 0.1, 1.5: float("nan")}
    assert greedy_soup(members, lambda state: scores[state["weight"].item()])[1] == [1]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=5), st.booleans())
def test_a_greedy_soup_is_never_worse_than_its_best_member(values, higher):
    members = [{"weight": torch.tensor([value])} for value in values]

    def score(state):
        return state["weight"].item() ** 2

    best = (max if higher else min)(map(score, members))
    soup, _, value = greedy_soup(members, score, higher)
    assert value == score(soup) and (value >= best if higher else value <= best)


def test_the_average_of_folders_is_a_classifier_that_can_be_saved(saved, batch, tmp_path, weights, same):
    folders = saved()
    soup = average_models(folders)
    mean = average_weights([load_file(folder / "model.safetensors") for folder in folders])
    assert same(weights(soup), mean) and soup.options == Classifier.load(folders[0]).options
    soup.save(tmp_path / "soup")
    assert same(weights(Classifier.load(tmp_path / "soup")), mean)
    assert same(weights(average_models(folders, [0, 1, 0])), weights(Classifier.load(folders[1])))
    assert same(weights(average_models([folders[2]] * 2)), weights(Classifier.load(folders[2])))


def test_targets_standardised_by_fold_are_averaged_too(saved):
    folders = saved(2, kind="regression")
    for number, folder in enumerate(folders):
        state = load_file(folder / "model.safetensors")
        save_file({**state, "center": torch.full((3,), float(number))}, folder / "model.safetensors")
        (folder / SEAL).unlink()
    assert torch.equal(average_models(folders).center, torch.full((3,), 0.5))


def test_models_near_each_other_average_to_one_that_is_no_worse_than_their_mean(saved, batch, logits):
    folders = saved()
    models = [*(Classifier.load(folder) for folder in folders), average_models(folders)]
    *losses, loss = (F.cross_entropy(logits(model, batch), batch["labels"]).item() for model in models)
    assert loss < sum(losses) / 3 + 1e-3


def test_models_of_other_forms_are_an_error_that_names_both(saved, classifier, tmp_path, backbones):
    ours, others = saved(1)[0], tmp_path / "others"
    for change, words in (
        ({"outputs": 4}, "outputs is 3 in one, 4 in the other"),
        ({"pooling": "max"}, "pooling is mean in one, max in the other"),
        ({"folder": backbones["electra"]}, " is "),
    ):
        classifier(**change).save(others)
        with pytest.raises(ValueError, match=f"{ours} and {others} cannot be averaged: .*{words}"):
            average_models([ours, others])
    shutil.rmtree(others)
    with pytest.raises(FileNotFoundError):
        average_models([ours, others])
    with pytest.raises(ValueError, match="it must be at least one model"):
        average_models([])


def test_another_configuration_with_the_same_shapes_is_an_error(saved):
    ours, other = saved(2)
    config = read_json(other / "config.json")
    write_json(other / "config.json", {**config, "num_attention_heads": 4})
    (other / SEAL).unlink()
    with pytest.raises(ValueError, match="cannot be averaged: num_attention_heads is 2 in one, 4 in the other"):
        average_models([ours, other])


def test_other_dropouts_are_no_other_model(classifier, tmp_path):
    folders = [tmp_path / name for name in ("one", "other")]
    for folder, dropout in zip(folders, (0.0, 0.3), strict=True):
        classifier(dropout=dropout, head_dropout=dropout).save(folder)
    soup = average_models(folders)
    assert soup.dropout.p == soup.backbone.config.hidden_dropout_prob == 0.0


def test_backbones_are_fused_without_their_heads_and_load_in_transformers(
    classifier, backbones, tmp_path, tokenizer, weights, same, architecture
):
    classifiers = []
    for outputs in (2, 5):  # two tasks
        model = classifier(outputs=outputs, folder=backbones[architecture])
        torch.nn.init.normal_(model.get_input_embeddings().weight)
        model.save(tmp_path / f"task{outputs}", tokenizer)
        classifiers.append(weights(model.backbone))
    folders = [tmp_path / "task2", tmp_path / "task5", backbones[architecture]]  # and the masked-language model itself
    fused = fuse_backbones(folders, tmp_path / "fused")
    mean = average_weights([*classifiers, weights(load_backbone(backbones[architecture]))])
    assert same(weights(fused), mean)
    assert find_backbone(str(tmp_path / "fused")) == str(tmp_path / "fused")
    with quiet():
        plain = AutoModel.from_pretrained(tmp_path / "fused").state_dict()
    assert all(torch.equal(tensor, plain[key]) for key, tensor in mean.items())
    assert load_tokenizer(str(tmp_path / "fused")).get_vocab() == tokenizer.get_vocab()
    if architecture == "bert":
        assert same(weights(load_backbone(str(tmp_path / "fused"))), mean)
        assert same(weights(fuse_backbones(folders, weights=[0, 0, 1])), weights(load_backbone(folders[2])))


def test_backbones_that_differ_are_an_error_that_names_both(backbones):
    with pytest.raises(ValueError, match=r"bert and .*electra cannot be averaged: "):
        fuse_backbones([backbones["bert"], backbones["electra"]])


def test_another_vocabulary_of_the_same_size_is_an_error(backbone, tmp_path):
    other = shutil.copytree(backbone, tmp_path / "other")
    text = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(text.replace('"film"', '"movie"'))
    with pytest.raises(ValueError, match="cannot be averaged: token 'film' is 11 in one, missing in the other"):
        fuse_backbones([backbone, other])


def test_a_fused_folder_appears_whole_or_not_at_all(backbone, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformers.PreTrainedTokenizerFast.save_pretrained", full)
    with pytest.raises(OSError, match="the disk is full"):
        fuse_backbones([backbone], tmp_path / "fused")
    assert not list(tmp_path.iterdir())
