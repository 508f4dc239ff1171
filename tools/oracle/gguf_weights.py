"""A llama-family GGUF as the forward wants it: Hugging Face names, dequantised, rotated by halves."""
import gguf
import numpy as np

from . import files


def read_llama(path):
    """(config, weights). Weights are float32, what the file's codes mean and nothing more."""
    r = gguf.GGUFReader(path)

    def value(key):
        f = r.fields.get("llama." + key)
        return f.contents() if f else None

    heads, kv = value("attention.head_count"), value("attention.head_count_kv")
    back = {files.LAYER[k]: k for k in (
        "input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")}
    back["ffn_norm"] = "post_attention_layernorm"
    top = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    w = {}
    for t in r.tensors:
        x = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
        x = x.reshape([int(n) for n in reversed(t.shape)])
        stem, _, what = t.name.rpartition(".")
        if stem.startswith("blk."):
            _, layer, part = stem.split(".")
            if part in ("attn_q", "attn_k"):            # neighbouring pairs back to halves
                n = heads if part == "attn_q" else kv
                x = x.reshape(n, -1, 2, x.shape[1]).swapaxes(1, 2).reshape(x.shape)
            w[f"model.layers.{layer}.{back[part]}.{what}"] = x
        else:
            w[f"{top[stem]}.{what}"] = x
    cfg = dict(model_type="llama", hidden_size=value("embedding_length"), num_attention_heads=heads,
               num_key_value_heads=kv, num_hidden_layers=value("block_count"),
               intermediate_size=value("feed_forward_length"), rope_theta=value("rope.freq_base"),
               rms_norm_eps=value("attention.layer_norm_rms_epsilon"), hidden_act="silu")
    return cfg, w
