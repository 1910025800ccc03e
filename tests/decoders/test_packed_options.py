"""One score an option: options behind what they share are the options one by one, forward and backward."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from kagglekit.competition.text_columns import SEPARATOR
from kagglekit.decoders.options import encode_options, pack_options
from kagglekit.model.backbones import load_backbone, quiet
from kagglekit.model.classifier import Classifier
from kagglekit.training.finetune import FineTuner
from kagglekit.training.model_inputs import FeatureScaler, read_inputs
from kagglekit.training.predict import predict
from kagglekit.training.recipe import Recipe
from tests.decoders.families import FAMILIES


def draw(rows=3, options=4, seed=0):
    """Ids and mask (rows, options, tokens) of options that share 9 to 15 tokens, with 1 to 6 of their own."""
    random, ids = np.random.default_rng(seed), np.zeros((rows, options, 22), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row in range(rows):
        prefix = random.integers(5, 300, random.integers(9, 16))
        for option in range(options):
            text = [*prefix, *random.integers(5, 300, random.integers(1, 7))]
            ids[row, option, : len(text)], mask[row, option, : len(text)] = text, 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_options_are_the_options_one_by_one_forward_and_backward(tiny_decoder, family, attention):
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(
            tiny_decoder(family), attn_implementation=attention
        ).base_model.eval()
    (ids, mask), weight = draw(), torch.randn(32, generator=torch.manual_seed(0))

    def grads(scores):
        model.zero_grad()
        torch.nn.functional.cross_entropy(scores, torch.tensor([0, 2, 3])).backward()
        return {
            name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
        }

    alone = [[model(ids[row, option][mask[row, option] == 1][None]).last_hidden_state[0] for option in range(4)]
             for row in range(3)]  # fmt: skip
    loop = torch.stack([torch.stack([states[-1] @ weight for states in row]) for row in alone])
    packed = encode_options(model, ids, mask)
    for row in range(3):
        for option in range(4):
            assert torch.allclose(packed[row, option, : len(alone[row][option])], alone[row][option], atol=1e-5)
    last = (mask.sum(dim=2) - 1)[:, :, None, None].expand(-1, -1, 1, 32)
    expected, given = grads(loop), grads(packed.gather(2, last)[:, :, 0] @ weight)
    assert set(given) == set(expected) and any(grad.abs().max() > 1e-3 for grad in expected.values())
    assert all(
        (given[name] - expected[name]).abs().max() <= 1e-5 * expected[name].abs().max() + 1e-6 for name in expected
    )


def test_what_all_options_share_stands_once_and_each_keeps_a_token(tiny_decoder):
    ids = torch.tensor([[[7, 8, 9, 5], [7, 8, 6, 0]], [[7, 8, 0, 0], [7, 8, 0, 0]], [[1, 2, 3, 4], [5, 6, 7, 8]]])
    mask = torch.tensor([[[1, 1, 1, 1], [1, 1, 1, 0]], [[1, 1, 0, 0], [1, 1, 0, 0]], [[1] * 4] * 2])
    packing = pack_options(ids, mask)
    assert packing.owner.tolist() == [[-1, -1, 0, 0, 1, -2, -2, -2], [-1, 0, 1, *[-2] * 5], [0] * 4 + [1] * 4]
    assert packing.position[:, :5].tolist() == [[0, 1, 2, 3, 2], [0, 1, 1, 0, 0], [0, 1, 2, 3, 0]]
    model = load_backbone(tiny_decoder("llama"))
    assert encode_options(model, ids[2:], mask[2:]) is None  # nothing is shared: one by one is as good


@pytest.mark.parametrize(("family", "packed"), [("opt", True), ("qwen3_moe", True), ("bloom", False), ("mamba", False)])
def test_a_backbone_that_takes_no_such_mask_reads_options_one_by_one(tiny_decoder, family, packed):
    """Positions of BLOOM come from the mask, and Mamba has none."""
    options = {"pooling": "last_token", "head": "options", "chunk_pooling": "mean"}
    model, (ids, mask) = Classifier(load_backbone(tiny_decoder(family)), "softmax", 4, **options).eval(), draw()
    torch.nn.init.normal_(model.head.weight)
    assert (encode_options(model.backbone, ids, mask) is not None) == packed
    together = model(attention_mask=mask, input_ids=ids)["logits"]
    model._read_options = lambda *_: None
    assert torch.allclose(model(attention_mask=mask, input_ids=ids)["logits"], together, atol=1e-4)
    assert together.std(dim=1).min() > 1e-2


def test_an_option_without_tokens_is_none_packed_and_one_by_one(tiny_decoder):
    """Of rows with different numbers of answers; one with none has no choice."""
    options = {"pooling": "last_token", "head": "options", "chunk_pooling": "mean"}
    model, (ids, mask) = Classifier(load_backbone(tiny_decoder("llama")), "softmax", 4, **options), draw()
    torch.nn.init.normal_(model.head.weight)
    whole = model.eval()(attention_mask=mask, input_ids=ids)["logits"]
    for none in ((0, 0), (1, 3), 2):
        ids[none], mask[none] = 0, 0
    assert encode_options(model.backbone, ids, mask) is not None
    for way in (model._read_options, lambda *_: None):
        model._read_options = way
        logits = model.eval()(attention_mask=mask, input_ids=ids)["logits"]
        probs = logits.softmax(dim=1)
        assert probs[0, 0] == probs[1, 3] == 0 and probs[2].tolist() == [0.25] * 4
        assert torch.allclose(logits[0, 1:], whole[0, 1:], atol=1e-5)
        assert torch.allclose(logits[1, :3], whole[1, :3], atol=1e-5)
        model.train()(attention_mask=mask, input_ids=ids)["logits"].softmax(dim=1)[:, 1].log().sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_encoders_read_options_one_by_one(classifier):
    model, (ids, mask) = classifier(head="options", chunk_pooling="mean", outputs=4).eval(), draw()
    ids = ids % 25 + 5
    assert encode_options(model.backbone, ids, mask) is None
    scores = model(attention_mask=mask, input_ids=ids)["logits"]
    for option in range(4):
        alone = model(attention_mask=mask[:, [option]], input_ids=ids[:, [option]])["logits"]
        assert torch.allclose(scores[:, [option]], alone, atol=1e-5)


# In a run


@pytest.fixture
def tuner(tiny_decoder, task, texts, backbone):
    """tuner(family, **knobs): a FineTuner on 48 rows of a question with three candidate answers, one of them good."""

    def make(family="qwen3", names="ABC", empty=None, **knobs):
        random, (words, _) = np.random.default_rng(0), texts(48)
        right, cells = random.integers(0, 3, 48), np.array(["a bad end", "no fun"])[random.integers(0, 2, (48, 3))]
        cells[np.arange(48), right] = "good fun"
        if empty is not None:  # in every second row the cell so far behind the right one
            cells[np.arange(0, 48, 2), (right[::2] + empty) % 3] = " "
        rows = [SEPARATOR.join([*cell, question]) for cell, question in zip(cells, words, strict=True)]
        table = pd.DataFrame({"id": np.arange(48).astype(str), "text": rows})
        what = task(
            "multiclass", metric="map@3", classes=list("ABC"), text=[*names, "question"], text_separator=SEPARATOR
        )
        folder = backbone if family == "bert" else tiny_decoder(family)
        common = {"max_length": 40, "epochs": 5, "batch_size": 8, "learning_rate": 1e-2, "answers": list(names)}
        train = table.assign(label=np.array(list("ABC"))[right])
        fine = FineTuner(what, train, table[:7], folder, Recipe(**{**common, **knobs}))
        fine.precision = "fp32"
        return fine

    return make


@pytest.mark.parametrize("family", ["qwen3", "bert"])
@pytest.mark.parametrize("pattern", ["", "Q: {question} A: {option}"])
def test_options_are_learned_and_read_again_from_the_saved_model(tuner, tmp_path, family, pattern):
    fine = tuner(family, pattern=pattern)
    assert fine.rows.tokens.counts.tolist() == [3] * 48
    fitted, place = fine.fit(np.arange(32), np.arange(32, 48), tmp_path / "fold0", 0), tmp_path / "fold0" / "model"
    assert fitted.oof.shape == (16, 3) and np.allclose(fitted.oof.sum(axis=1), 1, atol=1e-5)
    assert (fitted.oof.argmax(axis=1) == fine.labels[32:]).mean() > 0.8
    test = FeatureScaler.load(place).examples(read_inputs(fine.test, fine.tokenizer, fine.recipe))
    model = Classifier.load(place)
    assert np.allclose(predict(model, test, "fp32"), fitted.test, atol=1e-5)
    if family == "qwen3":  # whatever the way, the scores are the same
        naive = Classifier.load(place)
        naive._read_options = lambda *_: None
        assert np.allclose(predict(naive, test, "fp32"), fitted.test, atol=1e-5)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"answers": ["A", "B", "A"]}, r"answers=\['A', 'B', 'A'\] name 'A' twice"),
        ({"answers": ["A", "B"]}, r"are 2 columns, and the label of the task \(multiclass\) has 3 classes"),
        ({"answers": ["A", "B", "D"]}, "answers: 'D' is no text column of the task"),
        ({"pattern": "{question} {A}"}, "read once for each of the answers: write {option} where it stands"),
        ({"pattern": "{text} {option}"}, "the other columns by their names"),
        ({"head": "flat"}, "answers and head do not go together"),
        ({"auxiliary": {"x": 1.0}}, "answers and auxiliary do not go together"),
        ({"loss": {"focal": {}}, "chunks": 2}, "answers and chunks do not go together"),
        ({"features": {"numbers": ["n"]}}, "do not go together: a score is of the text of an option alone"),
    ],
)
def test_what_does_not_go_with_options_is_told(tuner, knobs, words):
    with pytest.raises(ValueError, match=words):
        tuner(**knobs)


@pytest.mark.parametrize("family", ["qwen3", "bert"])
def test_an_empty_cell_is_no_answer_and_a_label_that_names_one_is_an_error(tuner, tmp_path, family):
    fine = tuner(family, empty=1, epochs=1)
    fitted = fine.fit(np.arange(32), np.arange(32, 48), tmp_path / "fold0", 0)
    there = np.ones((48, 3), dtype=bool)
    there[np.arange(0, 48, 2), (fine.labels[::2] + 1) % 3] = False
    assert ((fitted.oof > 0) == there[32:]).all() and ((fitted.test > 0) == there[:7]).all()
    with pytest.raises(
        ValueError, match=r"label of data row 1 \(id '0'\) of train names an empty cell \(24 such rows\)"
    ):
        tuner(family, empty=0)
    nothing = pd.DataFrame({"id": ["0"], "text": [SEPARATOR.join(["", " ", "", "is it fun"])]})
    with pytest.raises(ValueError, match="answers: no row has a text in any of A, B, C"):
        read_inputs(nothing, fine.tokenizer, fine.recipe)


def test_options_stand_in_the_order_of_the_classes(tuner):
    assert tuner(answers=["C", "A", "B"]).recipe.answers == ["A", "B", "C"]
    assert tuner(names=["first", "other", "third"]).recipe.answers == ["first", "other", "third"]
    assert replace(tuner().recipe, epochs=1).answers == ["A", "B", "C"]
