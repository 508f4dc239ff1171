"""A small model with a byte vocabulary and weights that make its answers sharp: make_model.py OUT [family]"""
import sys
import gguf
import numpy as np

out, family = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "llama"
rng = np.random.default_rng(7)
WIDTH, LAYERS, HEADS, KV, DIM, FEED, VOCAB = 96, 4, 6, 3, 16, 320, 259
w = gguf.GGUFWriter(out, family)
w.add_block_count(LAYERS)
w.add_embedding_length(WIDTH)
w.add_feed_forward_length(FEED)
w.add_head_count(HEADS)
w.add_head_count_kv(KV)
w.add_context_length(512)
w.add_layer_norm_rms_eps(1e-5)
w.add_rope_freq_base(10000.0)
w.add_rope_dimension_count(DIM)
w.add_key_length(DIM)
w.add_value_length(DIM)
w.add_tokenizer_model("llama")
w.add_token_list([b"<unk>", b"<s>", b"</s>"] + [b"<0x%02X>" % i for i in range(256)])
w.add_token_scores([0.0] * VOCAB)
w.add_token_types([2, 3, 3] + [6] * 256)
w.add_bos_token_id(1)
w.add_eos_token_id(2)


def put(name, *shape, scale=None):
    """Weights of falling size along channels, so that some matter more than others."""
    a = rng.normal(size=shape) * (scale or 1.2 / np.sqrt(shape[-1]))
    w.add_tensor(name, a.astype(np.float32))


put("token_embd.weight", VOCAB, WIDTH, scale=1.0)
w.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
for l in range(LAYERS):
    for name, rows, cols in (("attn_q", HEADS * DIM, WIDTH), ("attn_k", KV * DIM, WIDTH), ("attn_v", KV * DIM, WIDTH),
                             ("attn_output", WIDTH, HEADS * DIM), ("ffn_gate", FEED, WIDTH), ("ffn_up", FEED, WIDTH),
                             ("ffn_down", WIDTH, FEED)):
        put(f"blk.{l}.{name}.weight", rows, cols)
        if family == "qwen2" and name in ("attn_q", "attn_k", "attn_v"):
            put(f"blk.{l}.{name}.bias", rows, scale=0.3)
    w.add_tensor(f"blk.{l}.attn_norm.weight", np.ones(WIDTH, np.float32))
    w.add_tensor(f"blk.{l}.ffn_norm.weight", np.ones(WIDTH, np.float32))
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
