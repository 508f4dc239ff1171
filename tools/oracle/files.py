"""Writers of the tiny models: GGUF as llama.cpp's converter lays it out, and Hugging Face folders."""
import json
import os

import gguf
import numpy as np

from . import families
from .families import FAMILIES, in_layer, norm_names, of, rotary_size, factor_of, turning
from .forward import full_base, layer_windows, local_base, scaling_of, usual_windows

LAYER = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.qkv_proj": "attn_qkv", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "self_attn.query_layernorm": "attn_q_norm", "self_attn.key_layernorm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down", "self_attn.dense": "attn_output",
    "ln_1": "attn_norm", "ln_2": "ffn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    "attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm",
}
TOP = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "model.final_layernorm": "output_norm",
    "lm_head": "output",
    "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
    "embeddings.word_embeddings": "token_embd", "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types", "embeddings.LayerNorm": "token_embd_norm",
}
PREFIX = ("model.layers.", "transformer.h.", "encoder.layer.")


def gguf_name(name, model_type):
    stem, dot, what = name.rpartition(".")
    for p in PREFIX:
        if stem.startswith(p):
            layer, _, part = stem[len(p):].partition(".")
            fam = FAMILIES[model_type]
            norms = dict(zip(norm_names(fam), ("attn_norm", "post_attention_norm", fam.feed_norm, "post_ffw_norm")))
            new = norms.get(part) or LAYER.get(part)
            return f"blk.{layer}.{new}.{what}"
    return TOP[stem] + "." + what


def interleave(x, heads):
    """Rows of q or k from halves (Hugging Face) to neighbouring pairs (GGUF llama)."""
    return x.reshape(heads, 2, x.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(x.shape)


def gguf_tensor(name, x, cfg):
    kind = cfg["model_type"]
    if of(cfg).pairs and not of(cfg).folder_pairs:
        if ".q_proj." in name:
            return interleave(x, in_layer(cfg["num_attention_heads"], int(name.split(".")[2])))
        if ".k_proj." in name:
            return interleave(x, in_layer(cfg["num_key_value_heads"], int(name.split(".")[2])))
    if of(cfg).gemma and name.endswith("norm.weight"):
        return (x.astype(np.float64) + 1).astype(np.float32)
    if kind == "gpt2" and x.ndim == 2 and ".h." in name:
        return np.ascontiguousarray(x.T)
    return x


def llama3_factors(cfg):
    from .forward import rope_frequencies
    hd = cfg.get("head_dim") or cfg["hidden_size"] // cfg["num_attention_heads"]
    plain, _ = rope_frequencies(hd, cfg["rope_theta"], None)
    scaled, _ = rope_frequencies(hd, cfg["rope_theta"], cfg["rope_scaling"])
    return (plain / scaled).astype(np.float32)


def write_parameters(g, cfg, vocab_kind):
    kind = cfg["model_type"]
    g.add_context_length(cfg.get("max_position_embeddings") or cfg.get("n_positions"))
    if kind == "gpt2":
        g.add_embedding_length(cfg["n_embd"])
        g.add_feed_forward_length(4 * cfg["n_embd"])
        g.add_block_count(cfg["n_layer"])
        g.add_head_count(cfg["n_head"])
        g.add_layer_norm_eps(cfg["layer_norm_epsilon"])
        return
    g.add_embedding_length(cfg["hidden_size"])
    g.add_feed_forward_length(cfg["intermediate_size"])
    g.add_block_count(cfg["num_hidden_layers"])
    g.add_head_count(cfg["num_attention_heads"])
    if kind == "bert":
        g.add_layer_norm_eps(cfg["layer_norm_eps"])
        g.add_causal_attention(False)
        g.add_pooling_type(gguf.PoolingType.MEAN)
        return
    hd = cfg.get("head_dim") or cfg["hidden_size"] // cfg["num_attention_heads"]
    g.add_head_count_kv(cfg["num_key_value_heads"])
    (g.add_layer_norm_eps if of(cfg).layer_norm else g.add_layer_norm_rms_eps)(cfg[of(cfg).eps])
    if of(cfg).beside == "said":        # llama.cpp's converter says true of those that say nothing, too
        g.add_parallel_residual(cfg.get("use_parallel_residual", True))
    if cfg.get("head_dim"):
        g.add_key_length(hd)
        g.add_value_length(hd)
    fam, theta = of(cfg), full_base(cfg)
    if kind != "gemma2" or theta != 10000.0:
        g.add_rope_freq_base(theta)
    if fam.rope_count:
        g.add_rope_dimension_count(rotary_size(cfg, hd))
        g.add_vocab_size(cfg["vocab_size"])
    windowed = layer_windows(cfg)
    if any(windowed) or (fam.windows == "every" and cfg["sliding_window"]):
        g.add_sliding_window(cfg["sliding_window"])
        if windowed != usual_windows(len(windowed), fam.every):
            g.add_sliding_window_pattern(windowed)
    if "attention" in fam.caps:
        g.add_attn_logit_softcapping(cfg["attn_logit_softcapping"] or 0.0)
        g.add_final_logit_softcapping(cfg["final_logit_softcapping"] or 0.0)
    elif fam.caps and cfg.get("final_logit_softcapping"):
        g.add_final_logit_softcapping(cfg["final_logit_softcapping"])
    if fam.own_turn and local_base(cfg) != (fam.local_base or theta):
        g.add_float32(f"{fam.arch}.rope.freq_base_swa", local_base(cfg))
    for word, key in fam.scales:
        g.add_float32(f"{fam.arch}.{key}", factor_of(cfg, word))
    turns = turning(cfg, windowed)
    if fam.turned == "fourth" and turns != [i % 4 != 3 for i in range(len(turns))]:
        g.add_array(f"{fam.arch}.attention.rope_pattern", turns)
    scaling = scaling_of(cfg)
    if scaling.get("mrope_section"):
        g.add_rope_dimension_sections((scaling["mrope_section"] + [0] * 4)[:4])
    if scaling.get("rope_type") in ("linear", "yarn"):
        yarn = scaling["rope_type"] == "yarn"
        g.add_rope_scaling_type(gguf.RopeScalingType.YARN if yarn else gguf.RopeScalingType.LINEAR)
        g.add_rope_scaling_factor(scaling["factor"])
        if yarn:
            g.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
        if fam.warms:
            g.add_rope_scaling_yarn_log_mul(scaling["mscale_all_dim"])
            g.add_attn_temperature_scale(scaling["llama_4_scaling_beta"])
    if scaling.get("rope_type") == "longrope":
        g.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)
        g.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
        g.add_rope_scaling_attn_factors(scaling["attention_factor"])


def write_gguf(path, cfg, vocab_kind, w, types=None, raw=None, arch=None, more=None):
    """types: GGUF tensor name -> type name ("F16" ...); raw: GGUF tensor name -> bytes [rows][row bytes]
    that stand in the file as they are. Everything else is F32. more: called with the writer before the
    tensors of `w` are added."""
    g = gguf.GGUFWriter(path, arch or of(cfg).arch)
    g.add_name("tiny")                  # some readers take hints from the name
    write_parameters(g, cfg, vocab_kind)
    write_vocabulary(g, cfg["vocab_size"], vocab_kind, cfg["model_type"])
    if (cfg.get("rope_scaling") or {}).get("rope_type") == "llama3":
        g.add_tensor("rope_freqs.weight", llama3_factors(cfg))
    for which in ("long", "short"):
        if (cfg.get("rope_scaling") or {}).get("long_factor"):
            g.add_tensor(f"rope_factors_{which}.weight", np.array(cfg["rope_scaling"][which + "_factor"], np.float32))
    if more:
        more(g)
    for hf, x in w.items():
        n = gguf_name(hf, cfg["model_type"])
        t = (types or {}).get(n, "F32")
        if raw and n in raw:
            g.add_tensor(n, raw[n], raw_dtype=gguf.GGMLQuantizationType[t])
        elif t == "F16":
            g.add_tensor(n, gguf_tensor(hf, x, cfg).astype(np.float16))
        elif t == "BF16":
            b = families.to_bf16(gguf_tensor(hf, x, cfg))
            g.add_tensor(n, b.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
        else:
            g.add_tensor(n, gguf_tensor(hf, x, cfg))
    g.write_header_to_file()
    g.write_kv_data_to_file()
    g.write_tensors_to_file()
    g.close()


# ---- vocabularies: small, but of the three real kinds ------------------------------------------------

def byte_letters():
    """GPT-2's printable stand-in for each byte."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    out, extra = {}, 0
    for b in range(256):
        if b in keep:
            out[b] = chr(b)
        else:
            out[b] = chr(256 + extra)
            extra += 1
    return [out[b] for b in range(256)]


PAIRS = ("h e;t he;i n;Ġ t;Ġt he;a n;Ġ a;e r;o n;o u;Ġ s;Ġ w;Ġ in;n d;Ġa nd;r e;i s;Ġ of;o f;a t;i t;e n;"
         "in g;o r;e s;e d;Ġ b;Ġ c;a l;l l;a r;Ġ f;Ġ p;Ġ m;Ġ d;Ġ h;Ġ l;s t;a s;l e;i c;r o;i on;Ġ to;t o;"
         "Ġw h;c h;o m;v e;l y;Ġ I;Ġb e;u r;Ġ n;Ġ g;o w;Ġh e;i l;a y").split(";")


def bpe(size):
    """Tokens and merges: three controls, 256 bytes, then merges until `size`."""
    tokens, merges = ["<|pad|>", "<|bos|>", "<|eos|>"] + byte_letters(), []
    waiting = [p.split(" ") for p in PAIRS]
    while len(tokens) < size:
        for p in waiting:
            if p[0] in tokens and p[1] in tokens and p[0] + p[1] not in tokens:
                break
        else:
            p = [tokens[3 + len(merges)], tokens[4 + len(merges)]]
        merges.append(p)
        tokens.append(p[0] + p[1])
    return tokens, merges


def spm(size):
    """Tokens, scores, types of a SentencePiece model with byte fallback."""
    pieces = ["▁", "e", "t", "a", "o", "i", "n", "s", "r", "h", "l", "d", "c", "u", "m", "f", "p", "g", "w",
              "y", "b", "v", "k", ".", ",", "▁t", "he", "▁the", "in", "▁a", "re", "on", "an", "er", "▁s",
              "nd", "▁w", "▁and", "ou", "▁of", "▁o", "ing", "▁in", "at", "es", "en", "or", "▁to"]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    types = [2, 3, 3] + [6] * 256
    scores = [0.0] * 259
    for i, p in enumerate(pieces[:size - 259]):
        tokens.append(p)
        types.append(1)
        scores.append(-float(i))
    while len(tokens) < size:
        tokens.append(f"[unused{len(tokens)}]")
        types.append(5)
        scores.append(0.0)
    return tokens, scores, types


def wordpiece(size):
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + list(letters) + list(".,!?'-")
    tokens += ["##" + c for c in letters]
    words = ("the of and to in is that it was for on are as with his they at be this from have or by one had "
             "not but what all were when we there can an your which their said if do will each about how up "
             "out them then she many some so these would other into has more her two like him see time could "
             "no make than first been its who now people my made over did down only way find use may water "
             "long little very after words called just where most know get through back much before go good "
             "new write our used me man too any day same right look think also around another came come work "
             "three word must because does part even place well such here take why things help put years "
             "different away again off went old number great tell men say small every found still between "
             "name should mister home big give air line set own under read last never us left end along while").split()
    tokens += words + ["##s", "##ed", "##ing", "##er", "##ly", "##ion"]
    tokens = list(dict.fromkeys(tokens))[:size]
    return tokens + [f"[unused{i}]" for i in range(len(tokens), size)]


def wordpiece_ids(text, size):
    """Ids of words and single marks, all lower case and already apart: greedy, longest first."""
    vocab = {t: i for i, t in enumerate(wordpiece(size))}
    ids = [vocab["[CLS]"]]
    for word in text.split():
        at = 0
        while at < len(word):
            n = max(n for n in range(1, len(word) - at + 1) if ("##" if at else "") + word[at:at + n] in vocab)
            ids.append(vocab[("##" if at else "") + word[at:at + n]])
            at += n
    return ids + [vocab["[SEP]"]]


def write_vocabulary(g, size, kind, model_type):
    if kind == "bpe":
        tokens, merges = bpe(size)
        g.add_tokenizer_model("gpt2")
        g.add_tokenizer_pre({"qwen2": "qwen2", "qwen3": "qwen2"}.get(model_type, "gpt-2"))
        g.add_token_list(tokens)
        g.add_token_types([3, 3, 3] + [1] * (size - 3))
        g.add_token_merges([" ".join(m) for m in merges])
        g.add_pad_token_id(0)
    elif kind == "spm":
        tokens, scores, types = spm(size)
        g.add_tokenizer_model("llama")
        g.add_tokenizer_pre("default")
        g.add_token_list(tokens)
        g.add_token_scores(scores)
        g.add_token_types(types)
        g.add_unk_token_id(0)
        g.add_add_bos_token(True)
        g.add_add_eos_token(False)
    else:
        # llama.cpp's converter turns continuation marks round: "##s" -> "s", "word" -> "▁word".
        tokens = wordpiece(size)
        special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
        turned = [t if t in special or t.startswith("[unused") else t[2:] if t.startswith("##") else "▁" + t
                  for t in tokens]
        g.add_tokenizer_model("bert")
        g.add_tokenizer_pre("default")
        g.add_token_list(turned)
        g.add_token_types([3 if t in special else 1 for t in tokens])
        g.add_token_type_count(2)
        g.add_unk_token_id(1)
        g.add_sep_token_id(3)
        g.add_pad_token_id(0)
        g.add_bos_token_id(2)
        g.add_mask_token_id(4)
        return
    g.add_bos_token_id(families.BOS)
    g.add_eos_token_id(families.EOS)


def special_token(i, text):
    return {"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True}


def tokenizer_json(size, kind):
    out = {"version": "1.0", "truncation": None, "padding": None, "normalizer": None}
    if kind == "bpe":
        tokens, merges = bpe(size)
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        out.update(added_tokens=[special_token(i, tokens[i]) for i in range(3)], pre_tokenizer=level,
                   post_processor=level, decoder=level,
                   model={"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                          "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                          "vocab": {t: i for i, t in enumerate(tokens)}, "merges": [" ".join(m) for m in merges]})
    elif kind == "spm":
        tokens, scores, _ = spm(size)
        known, merges = set(tokens), []
        pieces = (t for t in tokens[259:] if len(t) > 1 and t[0] != "[")
        for t in sorted(pieces, key=lambda t: -scores[tokens.index(t)]):
            merges += [f"{t[:i]} {t[i:]}" for i in range(1, len(t)) if t[:i] in known and t[i:] in known]
        out.update(added_tokens=[special_token(i, tokens[i]) for i in range(3)],
                   normalizer={"type": "Sequence", "normalizers": [
                       {"type": "Prepend", "prepend": "▁"},
                       {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
                   pre_tokenizer=None,
                   post_processor={"type": "TemplateProcessing",
                                   "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                                              {"Sequence": {"id": "A", "type_id": 0}}],
                                   "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                                            {"Sequence": {"id": "B", "type_id": 1}}],
                                   "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
                   decoder={"type": "Sequence", "decoders": [
                       {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                       {"type": "ByteFallback"}, {"type": "Fuse"},
                       {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
                   model={"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                          "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True,
                          "vocab": {t: i for i, t in enumerate(tokens)}, "merges": merges})
    else:
        tokens = wordpiece(size)
        out.update(added_tokens=[special_token(i, tokens[i]) for i in range(5)],
                   normalizer={"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                               "strip_accents": None, "lowercase": True},
                   pre_tokenizer={"type": "BertPreTokenizer"},
                   post_processor={"type": "TemplateProcessing",
                                   "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                                              {"Sequence": {"id": "A", "type_id": 0}},
                                              {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
                                   "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                                            {"Sequence": {"id": "B", "type_id": 1}}],
                                   "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                                                      "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
                   decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
                   model={"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                          "max_input_chars_per_word": 100, "vocab": {t: i for i, t in enumerate(tokens)}})
    return out


# ---- Hugging Face folders ----------------------------------------------------------------------------

def safetensors_bytes(tensors, dtype):
    """The format is small enough to write here: u64 header length, JSON header, data."""
    header, data, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name, x in tensors.items():
        b = {"F32": x.astype(np.float32), "F16": x.astype(np.float16), "BF16": families.to_bf16(x)}[dtype].tobytes()
        header[name] = {"dtype": dtype, "shape": list(x.shape), "data_offsets": [at, at + len(b)]}
        data.append(b)
        at += len(b)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(data)


def write_hf(folder, cfg, vocab_kind, w, layout, dtype):
    os.makedirs(folder, exist_ok=True)

    def put(name, x):
        with open(os.path.join(folder, name), "wb") as f:
            f.write(x if isinstance(x, bytes) else json.dumps(x, indent=1, ensure_ascii=False).encode())

    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    special = {} if vocab_kind == "wordpiece" else {"bos_token_id": families.BOS, "eos_token_id": families.EOS}
    put("config.json", {**cfg, **special, "torch_dtype": names[dtype]})
    put("tokenizer.json", tokenizer_json(cfg["vocab_size"], vocab_kind))
    if layout == "sharded":
        keys = list(w)
        cut = len(keys) // 2
        files = {"model-00001-of-00002.safetensors": keys[:cut], "model-00002-of-00002.safetensors": keys[cut:]}
        for file, part in files.items():
            put(file, safetensors_bytes({k: w[k] for k in part}, dtype))
        put("model.safetensors.index.json", {
            "metadata": {"total_size": sum(x.size for x in w.values()) * (4 if dtype == "F32" else 2)},
            "weight_map": {k: file for file, part in files.items() for k in part}})
    else:
        put("model.safetensors", safetensors_bytes(w, dtype))
