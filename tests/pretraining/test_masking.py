import numpy as np
import pytest
import torch
from scipy.stats import binomtest, chisquare

from kagglekit.pretraining.importance import EntropyScorer, choose_best, score_tokens
from kagglekit.pretraining.masking import (
    MASKINGS,
    DynamicMasking,
    SelectiveMasking,
    make_masking,
    number,
    show_masking,
    span_starts,
)
from kagglekit.pretraining.selective import TokenScorer
from kagglekit.pretraining.stage_knobs import SCORED

MASK, VOCABULARY = 4, 1000
EVERY = pytest.mark.parametrize("name", MASKINGS)


@pytest.fixture
def ids():
    return torch.randint(5, VOCABULARY, (200, 500), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def masking_of(tokenizer, classifier):
    """masking_of(name, probability, **options): with a scorer of random weights where the scheme needs one."""

    def make(name, probability=0.15, **options):
        scorer = None
        if issubclass(MASKINGS[name], SelectiveMasking):
            scorer = classifier() if name == "entropy" else TokenScorer(classifier().backbone)
        return make_masking(name, tokenizer, probability, options, scorer)

    return make


def batch_of(rows=300, seed=0):
    """Texts of 1 to 38 tokens of a vocabulary of 30, two of which are pieces within words."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 41, (rows, 1), generator=random)
    places = torch.arange(40)
    ids = torch.randint(5, 30, (rows, 40), generator=random)
    ids[:, 0] = 2
    ids = ids.masked_fill(places == lengths - 1, 3).masked_fill(places >= lengths, 0)
    return {"input_ids": ids, "attention_mask": (places < lengths).long()}


def groups_of(masking, inputs):
    """A number for each token (batch, tokens), the same for those that a scheme can only choose together."""
    maskable = masking.find_maskable(inputs)
    if not hasattr(masking, "starts"):
        return torch.arange(maskable.numel()).view(maskable.shape)
    starts = masking.starts(inputs["input_ids"], maskable)
    return number(starts) + 1000 * torch.arange(len(starts))[:, None]


def likely(successes, trials, probability):
    return binomtest(int(successes), int(trials), float(probability)).pvalue > 1e-4


@pytest.mark.parametrize("probability", [0.15, 0.4, 0.9])
def test_of_the_chosen_eighty_percent_are_masked_ten_swapped_ten_kept(ids, probability):
    torch.manual_seed(0)
    seen = DynamicMasking(MASK, VOCABULARY, [], probability).hide({"input_ids": ids})
    hidden, chosen = seen["input_ids"], seen["chosen"]
    n = chosen.sum()
    masked, kept = chosen & (hidden == MASK), chosen & (hidden == ids)
    swapped = chosen & ~masked & ~kept
    assert likely(n, ids.numel(), probability)
    assert likely(masked.sum(), n, 0.8 + 0.1 / VOCABULARY)  # a random token is sometimes the mask, or the same one
    assert likely(kept.sum(), n, 0.1 + 0.1 / VOCABULARY)
    assert likely(swapped.sum(), n, 0.1 - 0.2 / VOCABULARY)
    others = hidden[swapped]  # from the whole vocabulary
    assert probability < 0.9 or (others.min() == 0 and others.max() == VOCABULARY - 1)
    assert likely((others < VOCABULARY // 2).sum(), len(others), 0.5)


def test_the_maskings_that_ask_a_task_model_are_known_to_the_stage():
    assert list(SCORED) == [name for name in MASKINGS if issubclass(MASKINGS[name], SelectiveMasking)]


@EVERY
@pytest.mark.parametrize("probability", [0.15, 0.5])
def test_every_scheme_has_eighty_ten_ten_by_what_it_chooses_as_a_whole(masking_of, name, probability):
    masking, inputs = masking_of(name, probability), batch_of(100 if name in SCORED else 300)
    torch.manual_seed(7)
    seen = masking.hide(inputs)
    torch.manual_seed(7)
    masking.draw(inputs["input_ids"], masking.find_maskable(inputs))
    chosen = seen["chosen"]
    group, sizes = groups_of(masking, inputs)[chosen].unique(return_inverse=True, return_counts=True)[1:]  # as drawn
    masked, kept = (
        group.bincount((seen["input_ids"] == other)[chosen].float()) == sizes for other in (MASK, inputs["input_ids"])
    )
    by_accident = (0.1 / 30.0**sizes).mean()  # random tokens that are the mask, or the same ones
    assert len(sizes) > 150
    assert likely(masked.sum(), len(sizes), 0.8 + by_accident) and likely(kept.sum(), len(sizes), 0.1 + by_accident)


@EVERY
@pytest.mark.parametrize("probability", [0.15, 0.5])
def test_every_scheme_chooses_its_share_of_the_tokens(masking_of, name, probability):
    masking, inputs = masking_of(name, probability), batch_of(100 if name in SCORED else 300)
    visits = 1 if name == "static" else 10
    torch.manual_seed(3)
    chosen = sum(int(masking.hide(inputs)["chosen"].sum()) for _ in range(visits))
    maskable = masking.find_maskable(inputs)
    wanted = maskable.sum(dim=1) * probability
    if name in SCORED:  # only the rounding of each row is left to chance
        variance = float(((wanted % 1) * (1 - wanted % 1)).sum())
    else:
        sizes = groups_of(masking, inputs)[maskable].unique(return_counts=True)[1]
        variance = probability * (1 - probability) * float(sizes.square().sum())
    assert abs(chosen - visits * float(wanted.sum())) < 3.9 * (visits * variance) ** 0.5


@EVERY
@pytest.mark.parametrize("probability", [0.0, 0.15, 1.0])
def test_every_scheme_leaves_special_tokens_padding_and_its_input_alone(masking_of, name, probability):
    masking, inputs = masking_of(name, probability), batch_of(100)
    inputs["input_ids"][:, 5], inputs["input_ids"][0, 30] = 3, 9  # one that separates texts in a piece, and a stray one
    inputs["attention_mask"][0, 30] = 0
    before = {key: tensor.clone() for key, tensor in inputs.items()}
    words = (inputs["input_ids"] > 4) & (inputs["attention_mask"] == 1)
    for _ in range(3):
        seen = masking.hide(inputs)
        assert all(torch.equal(inputs[key], before[key]) for key in before)
        assert not seen["chosen"][~words].any() and (probability < 1 or seen["chosen"][words].all())
        assert probability or not seen["chosen"].any()
        assert torch.equal(seen["input_ids"][~seen["chosen"]], inputs["input_ids"][~seen["chosen"]])
        assert torch.equal(seen["labels"], inputs["input_ids"][seen["chosen"]])
        assert torch.equal(seen["attention_mask"], before["attention_mask"])


@EVERY
def test_the_global_random_state_is_all_that_a_stopped_run_must_keep(masking_of, name):
    inputs, first = batch_of(50), masking_of(name)
    first.hide(inputs)
    state = torch.get_rng_state()
    seen = first.hide(inputs)
    torch.set_rng_state(state)
    again = masking_of(name)
    torch.set_rng_state(state)  # building one may draw weights of a scorer
    assert torch.equal(again.hide(inputs)["input_ids"], seen["input_ids"])


def test_dynamic_masking_hides_other_tokens_at_each_visit_and_a_seed_the_same(masking_of):
    masking, inputs = masking_of("dynamic"), batch_of()
    torch.manual_seed(0)
    first, second = (masking.hide(inputs)["chosen"] for _ in range(2))
    torch.manual_seed(0)
    assert torch.equal(masking.hide(inputs)["chosen"], first)
    assert not torch.equal(first, second)


def test_static_masking_is_the_same_at_every_visit_in_any_batch_and_draws_nothing(masking_of):
    masking, inputs = masking_of("static"), batch_of()
    state = torch.get_rng_state()
    first, second = (masking.hide(inputs) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first["input_ids"], second["input_ids"]) and torch.equal(first["chosen"], second["chosen"])
    for row in range(0, 300, 10):
        n = int(inputs["attention_mask"][row].sum())
        alone = masking.hide({name: tensor[row : row + 1, :n] for name, tensor in inputs.items()})
        assert torch.equal(alone["input_ids"][0], first["input_ids"][row, :n])


def test_another_seed_or_another_text_is_masked_otherwise(masking_of):
    inputs = batch_of(100)
    first, second = (masking_of("static", 0.5, seed=seed).hide(inputs)["chosen"] for seed in (0, 1))
    maskable = inputs["input_ids"] > 4
    assert likely((first == second)[maskable].sum(), maskable.sum(), 0.5)
    inputs["input_ids"][:, 1] = inputs["input_ids"][:, 1] % 25 + 5  # one word, which becomes another
    changed = masking_of("static", 0.5, seed=0).hide(inputs)["chosen"]
    rest = maskable & (torch.arange(40) > 1)
    assert likely((first == changed)[rest].sum(), rest.sum(), 0.5)


def test_copies_are_so_many_patterns_of_static_masking(masking_of):
    masking, inputs = masking_of("static", 0.5, copies=3), {name: x[:1] for name, x in batch_of(1, seed=2).items()}
    patterns = {tuple(masking.hide(inputs)["chosen"][0].tolist()) for _ in range(60)}
    assert len(patterns) == 3


@pytest.mark.parametrize("name", ["whole_word", "span"])
def test_whole_words_are_hidden_whole(masking_of, name):
    masking, inputs = masking_of(name, 0.4), batch_of()
    before = inputs["input_ids"]
    inside = (before >= 28) & (torch.roll(before, 1, dims=1) > 4)  # ##s and ##ed behind a piece of the same word
    seen = masking.hide(inputs)
    masked = seen["input_ids"] == MASK
    kept = seen["chosen"] & (seen["input_ids"] == before)
    assert inside.sum() > 200
    assert torch.equal(seen["chosen"][inside], torch.roll(seen["chosen"], 1, dims=1)[inside])
    alone = masked[inside] != torch.roll(masked, 1, dims=1)[inside]  # but for a random token that is the mask
    assert alone.float().mean() < 0.01 and kept[inside].any()


def test_spans_are_so_many_words_and_end_at_special_tokens():
    starts = torch.tensor([[1, 1, 0, 1, 1, 1, 0, 1, 1]]).bool()
    maskable = torch.tensor([[0, 1, 1, 1, 1, 1, 1, 0, 1]]).bool()
    lengths = torch.tensor([[2, 1, 3, 9, 9, 9, 9, 9, 9]])
    spans = span_starts(starts, maskable, lengths)
    assert spans.tolist() == [[True, True, False, True, True, False, False, False, True]]


def test_span_lengths_fall_geometrically_up_to_the_longest(masking_of):
    masking = masking_of("span", max_span=4, geometric=0.3)
    ids = torch.full((200, 400), 7)
    starts = masking.starts(ids, torch.ones_like(ids, dtype=torch.bool))
    lengths = torch.cat([torch.diff(torch.nonzero(row)[:, 0]) for row in starts])
    expected = 0.7 ** np.arange(4)
    counts = np.bincount(lengths, minlength=5)[1:]
    assert len(counts) == 4 and chisquare(counts, counts.sum() * expected / expected.sum()).pvalue > 1e-4


@pytest.mark.parametrize("options", [{"max_span": 1}, {"geometric": 1.0}])
def test_spans_of_one_word_are_whole_word_masking(masking_of, options):
    inputs, found = batch_of(), []
    for masking in (masking_of("whole_word", 0.3), masking_of("span", 0.3, **options)):
        torch.manual_seed(0)
        found.append(masking.hide(inputs)["input_ids"])
    assert torch.equal(*found)


def test_the_best_tokens_of_each_row_are_chosen():
    scores = torch.tensor([[9.0, 1, 3, 2, 8], [5, 5, 5, 5, 0]])
    maskable = torch.tensor([[0, 1, 1, 1, 0], [1, 1, 1, 1, 1]]).bool()
    assert choose_best(scores, maskable, torch.tensor([2, 1])).int().tolist() == [[0, 0, 1, 1, 0], [1, 0, 0, 0, 0]]
    assert torch.equal(choose_best(scores, maskable, torch.tensor([9, 9])), maskable)


@pytest.mark.parametrize("name", SCORED)
def test_the_tokens_with_the_highest_scores_are_hidden_first(masking_of, name):
    masking, inputs = masking_of(name, 0.3), batch_of(60)
    scores = score_tokens(masking.scorer, inputs, MASK)
    chosen, maskable = masking.hide(inputs)["chosen"], masking.find_maskable(inputs)
    worst = scores.masked_fill(~chosen, torch.inf).amin(dim=1)
    best_left = scores.masked_fill(~maskable | chosen, -torch.inf).amax(dim=1)
    assert (worst >= best_left).all() and isinstance(masking.scorer, EntropyScorer) == (name == "entropy")


def test_a_temperature_lets_others_be_hidden_and_a_high_one_makes_all_equal(masking_of):
    inputs = {name: x[:1].repeat(400, 1) for name, x in batch_of(1, seed=5).items()}
    maskable = inputs["input_ids"][0] > 4
    torch.manual_seed(0)
    cold, warm, hot = (
        masking_of("selective", 0.2, temperature=t).hide(inputs)["chosen"][:, maskable] for t in (0, 0.3, 1e6)
    )
    best = cold.float().mean(dim=0).argmax()
    assert cold[:, best].all() and cold.float().mean(dim=0).unique().numel() <= 3
    assert 0.2 < warm[:, best].float().mean() < 1
    assert chisquare(hot.sum(dim=0).numpy()).pvalue > 1e-4


def test_the_receipt_has_the_share_of_tokens_chosen(masking_of):
    masking, inputs = masking_of("span", 0.3), batch_of()
    for _ in range(5):
        masking.compute_loss(lambda seen: (seen["labels"].sum(), seen), None, inputs)
    receipt = masking.receipt(None)
    assert receipt["steps"] == 5 and 0.27 < receipt["share of tokens chosen"] < 0.33


@pytest.mark.parametrize(
    ("name", "probability", "options", "said"),
    [
        ("random", 0.15, {}, "masking='random' is out of range: it must be one of dynamic, static, whole_word, span"),
        ("span", 0.15, {"longest": 3}, "masking_options: span has no option 'longest'; it has chinese, max_span"),
        ("dynamic", 0.15, {"seed": 3}, "masking_options: dynamic has no option 'seed'; it has none"),
        ("dynamic", 1.5, {}, "mask_probability=1.5 is out of range"),
        ("static", 0.15, {"copies": 0}, "copies=0 is out of range: it must be 1 or more"),
        ("span", 0.15, {"max_span": 0}, "max_span=0 is out of range"),
        ("span", 0.15, {"geometric": 0.0}, "geometric=0.0 is out of range"),
        ("whole_word", 0.15, {"chinese": "words"}, "chinese='words' is out of range: it must be one of jieba, char"),
        ("selective", 0.15, {}, "masking='selective' needs a model of the task"),
        ("entropy", 0.15, {}, "masking='entropy' needs a model of the task"),
    ],
)
def test_what_cannot_be_is_said(tokenizer, name, probability, options, said):
    with pytest.raises(ValueError, match=said):
        make_masking(name, tokenizer, probability, options)


def test_masking_is_shown_token_by_token(backbone, tokenizer):
    state = torch.get_rng_state()
    texts = ["the good films", "bad"]
    shown = show_masking(texts, tokenizer, make_masking("whole_word", tokenizer, 1.0))["as the model sees it"]
    assert shown[1].startswith("[CLS] [bad -> ") and shown[1].endswith(" [SEP]")
    assert shown[0].count("->") == 4 and "[##s -> " in shown[0]
    plain = show_masking(["the good film"], tokenizer, make_masking("dynamic", tokenizer, 0.0), n=4)
    assert plain.iloc[0, 0] == "[CLS] the good [SEP]"
    assert torch.equal(torch.get_rng_state(), state)
