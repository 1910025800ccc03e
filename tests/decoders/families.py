"""Tiny decoders with random weights, one a family, each with a small tokenizer of its family's rules. The names of the
special tokens are Qwen's, whose class of tokenizers adds them where they are missing."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from kagglekit.model.backbones import quiet

TEXT = "the good bad fine poor film plot sad fun no yes it was is very old new end A B C D 0 1 2 3 4 ! . , ? : \n"
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
SIZES |= {"intermediate_size": 48, "max_position_embeddings": 128, "vocab_size": 320, "head_dim": 8}
GEMMA = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8, "query_pre_attn_scalar": 8}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "vocab_size": 320}
FAMILIES = {  # model type -> options of its configuration, and what its tokenizer puts before and behind a text
    "llama": (SIZES, "<|im_start|>", ""),
    "qwen2": (SIZES, "", ""),
    "qwen3": ({**SIZES, "tie_word_embeddings": True}, "", ""),
    "gemma3_text": ({**SIZES, **GEMMA}, "<|im_start|>", ""),
    "phi3": (SIZES, "", ""),
    "gpt2": (GPT2, "", ""),
}
WIDE = {"initializer_range": 0.2}
OTHERS = {  # whose heads, positions or states are of another kind
    "opt": ({**SIZES, **WIDE, "ffn_dim": 48, "word_embed_proj_dim": 32}, "", ""),
    "bloom": ({**WIDE, "hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 320}, "", ""),
    "qwen3_moe": ({**SIZES, **WIDE, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}, "", ""),
    "mamba": ({**WIDE, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "vocab_size": 320}, "", ""),
}


def make_decoder(folder: Path, family: str, pad: str = "own") -> str:
    """Write a tiny decoder of a family with its head for words, and its tokenizer, to a folder. pad: of the tokenizer,
    "own" token, "eos" (as SmolLM2 has it), or "none" (as Llama has it)."""
    options, before, behind = (FAMILIES | OTHERS)[family]
    torch.manual_seed(0)
    tokenizer = make_bpe(pad, before, behind)
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    with quiet():
        AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **options, **ids)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def make_bpe(pad: str = "own", before: str = "", behind: str = "") -> PreTrainedTokenizerFast:
    """A tokenizer of bytes and a few words, of 320 tokens, that reads any text. before, behind: a special token."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator([TEXT] * 4, trainer)
    if before or behind:
        used = [(token, special.index(token)) for token in (before, behind) if token]
        core.post_processor = processors.TemplateProcessing(
            single=f"{before} $A {behind}".strip(), pair=f"{before} $A $B {behind}".strip(), special_tokens=used
        )
    padding = {"own": {"pad_token": "<|endoftext|>"}, "eos": {"pad_token": "<|im_end|>"}, "none": {}}[pad]
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<|im_start|>", eos_token="<|im_end|>", **padding, model_max_length=10**30
    )
