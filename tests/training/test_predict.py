import numpy as np
import pytest
import torch

from kagglekit.training.predict import predict


def one_by_one(model, examples):
    model.eval()
    batches = [examples.__getitems__([row]) for row in range(len(examples))]
    with torch.no_grad():
        return np.concatenate(
            [model.predictions(model(b["attention_mask"], input_ids=b["input_ids"])["logits"]) for b in batches]
        )


@pytest.mark.parametrize("tokens", [1, 20, 16384, None])
def test_predictions_are_in_the_order_of_the_rows_whatever_the_budget(classifier, examples, tokens):
    model, rows = classifier(), examples(rows=17)
    predictions = predict(model, rows, "fp32", tokens)
    assert predictions.shape == (17, 3) and predictions.dtype == np.float32
    assert np.allclose(predictions, one_by_one(model, rows), atol=1e-6)
    assert len(np.unique(predictions[:, 0])) > 10  # the order could not be seen in equal rows


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("name", ["bert", "deberta-v2", "modernbert"])
def test_predicting_leaves_no_trace(classifier, backbones, examples, name, mode):
    model, rows = classifier(folder=backbones[name], dropout=0.3).train(mode), examples(rows=5)
    before, state = model.backbone.config._attn_implementation, torch.get_rng_state()
    first, second = (predict(model, rows, "fp32") for _ in range(2))
    assert np.array_equal(first, second)  # dropout was off
    assert model.training == mode and model.backbone.training == mode
    assert model.backbone.config._attn_implementation == before == "eager"
    assert torch.equal(torch.get_rng_state(), state)
    assert np.allclose(first, one_by_one(model, rows), atol=1e-5)


def test_the_mode_comes_back_after_an_exception(classifier, examples):
    model = classifier().train()
    model.head = None
    with pytest.raises(TypeError):
        predict(model, examples(rows=5), "fp32")
    assert model.training


def test_bf16_predictions_are_float32_and_close(classifier, examples):
    model, rows = classifier(), examples(rows=9)
    half = predict(model, rows, "bf16")
    assert half.dtype == np.float32
    assert np.allclose(half, predict(model, rows, "fp32"), atol=0.02)
    assert np.allclose(half.sum(axis=1), 1, atol=1e-6)
