"""A llama of random weights whose words are bytes and a few merges, with a chat template: for tests that need a
vocabulary of text and no sense in it."""
import gguf
import numpy as np

TEMPLATE = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def letters():
    """GPT-2's letters of bytes."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    out, n = {b: chr(b) for b in shown}, 256
    for b in range(256):
        if b not in out:
            out[b] = chr(n)
            n += 1
    return [out[b] for b in range(256)]


def make_bytes(path, kind="F32", context=512):
    """Bytes, a few merges and three control tokens; a llama of random weights."""
    merges = ["\u0120 t", "h e", "\u0120t he", "S E", "SE L", "SEL E", "SELE C", "SELEC T", "F R", "FR O", "FRO M",
              "W H", "WH E"]
    words = letters() + [m.replace(" ", "") for m in merges] + ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    rng, n, width, feed = np.random.default_rng(1), len(words), 64, 128
    w = gguf.GGUFWriter(path, "llama")
    for key, v in (("context_length", context), ("embedding_length", width), ("block_count", 2),
                   ("feed_forward_length", feed), ("attention.head_count", 4), ("attention.head_count_kv", 2),
                   ("vocab_size", n)):
        w.add_uint32("llama." + key, v)
    w.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list(words)
    w.add_token_types([1] * (n - 3) + [3] * 3)
    w.add_token_merges(merges)
    w.add_bos_token_id(n - 3)
    w.add_eos_token_id(n - 1)
    w.add_chat_template(TEMPLATE)
    kind = gguf.GGMLQuantizationType[kind]
    put = lambda name, *dims: w.add_tensor(name, gguf.quants.quantize((rng.standard_normal(dims) * (0.7 / dims[-1]
                                           ** 0.5)).astype(np.float32), kind), raw_dtype=kind)
    put("token_embd.weight", n, width)
    for i in range(2):
        for name, *dims in (("attn_q", width, width), ("attn_k", 32, width), ("attn_v", 32, width),
                            ("attn_output", width, width), ("ffn_gate", feed, width), ("ffn_up", feed, width),
                            ("ffn_down", width, feed)):
            put(f"blk.{i}.{name}.weight", *dims)
        for name in ("attn_norm", "ffn_norm"):
            w.add_tensor(f"blk.{i}.{name}.weight", np.ones(width, np.float32))
    w.add_tensor("output_norm.weight", np.ones(width, np.float32))
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file()
    w.close()
