"""Tiny models with random weights: no test needs the network, and one thread is fastest for them."""

import copy
import gc
import itertools
import os
import re
from functools import cache
from types import SimpleNamespace

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # also for the notebooks: processes of two threads each would wait for each other

import accelerate.utils.imports
import accelerate.utils.memory
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedTokenizerFast

from kagglekit.competition.task import Task
from kagglekit.data.batches import Examples
from kagglekit.data.tokens import Tokens
from kagglekit.losses.catalogue import check_loss, default_loss
from kagglekit.model.backbones import load_backbone, quiet
from kagglekit.model.classifier import Classifier
from kagglekit.model.pooling import POOLINGS
from kagglekit.running.arguments import check_parameters, fold
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import read_parameters
from kagglekit.training.callbacks import SaveEvery
from kagglekit.training.learning_rates import adamw, parameter_groups
from kagglekit.training.trainer import Trainer, training_arguments
from tests.decoders.families import make_decoder

pytest.register_assert_rewrite("tests.competition.shapes")  # it asserts, and its name does not begin with test_
torch.set_num_threads(1)
os.fsync = lambda file: None  # 3 ms for each of thousands of files, against a power cut in a test
accelerate.utils.memory.gc = SimpleNamespace(collect=lambda: 0)  # 20 ms before each training, for memory of GPUs
accelerate.utils.imports._is_package_available = cache(accelerate.utils.imports._is_package_available)

WORDS = ["a", "the", "good", "bad", "fine", "poor", "film", "plot", "sad", "fun", "no", "yes", "it", "was", "is"]
WORDS += ["very", "old", "new", "end", "!", ".", ",", "?", "##s", "##ed"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WIDTHS = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "vocab_size": len(SPECIAL + WORDS),
}
NUMBERS = itertools.count()  # of tests with a folder
ENCODERS = {}  # read once: reading one took a third of the time of a short training
ARCHITECTURES = {  # model type -> options of its configuration
    "bert": WIDTHS,
    "roberta": {**WIDTHS, "bos_token_id": 2, "eos_token_id": 3},
    "electra": {**WIDTHS, "embedding_size": 8},
    "deberta-v2": {**WIDTHS, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "pad_token_id": 0, "vocab_size": 30}
    | {"max_position_embeddings": 40},
    "modernbert": {**WIDTHS, "global_attn_every_n_layers": 2, "local_attention": 4, "mlp_dropout": 0.1}
    | {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
}


def make_tokenizer():
    vocabulary = {word: number for number, word in enumerate(SPECIAL + WORDS)}
    core = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=core, **{f"{name}_token": token for name, token in names.items()})


@pytest.fixture
def tmp_path(request, tmp_path_factory):
    """A folder of the test's own. pytest's looks through all that were made before: 2 ms at the 2,000th."""
    name = re.sub(r"\W", "_", request.node.name)[:30]
    return tmp_path_factory.mktemp(f"{name}-{next(NUMBERS)}", numbered=False)


@pytest.fixture(scope="session")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="session")
def backbones(tmp_path_factory):
    """Model type -> a folder with a tiny masked-language model of that type, and a tokenizer."""
    folders, place = {}, tmp_path_factory.mktemp("backbones")
    for name, options in ARCHITECTURES.items():
        torch.manual_seed(0)
        folders[name] = str(place / name)
        with quiet():
            AutoModelForMaskedLM.from_config(AutoConfig.for_model(name, **options)).save_pretrained(folders[name])
        make_tokenizer().save_pretrained(folders[name])
    gc.collect()
    gc.freeze()  # each training begins with a garbage collection: 0.2 s less when it need not look at what is imported
    return folders


@pytest.fixture(scope="session")
def backbone(backbones):
    """A folder with a tiny BERT."""
    return backbones["bert"]


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory):
    """tiny_decoder(family, pad="own"): a folder with a tiny decoder of tests/decoders/families.py, made once."""

    @cache
    def make(family, pad="own"):
        return make_decoder(tmp_path_factory.mktemp("decoders") / f"{family}-{pad}", family, pad)

    return make


def make_texts(n, seed=0):
    """`n` texts of 1 to 20 words, and whether each has more good words than bad ones."""
    random = np.random.default_rng(seed)
    words = WORDS[:-2]
    texts = [" ".join(random.choice(words, size=random.integers(1, 21))) for _ in range(n)]
    good, bad = {"good", "fine", "fun", "yes"}, {"bad", "poor", "sad", "no"}
    balance = [sum((w in good) - (w in bad) for w in text.split()) for text in texts]
    return texts, np.array(balance)


@pytest.fixture(scope="session")
def texts():
    """make_texts(n, seed): `n` texts of 1 to 20 words, and how many more good words than bad ones each has."""
    return make_texts


@pytest.fixture
def now(monkeypatch):
    """A clock that stands still, but for `now[0] += seconds`."""
    time = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: time[0])
    monkeypatch.setattr("time.time", lambda: time[0])
    return time


@pytest.fixture
def classifier(backbone):
    """classifier(**options): the same tiny model at every call; `dropout`: the backbone's, `kind`: of the task."""

    def make(kind="multiclass", outputs=3, dropout=0.0, folder=backbone, seed=0, pooling="mean", **options):
        torch.manual_seed(seed)
        key = folder, dropout, POOLINGS[pooling].own_pooler, seed
        if key not in ENCODERS:
            encoder = load_backbone(folder, dropout, attention="eager", pooler=POOLINGS[pooling].own_pooler)
            ENCODERS[key] = encoder, torch.get_rng_state()
        encoder, state = ENCODERS[key]
        torch.set_rng_state(state)
        model = Classifier(copy.deepcopy(encoder), check_loss({}, kind), outputs, pooling, **options)
        model.mask_id, model.special_ids = 4, (0, 1, 2, 3, 4)
        return model

    return make


@pytest.fixture(scope="session")
def examples():
    """examples(rows): random tokens of 3 to 12 a row, with labels of three classes that hang on the second token."""

    def make(rows=24, kind="multiclass"):
        random = np.random.default_rng(0)
        lengths = random.integers(3, 13, rows)
        texts = [np.array([2, *random.integers(5, 30, n - 2), 3], dtype=np.int32) for n in lengths]
        labels = np.array([text[1] % 3 for text in texts], dtype=np.int64)
        if kind == "multilabel":
            labels = np.eye(3, dtype=np.float32)[labels]
        elif kind == "regression":
            labels = np.column_stack([labels - 1.0, 1.0 - labels, labels * 0.5]).astype(np.float32)
        return Examples(Tokens(np.concatenate(texts), lengths), 0, labels)

    return make


@pytest.fixture
def trainer(tmp_path, classifier, examples):
    """trainer(tricks, **options): a trainer of a tiny classifier, 6 steps an epoch, 2 epochs; `stop` ends it at that
    step, after a checkpoint, as a kill would."""

    def make(
        tricks=(),
        folder="run",
        dropout=0.0,
        kind="multiclass",
        stop=None,
        evaluation=None,
        callbacks=(),
        save_seconds=1e9,
        rate=1e-2,
        **options,
    ):
        model = classifier(kind, dropout=dropout)
        options = {"epochs": 2, "batch_size": 4, "precision": "fp32", "seed": 0, "log_every": 1, **options}
        return Trainer(
            model,
            training_arguments(tmp_path / folder, **options),
            examples(kind=kind),
            default_loss(kind),
            adamw(parameter_groups(model, rate)),
            tricks,
            evaluation,
            [SaveEvery(save_seconds), *([_Stop(stop)] if stop else []), *callbacks],
        )

    return make


@pytest.fixture
def fitted(trainer):
    """fitted(tricks, folder, **options): such a trainer after its training; each starts from the same random state."""

    def make(*args, **options):
        run = trainer(*args, **options)
        run.fit()
        return run

    return make


class _Stop(SaveEvery):
    """Save at step `at` and stop there."""

    def __init__(self, at):
        self.at = at

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.at:
            control.should_save = control.should_training_stop = True


def make_task(kind, **options):
    """A Task of a kind, with the labels and columns that go with it."""
    classes = {"binary": ["no", "yes"], "multiclass": ["bad", "mixed", "good"], "ordinal": ["1", "2", "3"]}
    metrics = {"binary": "roc_auc", "multiclass": "accuracy", "multilabel": "roc_auc", "regression": "rmse"}
    values = {
        "kind": kind,
        "id": "id",
        "text": ["text"],
        "labels": ["x", "y"] if kind == "multilabel" else ["label"],
        "classes": classes.get(kind, []),
        "form": "label",
        "submission": ["id", "label"],
        "metric": metrics.get(kind, "qwk"),
        "group": None,
        "data": "",
        "files": {},
        "encoding": "utf-8",
        "fingerprint": "",
    }
    return Task(**{**values, **options})


@pytest.fixture
def task():
    """task(kind): `make_task`."""
    return make_task


@pytest.fixture(scope="session")
def tables(texts):
    """tables(task, rows): train and test of a task, whose labels hang on the balance of good and bad words."""

    def make(task, rows=24, test_rows=7):
        words, balance = texts(rows)
        labels = {
            "binary": np.where(balance > 0, "yes", "no"),
            "multiclass": np.array(["bad", "mixed", "good"])[np.sign(balance) + 1],
            "ordinal": (np.sign(balance) + 2).astype(str),
            "multilabel": (balance > 0).astype(int).astype(str),
            "regression": (100 + 10 * balance).astype(str),
        }[task.kind]
        columns = {name: labels for name in task.labels}
        if len(task.labels) > 1:
            columns[task.labels[1]] = labels[::-1]
        train = pd.DataFrame({"id": [str(n) for n in range(rows)], "text": words, **columns})
        test = pd.DataFrame({"id": [f"t{n}" for n in range(test_rows)], "text": texts(test_rows, seed=1)[0]})
        return train, test

    return make


def run_cells(name, **parameters):
    """Run the cells of a notebook in this process, with parameters that are checked as on the command line; its
    variables."""
    source = find_notebook(name)
    known, variables = read_parameters(source), {}
    given = fold(known, check_parameters(name, known, parameters))
    for cell in nbformat.read(source, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{name} {cell.id}", "exec"), variables)
            if "parameters" in cell.metadata.get("tags", []):
                variables |= given
    return variables


@pytest.fixture(scope="session")
def run_here():
    """run_here(notebook, **parameters): `run_cells`, as this process has imported torch already."""
    return run_cells


@pytest.fixture
def weights():
    """weights(model): a copy of all its weights, by name."""
    return lambda model: {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


@pytest.fixture
def same():
    """same(a, b): whether two dictionaries of tensors are equal bit for bit."""
    return lambda a, b: a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def logged():
    """logged(trainer, name): what was logged under a name, step by step."""
    return lambda trainer, name: [entry[name] for entry in trainer.state.log_history if name in entry]


@pytest.fixture
def batch(examples):
    """Eight examples as one padded batch, with labels."""
    return examples(rows=8).__getitems__(list(range(8)))


@pytest.fixture
def compute():
    """compute(model): the function that the innermost trick is given, inputs -> (loss, outputs)."""

    def make(model):
        def compute(inputs):
            outputs = model(inputs["attention_mask"], input_ids=inputs["input_ids"])
            return F.cross_entropy(outputs["logits"], inputs["labels"]), outputs

        return compute

    return make


LONG = (
    "notebooks",
    "round_trip",
    "battery",
    "pairs",
    "every_knob",
    "combinations",
    "fifty_steps",
    "benchmarks",
    "resume",
    "second_device",
)


def pytest_collection_modifyitems(items):
    """The longest files first: of two processes that share the files, none has a long one alone at the end."""
    places = {f"test_{name}.py": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONG)))
