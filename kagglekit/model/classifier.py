"""The classifier that is fine-tuned: backbone, pooling and head."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModel

from kagglekit.data.tokens import Tokens
from kagglekit.decoders.causal import Prefix, is_causal, move_left, shared_prefix
from kagglekit.decoders.lora import add_adapters
from kagglekit.decoders.lora_base import find_base, load_trained, read_base, trained_state, write_base
from kagglekit.decoders.lora_layers import quicken_decoder
from kagglekit.decoders.lora_options import pack_options
from kagglekit.decoders.options import encode_options
from kagglekit.device import PRECISIONS, choose_precision, full_precision
from kagglekit.files import read_json, replacing, write_json
from kagglekit.files.arrays import loading, read_tensors, seal
from kagglekit.model.backbones import backbone_folder, find_backbone, load_config, quiet, token_types, without_pooler
from kagglekit.model.deberta_attention import fast_deberta
from kagglekit.model.fast_layers import quicken
from kagglekit.model.feature_layers import DocumentVectors, FeatureEncoder, WordVectors
from kagglekit.model.heads import HEADS, OUTPUT_LAYERS, UNLIKELY, Options, mask_classes
from kagglekit.model.long_attention import attention_options
from kagglekit.model.pooling import POOLINGS, LastToken, Mask, make_pooling
from kagglekit.model.pooling.over_chunks import encode_chunks
from kagglekit.model.row_gradients import RowGradients
from kagglekit.model.surgery import find_layers, output_changed
from kagglekit.model.verbalizer import Verbalizer, language_model

SINGLE = ("sigmoid", "identity", "unit")  # output layers that read each logit alone: each is a target of its own


class Classifier(nn.Module):
    """A text classifier: tokens and features in, one logit per class, label or value out.

    link: a name of OUTPUT_LAYERS; outputs: the number of logits. pooling: from token vectors to a text vector, a name
    of POOLINGS. chunk_pooling: another name, which pools the vectors of the chunks of a long text; at most
    `chunk_tokens` padded tokens are encoded at once. head: a name of HEADS, or
    "options", one score for each chunk, which is then an option of the row. head_dropout: before the last layer, in
    training; logits are means over `dropout_samples` draws of it (multi-sample dropout; Inoue, 2019).
    auxiliary: (link, outputs) of each auxiliary target; their logits come after the others. learned_weights: a
    parameter for the weight of each target, `log_variances`, which `MultiTaskLoss` reads.
    mask_places: positions of the masks of a pattern, for pooling="mask". label_words: of each class, from `find_words`,
    for head="verbalizer" over that pooling; `backbone` is then a language model, whose head is used.
    features: options of `FeatureEncoder`, joined to the text vector. word_vectors: the shape (vocabulary, width) of a
    table whose mean is joined too. embedded_words, such a shape, and embedded_vectors, the width of one vector per
    document, are added to the word embeddings.
    The tokens of a decoder may have their padding on either side, see `causal.move_left`.
    adapters: options of `add_adapters`, with which the backbone is frozen; `above`, its lowest layers without one; and
    `bits`, 4 where the backbone is packed.
    base: the frozen backbone, of `describe_base`, whose weights `save` leaves out; None: it writes all.
    Buffers center and scale (outputs,): `predictions` turns standardised targets back with them.
    """

    mask_id: int | None = None  # of the tokenizer, for tricks that mask tokens
    special_ids: Sequence[int] = ()
    candidates_loss = False  # whether classes that a row cannot have are masked in training too
    prefix: Prefix | None = None  # of all texts, see `prefix_read_once`
    base: dict[str, Any] | None = None

    def __init__(
        self,
        backbone: nn.Module,
        link: str,
        outputs: int,
        pooling: str = "mean",
        *,
        head: str = "linear",
        head_dropout: float = 0.0,
        dropout_samples: int = 1,
        auxiliary: Sequence[Sequence] = (),
        learned_weights: bool = False,
        chunk_pooling: str = "",
        chunk_tokens: int = 4096,
        mask_places: Sequence[int] | None = None,
        label_words: Sequence[Sequence[Sequence[int]]] | None = None,
        features: dict[str, Any] | None = None,
        word_vectors: Sequence[int] | None = None,
        embedded_words: Sequence[int] | None = None,
        embedded_vectors: int = 0,
        adapters: dict[str, Any] | None = None,
    ):
        super().__init__()
        given = locals()
        self.options = {knob: given[knob] for knob in list(inspect.signature(type(self)).parameters)[1:]}
        for name, value, known in (("link", link, OUTPUT_LAYERS), ("head", head, (*HEADS, "options", "verbalizer"))):
            if value not in known:
                raise ValueError(f"{name}={value!r} must be one of {', '.join(known)}")
        self.link = link
        self.blocks = [(link, outputs), *((name, size) for name, size in auxiliary)]  # of the logits
        whole, backbone = backbone, backbone.base_model
        self.pooling = make_pooling(pooling, backbone, mask_places)  # with the pooler, which adapters leave alone
        self.backbone, self.causal = without_pooler(backbone), is_causal(backbone.config)
        if adapters:
            options = {name: value for name, value in adapters.items() if name not in ("above", "bits")}
            add_adapters(backbone, options, find_layers(backbone)[: adapters.get("above", 0)])
        quicken(self.backbone)
        quicken_decoder(self.backbone)
        self.chunk_pooling = POOLINGS[chunk_pooling](self.pooling.width) if chunk_pooling else None
        self.chunk_tokens = chunk_tokens
        self.features = FeatureEncoder(**features) if features else None
        self.words = WordVectors(torch.zeros(*word_vectors)) if word_vectors else None
        embeddings = self.get_input_embeddings()
        inside = embeddings.weight.shape[1]  # some have narrower embeddings than states
        self.embedded_words = WordVectors(torch.zeros(*embedded_words), inside) if embedded_words else None
        self.embedded_vectors = DocumentVectors(embedded_vectors, inside) if embedded_vectors else None
        if embedded_words:
            embeddings.register_forward_hook(self._add_words)  # before those of any trick
        width = self.pooling.width + sum(part.width for part in (self.features, self.words) if part is not None)
        sizes = [1] * outputs if link in SINGLE else [outputs]  # logits of each target
        sizes += [size for _, size in auxiliary]
        hidden = self.pooling.width if chunk_pooling else backbone.config.hidden_size  # of what the head reads
        if head == "verbalizer":
            self.head = Verbalizer(whole, label_words, width, sizes)
        else:
            self.head = (HEADS | {"options": Options})[head](width, hidden, sizes)
        self.dropout, self.dropout_samples = nn.Dropout(head_dropout), dropout_samples
        self.log_variances = nn.Parameter(torch.zeros(len(sizes))) if learned_weights else None
        self.register_buffer("center", torch.zeros(outputs))
        self.register_buffer("scale", torch.ones(outputs))
        self.row_gradients = RowGradients(self, embeddings)

    def get_input_embeddings(self) -> nn.Module:
        """The word embeddings, as in transformers."""
        return self.backbone.get_input_embeddings()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set the gradients to None, and clear the rows of the word embeddings that are used again."""
        super().zero_grad(set_to_none)
        self.row_gradients.clear()

    def forward(
        self, attention_mask, input_ids=None, inputs_embeds=None, token_type_ids=None, **features
    ) -> dict[str, torch.Tensor]:
        """`input_ids` or `inputs_embeds` and `attention_mask`, (batch, tokens), or (batch, chunks, tokens) for chunks.

        token_type_ids: the text column of each token, in the same shape, where there are several.
        features: numbers, categories, vectors and embedded (vectors to be added to the word embeddings), those that the
        model was built for, with the batch first; candidates (batch, classes), 0 for classes that a row cannot have.
        Returns logits (batch, outputs), those of auxiliary targets last, and pooled (batch, width), the text vector.
        """
        if self.causal:
            parts = move_left(attention_mask, input_ids, inputs_embeds, token_type_ids)
            attention_mask, input_ids, inputs_embeds, token_type_ids = parts
        allowed = features.pop("candidates", None)
        given = inputs_embeds if input_ids is None else input_ids
        if input_ids is None and (self.words is not None or self.embedded_vectors is not None):
            raise ValueError("a model with word or document vectors needs input_ids, not inputs_embeds alone")
        with self._added(features.pop("embedded", None)):
            if attention_mask.dim() == 3:
                more = () if token_type_ids is None else (token_type_ids,)
                states, mask = self._read_options(input_ids, attention_mask), attention_mask.amax(dim=2)
                if states is None:
                    states, mask = encode_chunks(self._encode, given, attention_mask, self.chunk_tokens, *more)
                pooled = self.chunk_pooling((states,), mask)  # (batch, width)
            else:
                states, mask = self._states(given, attention_mask, token_type_ids), attention_mask
                mask = mask[:, 0 if self.prefix is None else len(self.prefix.ids) :]
                pooled = self.pooling(states, mask)  # (batch, width)
                states = states[-1]
        parts = [pooled]
        if self.features is not None:
            parts.append(self.features(**features))
        elif features:
            raise ValueError(f"the batch has the features {', '.join(features)}, and the model reads text alone")
        if self.words is not None:
            parts.append(self.words.mean(input_ids, attention_mask))
        vector = torch.cat(parts, dim=-1)
        draws = self.dropout_samples if self.training else 1
        with full_precision(vector.device) as exact:
            if exact:
                vector, states = vector.float(), states.float()
            logits = sum(self.head(vector, states, mask, self.dropout).float() for _ in range(draws)) / draws
        if allowed is not None and (self.candidates_loss or not self.training):
            logits = mask_classes(logits, allowed, None if not self.training else UNLIKELY)
        if self.log_variances is not None and self.training:  # the loss reads them: that they are used must be seen
            logits = logits + 0 * self.log_variances.sum()  # here, or several processes count them twice
        return {"logits": logits, "pooled": pooled}

    def _states(
        self, given: torch.Tensor, attention_mask: torch.Tensor, columns: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        """The states (batch, tokens, width) that the pooling reads, the last layer last; given: ids or embeddings."""
        name = "inputs_embeds" if given.is_floating_point() else "input_ids"
        options = {"output_hidden_states": True} if self.pooling.all_layers else {}
        options |= token_types(self.backbone, columns)
        options |= attention_options(self.backbone, given, attention_mask, columns)
        if self.prefix is not None:
            given = given[:, len(self.prefix.ids) :]
            options |= self.prefix.options(len(given))
        outputs = self.backbone(**{"attention_mask": attention_mask, name: given} | options)
        below = outputs.hidden_states[:-1] if self.pooling.all_layers else ()
        return *below, outputs.last_hidden_state  # some have a norm behind the last layer

    @contextmanager
    def prefix_read_once(self, tokens: Any) -> Iterator[None]:
        """While the block runs, the tokens with which all texts begin, those of a prompt, are not read again for each:
        of a decoder whose pooling and head read the end of a text. The same logits, to rounding. tokens: of the texts.
        """
        ends = isinstance(self.pooling, LastToken) or (isinstance(self.pooling, Mask) and self.pooling.places.max() < 0)
        ends = ends and not isinstance(self.head, HEADS["queries"]) and self.embedded_vectors is None
        if self.causal and ends and isinstance(tokens, Tokens):
            kept = 1 if isinstance(self.pooling, LastToken) else int(-self.pooling.places.min())
            ids = shared_prefix(tokens, kept)
            self.prefix = Prefix.encode(self.backbone, ids)
        try:
            yield
        finally:
            self.prefix = None

    def _encode(
        self, given: torch.Tensor, attention_mask: torch.Tensor, columns: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The vector of each chunk."""
        return self.pooling(self._states(given, attention_mask, columns), attention_mask)

    def _read_options(self, ids: torch.Tensor | None, attention_mask: torch.Tensor) -> torch.Tensor | None:
        """Vectors of the options of each row (batch, options, width), what they share read once; None: one by one."""
        if not isinstance(self.head, Options) or ids is None or self.pooling.all_layers:
            return None
        states = encode_options(self.backbone, ids, attention_mask)
        if states is None:
            return None
        pooled = self.pooling((states.flatten(0, 1),), attention_mask.flatten(0, 1))
        return pooled.unflatten(0, ids.shape[:2])

    def _added(self, vectors: torch.Tensor | None):
        """A context in which document vectors are added to the word embeddings."""
        if self.embedded_vectors is None:
            return nullcontext()
        if vectors is None:
            raise ValueError("the model adds a vector to the word embeddings of each text, and the batch has none")
        added = self.embedded_vectors(vectors)  # (batch, 1, width)
        return output_changed(self.get_input_embeddings(), lambda embedded: embedded + added)

    def _add_words(self, module: nn.Module, inputs: tuple[torch.Tensor], embedded: torch.Tensor) -> torch.Tensor:
        """A hook of the word embeddings."""
        return embedded + self.embedded_words(inputs[0])

    def predictions(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits (rows, outputs) to the numbers of a predictions table, float32: probabilities or values.

        Logits of auxiliary targets are ignored.
        """
        return OUTPUT_LAYERS[self.link].decode(logits[:, : len(self.center)], self.center, self.scale)

    def save(self, folder: Path, tokenizer=None) -> None:
        """Write weights (safetensors), configuration and tokenizer to a folder, whole or not at all."""
        with replacing(folder) as part:
            self.backbone.config.save_pretrained(part)
            state = trained_state(self, self.backbone) if self.base else self.state_dict()
            save_file({k: v.contiguous() for k, v in state.items()}, part / "model.safetensors")
            write_json(part / "classifier.json", self.options)
            if tokenizer is not None:
                tokenizer.save_pretrained(part)
            seal(part)
            if self.base:
                write_base(part, self.base)

    @classmethod
    def load(cls, folder: Path) -> "Classifier":
        """The model that `save` wrote. Raises FileNotFoundError where the backbone that it stands on is not here."""
        options, base = read_json(folder / "classifier.json"), read_base(folder)
        config, state = load_config(str(folder)), read_tensors(folder / "model.safetensors")
        kind = language_model(config) if options["head"] == "verbalizer" else AutoModel
        if base is None:
            model = cls(fast_deberta(kind.from_config(config)), **options)
            model.load_state_dict(state)
            return model
        place, adapters = find_base(folder, base, find_backbone, backbone_folder), options.get("adapters")
        given = {"config": config, "dtype": torch.float32}
        if adapters and adapters.get("bits") == 4:
            given |= pack_options(PRECISIONS[choose_precision()])
        with quiet(), loading(backbone_folder(place), weights=True):
            backbone = kind.from_pretrained(place, **given)
        model = cls(fast_deberta(backbone), **options)
        if not adapters:
            model.backbone.requires_grad_(False)
        load_trained(model, model.backbone, state)
        model.base = base
        return model

    def refill(self, folder: Path) -> bool:
        """Become the model of another folder on the same frozen backbone, which stays; False: it is on another."""
        base = read_base(folder)
        same = self.base and base and base["hash"] == self.base["hash"]
        if not same or read_json(folder / "classifier.json") != self.options:
            return False
        load_trained(self, self.backbone, read_tensors(folder / "model.safetensors"))
        return True
