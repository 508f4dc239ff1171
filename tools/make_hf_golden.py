#!/usr/bin/env python3
"""Writes the tiny Hugging Face folders of tests/data/format with PyPI's safetensors and numpy.

Element i of tensor number k (in the order written here) is k + i / 64, so a test can tell from a value
which tensor and which place it came from. Widths are far too small to be of use."""
import json
import os
import sys

import numpy as np
from safetensors.numpy import save_file

HERE = os.path.join(os.path.dirname(__file__), "..", "tests", "data", "format")


class Ramp:
    def __init__(self):
        self.k = 0

    def __call__(self, *shape, dtype=np.float32):
        x = (self.k + np.arange(np.prod(shape)) / 64).astype(dtype).reshape(shape)
        self.k += 1
        return x


def write(folder, config, parts):
    path = os.path.join(HERE, folder)
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f, indent=1)
    if len(parts) == 1:
        save_file(parts[0], os.path.join(path, "model.safetensors"), metadata={"format": "pt"})
        return
    names = [f"model-{i + 1:05}-of-{len(parts):05}.safetensors" for i in range(len(parts))]
    for name, part in zip(names, parts):
        save_file(part, os.path.join(path, name), metadata={"format": "pt"})
    weight_map = {t: name for name, part in zip(names, parts) for t in part}
    with open(os.path.join(path, "model.safetensors.index.json"), "w", encoding="utf-8") as f:
        json.dump({"metadata": {"total_size": 0}, "weight_map": weight_map}, f, indent=1)


def llama():
    r, one, two = Ramp(), {}, {}
    one["model.embed_tokens.weight"] = r(5, 8, dtype=np.float16)
    p = "model.layers.0."
    one[p + "input_layernorm.weight"] = r(8)
    one[p + "self_attn.q_proj.weight"] = r(8, 8)
    one[p + "self_attn.k_proj.weight"] = r(4, 8)
    one[p + "self_attn.v_proj.weight"] = r(4, 8)
    two[p + "self_attn.o_proj.weight"] = r(8, 8)
    two[p + "self_attn.rotary_emb.inv_freq"] = r(2)
    two[p + "post_attention_layernorm.weight"] = r(8)
    two[p + "mlp.gate_proj.weight"] = r(12, 8)
    two[p + "mlp.up_proj.weight"] = r(12, 8)
    two[p + "mlp.down_proj.weight"] = r(8, 12)
    two["model.norm.weight"] = r(8)
    two["lm_head.weight"] = r(5, 8)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8,
              "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
              "intermediate_size": 12, "max_position_embeddings": 8192, "rms_norm_eps": 1e-05,
              "rope_theta": 500000.0, "vocab_size": 5, "hidden_act": "silu", "head_dim": None,
              "bos_token_id": 1, "eos_token_id": [2, 4], "tie_word_embeddings": False,
              "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                               "high_freq_factor": 4.0, "original_max_position_embeddings": 1024}}
    write("hf-llama", config, [one, two])


def phi3():
    r, t = Ramp(), {}
    t["model.embed_tokens.weight"] = r(5, 8)
    p = "model.layers.0."
    t[p + "self_attn.qkv_proj.weight"] = r(8 + 4 + 4, 8)
    t[p + "self_attn.o_proj.weight"] = r(8, 8)
    t[p + "mlp.gate_up_proj.weight"] = r(12, 8)
    t[p + "mlp.down_proj.weight"] = r(8, 6)
    t[p + "input_layernorm.weight"] = r(8)
    t[p + "post_attention_layernorm.weight"] = r(8)
    t["model.norm.weight"] = r(8)
    t["lm_head.weight"] = r(5, 8)
    config = {"model_type": "phi3", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
              "num_key_value_heads": 1, "intermediate_size": 6, "max_position_embeddings": 4096,
              "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
              "rope_scaling": None, "sliding_window": 2047, "hidden_act": "silu", "vocab_size": 5,
              "tie_word_embeddings": False}
    write("hf-phi3", config, [t])


def gpt2():
    r, t = Ramp(), {}
    t["wte.weight"] = r(5, 4)
    t["wpe.weight"] = r(16, 4)
    p = "h.0."
    t[p + "attn.bias"] = r(1, 1, 2, 2)
    t[p + "attn.c_attn.weight"] = r(4, 12)
    t[p + "attn.c_attn.bias"] = r(12)
    t[p + "attn.c_proj.weight"] = r(4, 4)
    t[p + "attn.c_proj.bias"] = r(4)
    t[p + "mlp.c_fc.weight"] = r(4, 16)
    t[p + "mlp.c_fc.bias"] = r(16)
    t[p + "mlp.c_proj.weight"] = r(16, 4)
    t[p + "mlp.c_proj.bias"] = r(4)
    for n in ("ln_1", "ln_2"):
        t[p + n + ".weight"] = r(4)
        t[p + n + ".bias"] = r(4)
    t["ln_f.weight"] = r(4)
    t["ln_f.bias"] = r(4)
    config = {"model_type": "gpt2", "n_embd": 4, "n_layer": 1, "n_head": 2, "n_positions": 16,
              "n_ctx": 16, "n_inner": None, "layer_norm_epsilon": 1e-05, "vocab_size": 5,
              "activation_function": "gelu_new", "eos_token_id": 4}
    write("hf-gpt2", config, [t])


if __name__ == "__main__":
    llama()
    phi3()
    gpt2()
    sys.exit(0)
