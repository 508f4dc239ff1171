#!/usr/bin/env python3
"""stories260K (llama2.c's format) as GGUF, which the tests of llama.cpp's server expect.

    stories.py stories260K.bin tok512.bin OUT.gguf"""
import struct
import sys

import gguf
import numpy as np


def pieces(path, n):
    data = open(path, "rb").read()
    at, out = 4, []
    for _ in range(n):
        score, length = struct.unpack_from("<fi", data, at)
        out.append((score, data[at + 8:at + 8 + length]))
        at += 8 + length
    return out


def vocabulary(path, n):
    """Tokens, scores and types as llama.cpp's own converter gives them."""
    tokens, scores, types = [], [], []
    for i, (score, piece) in enumerate(pieces(path, n)):
        kind = gguf.TokenType.NORMAL
        if i < 3:
            piece, kind = [(b"<unk>", gguf.TokenType.UNKNOWN), (b"<s>", gguf.TokenType.CONTROL),
                           (b"</s>", gguf.TokenType.CONTROL)][i]
        elif i < 259:
            piece, kind = b"<0x%02X>" % (i - 3), gguf.TokenType.BYTE
        else:
            piece = piece.replace(b" ", "\u2581".encode())
        tokens.append(piece)
        scores.append(score)
        types.append(kind)
    return tokens, scores, types


def weights(path):
    data = open(path, "rb").read()
    dim, hidden, layers, heads, kv_heads, vocab, context = struct.unpack("<7i", data[:28])
    tied, vocab = vocab > 0, abs(vocab)
    floats, at = np.frombuffer(data, "<f4", offset=28), 0

    def take(*shape):
        nonlocal at
        n = int(np.prod(shape))
        at += n
        return floats[at - n:at].reshape(shape)
    kv = dim // heads * kv_heads
    t = {"token_embd": take(vocab, dim)}
    for name, shape in (("attn_norm", (dim,)), ("attn_q", (dim, dim)), ("attn_k", (kv, dim)), ("attn_v", (kv, dim)),
                        ("attn_output", (dim, dim)), ("ffn_norm", (dim,)), ("ffn_gate", (hidden, dim)),
                        ("ffn_down", (dim, hidden)), ("ffn_up", (hidden, dim))):
        for layer, w in enumerate(take(layers, *shape)):
            t[f"blk.{layer}.{name}"] = w
    t["output_norm"] = take(dim)
    take(2 * context, dim // heads // 2)               # rotary tables, which nobody needs
    t["output"] = t["token_embd"] if tied else take(vocab, dim)
    return (dim, hidden, layers, heads, kv_heads, vocab, context), t


def main():
    (dim, hidden, layers, heads, kv_heads, vocab, context), tensors = weights(sys.argv[1])
    tokens, scores, types = vocabulary(sys.argv[2], vocab)
    w = gguf.GGUFWriter(sys.argv[3], "llama")
    w.add_name("stories260K")
    w.add_context_length(context * 4)
    w.add_embedding_length(dim)
    w.add_block_count(layers)
    w.add_feed_forward_length(hidden)
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_rope_dimension_count(dim // heads)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores(scores)
    w.add_token_types(types)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    for name, data in tensors.items():
        w.add_tensor(name + ".weight", np.ascontiguousarray(data, np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


main()
