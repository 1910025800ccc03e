import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kagglekit.data.batches import Examples
from kagglekit.data.tokens import tokenize
from kagglekit.device import random_state_kept
from kagglekit.losses.catalogue import default_loss
from kagglekit.pretraining import selective
from kagglekit.pretraining.importance import (
    DISTRIBUTIONS,
    EntropyScorer,
    label_important,
    label_moving,
    label_texts,
    score_tokens,
)
from kagglekit.pretraining.masking import make_masking
from kagglekit.pretraining.selective import TokenScorer, importance_loss, train_token_scorer
from kagglekit.training.learning_rates import adamw, parameter_groups
from kagglekit.training.trainer import Trainer, training_arguments

MASK = 4


@pytest.fixture(scope="session")
def corpus():
    """Texts of 2 to 12 words, and which of three classes: it hangs on whether "good" or "bad" is among them."""
    random = np.random.default_rng(0)
    texts, labels = [], []
    for row in range(160):
        words = [*random.choice(["the", "film", "plot", "it", "was", "is", "very", "old"], random.integers(2, 12))]
        if row % 3 < 2:
            words[random.integers(len(words))] = ("good", "bad")[row % 3]
        texts.append(" ".join(words))
        labels.append(row % 3)
    return texts, np.array(labels)


@pytest.fixture
def inputs(corpus, tokenizer):
    return tokenize(corpus[0][:12], tokenizer, 40).pad(0)


TRAINED = {}


@pytest.fixture
def task_model(classifier, corpus, tokenizer, tmp_path):
    """A tiny classifier that has learned the texts, the same at every call."""
    model = classifier()
    if not TRAINED:
        examples = Examples(tokenize(corpus[0], tokenizer, 40), 0, corpus[1])
        args = training_arguments(tmp_path / "task", epochs=12, batch_size=16, precision="fp32", seed=0, log_every=1000)
        with random_state_kept():
            Trainer(model, args, examples, default_loss("multiclass"), adamw(parameter_groups(model, 1e-2))).fit()
        TRAINED.update({name: tensor.clone() for name, tensor in model.state_dict().items()})
    model.load_state_dict(TRAINED)
    return model.eval()


def probabilities(model, ids):
    with torch.no_grad():
        ids = torch.tensor([ids])
        return model(torch.ones_like(ids), input_ids=ids)["logits"][0].softmax(dim=-1)


def important(model, ids, threshold):
    """The rule of the paper, token by token, for one text with a special token at either end."""
    whole = probabilities(model, ids)
    said, buffer, found = whole.argmax(), [], []
    for token in ids[1:-1]:
        known = probabilities(model, [ids[0], *buffer, token, ids[-1]])[said]
        found.append(bool(whole[said] - known < threshold))
        buffer += [] if found[-1] else [token]
    return found


def labels_of(model, inputs, threshold=0.05):
    ids, mask = inputs["input_ids"], inputs["attention_mask"].bool()
    return label_important(model, ids, mask, mask & (ids > 4), threshold)


@pytest.mark.parametrize("threshold", [0.05, 0.3])
def test_important_tokens_are_those_of_the_rule_text_by_text(task_model, inputs, threshold):
    labels, asked = labels_of(task_model, inputs, threshold), 0
    for row, label in zip(inputs["input_ids"].tolist(), labels.tolist(), strict=True):
        ids = [i for i in row if i]
        whole = probabilities(task_model, ids)
        needs_words = whole.max() - probabilities(task_model, [2, 3])[whole.argmax()] >= threshold
        asked += bool(needs_words)
        expected = important(task_model, ids, threshold) if needs_words else [-1] * (len(ids) - 2)
        assert label == [-1, *expected, -1, *[-1] * (len(row) - len(ids))]
    assert 4 <= asked < 12  # the class without a word of its own is what the model takes unless told otherwise


def test_the_words_that_the_class_hangs_on_are_important_and_few_others(task_model, inputs, tokenizer):
    labels, ids = labels_of(task_model, inputs), inputs["input_ids"]
    telling = torch.isin(ids, torch.tensor(tokenizer.convert_tokens_to_ids(["good", "bad"])))
    assert (labels[telling] != 0).all() and (labels[telling] == 1).sum() > 2
    assert (labels[~telling & (labels >= 0)] == 1).float().mean() < 0.3


def test_the_higher_the_threshold_the_more_texts_need_no_word(task_model, inputs):
    left = [(labels_of(task_model, inputs, threshold) >= 0).any(dim=1).sum() for threshold in (0.0, 0.5, 1.0)]
    assert left[0] >= left[1] >= left[2] == 0


@pytest.mark.parametrize("link", DISTRIBUTIONS)
def test_what_a_model_thinks_are_distributions_for_every_kind_of_classes(classifier, inputs, link):
    model, logits = classifier("multilabel").eval(), torch.randn(5, 3)
    model.link = link
    assert torch.allclose(DISTRIBUTIONS[link](logits).sum(dim=2), torch.ones(()), atol=1e-6)
    labels = labels_of(model, inputs, 1e-4)
    assert set(labels.unique().tolist()) <= {-1, 0, 1} and (labels >= 0).any()
    assert torch.isfinite(EntropyScorer(model, MASK, range(5))(**inputs)["logits"]).all()


def test_labels_of_many_texts_are_those_of_each_and_the_mode_stays(task_model, inputs, corpus, tokenizer):
    task_model.train()
    tokens = tokenize(corpus[0][:12], tokenizer, 40)
    assert np.array_equal(label_texts(task_model, tokens, tokenizer), labels_of(task_model.eval(), inputs).numpy())
    assert label_texts(task_model.train(), tokens, tokenizer) is not None and task_model.training


def test_the_tokens_that_move_the_entropy_most_are_labelled_by_the_other_rule(task_model, inputs, corpus, tokenizer):
    changes = torch.tensor([[9.0, 1, 3, 2, 8], [5, 6, 0, 0, 0]])
    maskable = torch.tensor([[0, 1, 1, 1, 0], [1, 1, 0, 0, 0]]).bool()
    assert label_moving(changes, maskable, 0.5).tolist() == [[-1, 0, 1, 1, -1], [0, 1, -1, -1, -1]]
    labels = label_texts(task_model, tokenize(corpus[0][:12], tokenizer, 40), tokenizer, "entropy")
    scores = EntropyScorer(task_model, MASK, range(5))(**inputs)["logits"]
    words = inputs["input_ids"] > 4
    assert np.array_equal(labels, label_moving(scores, words).numpy()) and np.array_equal(labels >= 0, words.numpy())


def test_the_loss_is_cross_entropy_over_the_tokens_that_were_asked():
    logits, labels = torch.randn(3, 5), torch.randint(-1, 2, (3, 9), generator=torch.Generator().manual_seed(0))
    asked = labels[:, :5] >= 0
    expected = F.binary_cross_entropy_with_logits(logits[asked], labels[:, :5][asked].float())
    assert torch.allclose(importance_loss(logits, labels.to(torch.int8)), expected)
    assert importance_loss(logits, torch.full((3, 5), -1)) == 0


@pytest.fixture
def train(task_model, corpus, tokenizer, tmp_path):
    """train(folder, **options): a scorer of the task model, trained for a second or so."""
    tokens = tokenize(corpus[0], tokenizer, 40)

    def make(folder, model=task_model, **options):
        options = {"texts": 120, "epochs": 5, "batch_size": 8, "learning_rate": 1e-2, **options}
        return train_token_scorer(model, tokens, tokenizer, tmp_path / folder, **options)

    return make


def test_a_trained_scorer_finds_what_matters_and_leaves_no_trace(train, task_model, inputs, tokenizer, weights, same):
    before, state = weights(task_model), torch.get_rng_state()
    scorer = train("scorer")
    assert same(weights(task_model), before) and not task_model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert scorer.figures["roc_auc"] > 0.9 and 0 < scorer.figures["share that matters"] < 0.4
    assert scorer.figures["texts"] + scorer.figures["texts that need no word"] == 120
    chosen = make_masking("selective", tokenizer, 0.3, scorer=scorer).hide(inputs)["chosen"]
    telling = torch.isin(inputs["input_ids"], torch.tensor(tokenizer.convert_tokens_to_ids(["good", "bad"])))
    assert chosen[telling].float().mean() > 0.8 > 0.5 > chosen.sum() / inputs["attention_mask"].sum()


def test_a_scorer_that_is_done_is_read_back(train, task_model, inputs, tmp_path):
    scorer = train("scorer", epochs=1)
    again = train("scorer", model=None)
    assert again.figures == scorer.figures
    assert torch.equal(score_tokens(again, inputs, MASK), score_tokens(scorer, inputs, MASK))
    assert [file.name for file in (tmp_path / "scorer").iterdir()] == ["model"]


def test_a_scorer_cut_off_goes_on_as_if_it_never_was(train, monkeypatch, weights, same):
    straight, seen = train("straight", epochs=2), []

    def cut_off(logits, labels):
        seen.append(1)
        if len(seen) == 7:
            raise InterruptedError
        return importance_loss(logits, labels)

    with monkeypatch.context() as patch:
        patch.setattr(selective, "importance_loss", cut_off)
        with pytest.raises(InterruptedError):
            train("again", epochs=2, save_seconds=0.0)
        patch.setattr(selective, "label_texts", None)  # the labels are not asked for a second time
        del seen[:]
        seen += [1] * 7
        resumed = train("again", epochs=2)
    assert same(weights(straight), weights(resumed)) and len(seen) > 7
    assert resumed.figures == straight.figures


def test_a_scorer_learns_the_entropy_too(train):
    figures = train("scorer", rule="entropy", texts=60).figures
    assert figures["texts that need no word"] == 0 and figures["roc_auc"] > 0.6


def test_nothing_to_learn_from_is_an_error(train, classifier):
    with pytest.raises(ValueError, match=r"threshold=0.9 all tokens that were asked about matter alike, in \d+ of 120"):
        train("scorer", model=classifier(), threshold=0.9)
    with pytest.raises(ValueError, match=r"threshold=1 is out of range"):
        train("scorer", threshold=1)
    with pytest.raises(ValueError, match="rule='random' is out of range"):
        train("scorer", rule="random")


def test_the_entropy_score_is_the_change_when_a_token_is_hidden(task_model, inputs):
    scores = EntropyScorer(task_model, MASK, range(5))(**inputs)["logits"]
    for row, found in zip(inputs["input_ids"].tolist(), scores, strict=True):
        ids = [i for i in row if i]
        before = torch.special.entr(probabilities(task_model, ids)).sum()
        for place in range(1, len(ids) - 1):
            hidden = [*ids[:place], MASK, *ids[place + 1 :]]
            after = torch.special.entr(probabilities(task_model, hidden)).sum()
            assert abs(found[place].exp() - (after - before).abs()) < 1e-5


def test_entropy_is_asked_once_for_each_text_whatever_its_batch(task_model, inputs):
    scorer, calls = EntropyScorer(task_model, MASK, range(5)), []
    first = score_tokens(scorer, inputs, MASK)
    task_model.register_forward_hook(lambda *_: calls.append(1))
    n = int(inputs["attention_mask"][3].sum())
    alone = score_tokens(scorer, {name: tensor[3:4, :n] for name, tensor in inputs.items()}, MASK)
    assert torch.equal(alone[0], first[3, :n]) and not calls


def test_hiding_what_moves_the_entropy_hides_the_telling_words(task_model, inputs, tokenizer):
    masking = make_masking("entropy", tokenizer, 0.3, scorer=task_model)
    chosen = masking.hide(inputs)["chosen"]
    telling = torch.isin(inputs["input_ids"], torch.tensor(tokenizer.convert_tokens_to_ids(["good", "bad"])))
    assert chosen[telling].float().mean() > 0.6 > 0.5 > chosen.sum() / inputs["attention_mask"].sum()


@pytest.mark.parametrize("kind", ["TokenScorer", "EntropyScorer"])
def test_tokens_that_were_added_later_are_hidden_from_a_scorer(task_model, inputs, kind):
    scorer = TokenScorer(task_model.backbone) if kind == "TokenScorer" else EntropyScorer(task_model, MASK, range(5))
    added = inputs["input_ids"].masked_fill(inputs["input_ids"] == 11, 30)
    hidden = inputs["input_ids"].masked_fill(inputs["input_ids"] == 11, MASK)
    assert (added == 30).any()
    mask = inputs["attention_mask"]
    found, expected = (score_tokens(scorer, {"input_ids": x, "attention_mask": mask}, MASK) for x in (added, hidden))
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "regression"}, "predicts values .identity.: only a model of classes"),
        ({"embedded_vectors": 3}, "reads more than the text: take a run without features"),
    ],
)
def test_a_task_model_that_cannot_say_what_matters_is_an_error(classifier, tokenizer, options, said):
    with pytest.raises(ValueError, match=said):
        make_masking("entropy", tokenizer, scorer=classifier(**options))


def test_selective_masking_by_a_model_that_is_no_scorer_is_an_error(classifier, tokenizer):
    with pytest.raises(ValueError, match="must be entropy, or be given a TokenScorer of the task model"):
        make_masking("selective", tokenizer, scorer=classifier())
