#!/usr/bin/env python3
"""Nothing of a file is passed over: every tensor and every key is used, known to change nothing, or refused.

    test_closure.py STRETTO faults DATA_FOLDER      files that other programs made, against float64
    test_closure.py STRETTO tensors                 tensors nobody computes with; biases that come and go
    test_closure.py STRETTO keys [FAMILY ...]       every key of GGUF's writer, planted into every family
    test_closure.py STRETTO saved SAVED_KEYS        the keys that llama.cpp's own writer puts into every file
    test_closure.py STRETTO rope                    every way to say how rotary positions are scaled
    test_closure.py STRETTO fields [FAMILY ...]     every field of transformers' configuration classes
    test_closure.py STRETTO defaults PRINT_KEYS     what is taken where a config.json is silent

What a planted key may do: change the logits; be refused by name; or nothing, when QUIET or SILENT below say
why. The lists of keys are not ours: gguf's constants and transformers' classes."""
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, os.path.join(ROOT, "tools"))
try:
    import gguf
    import numpy as np
    from oracle import families, files
    from oracle.forward import Arith, forward, layer_windows, usual_windows
except ImportError as e:
    print(f"skip: {e}; ./dev test installs what is missing")
    sys.exit(77)

# The first model of each architecture of GGUF, and of each model_type of config.json.
ARCHS = families.first_models(lambda cfg: families.of(cfg).arch)
TYPES = families.first_models(lambda cfg: cfg["model_type"])
IDS = [int(t) for t in np.random.RandomState(5).randint(3, 300, 24)]
failures = []


def check(ok, what):
    if not ok:
        failures.append(what)
        print("FAIL " + what, flush=True)


def logits(stretto, path, ids=IDS):
    """(bytes of the float32 path's answer or None, the words of a refusal)."""
    with tempfile.TemporaryDirectory() as d:
        out = os.path.join(d, "rows")
        r = subprocess.run([stretto, "eval", "logits", "-m", path, "--ids", ",".join(map(str, ids)), "--raw", out,
                            "--reference", "-t", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=600)
        if r.returncode == 0:
            with open(out, "rb") as f:
                return f.read(), ""
    check(r.returncode == 1, f"{path}: exit code {r.returncode}: {r.stderr[-300:]!r}")
    return None, r.stderr.decode(errors="replace").strip()


def expect(stretto, what, path, cfg, w, ids=IDS):
    """The float32 path lies as near to the float64 forward as float32 in three orders does (make_golden.py)."""
    truth = forward(cfg, w, ids)
    allow = 8 * max(float(np.abs(forward(cfg, w, ids, Arith(np.float32, order)) - truth).max())
                    for order in ("plain", "reversed", "chunks"))
    got, why = logits(stretto, path, ids)
    check(got is not None, f"{what}: {why}")
    if got is not None:
        off = float(np.abs(np.frombuffer(got, np.float32).reshape(truth.shape) - truth).max())
        check(off <= allow, f"{what}: off by {off:.2e}, allowed {allow:.2e}")


def refused(stretto, what, path, *words):
    got, why = logits(stretto, path)
    check(got is None, f"{what}: was not refused")
    check(got is not None or all(w in why for w in words), f"{what}: does not name {words}: {why}")


# ---- files of others ---------------------------------------------------------------------------------

def folder_weights(folder):
    """The tensors of a model.safetensors, at whatever alignment."""
    with open(os.path.join(folder, "model.safetensors"), "rb") as f:
        data = f.read()
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + n])
    types = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
    return {k: np.frombuffer(data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]],
                             types[v["dtype"]]).reshape(v["shape"]).astype(np.float32)
            for k, v in header.items() if k != "__metadata__"}


def folder_config(folder):
    with open(os.path.join(folder, "config.json")) as f:
        return json.load(f)


def gguf_weights(path):
    """The tensors of a llama GGUF under Hugging Face names, q and k turned back to halves."""
    r = gguf.GGUFReader(path)
    number = {k: v.contents() for k, v in r.fields.items() if not k.startswith(("GGUF.", "general."))}
    heads = {"attn_q": number["llama.attention.head_count"], "attn_k": number["llama.attention.head_count_kv"]}
    back = {v: k for k, v in files.LAYER.items() if k.endswith(("q_proj", "k_proj", "v_proj", "o_proj", "mlp.up_proj",
                                                                "gate_proj", "down_proj", "input_layernorm"))}
    back["ffn_norm"] = "post_attention_layernorm"
    top = {v: k for k, v in files.TOP.items() if k.startswith(("model.", "lm_head")) and "final_layernorm" not in k}
    w = {}
    for t in r.tensors:
        stem, _, what = t.name.rpartition(".")
        x = np.array(t.data, np.float32)
        if stem.startswith("blk."):
            layer, part = stem[4:].split(".")
            if part in heads:
                x = x.reshape(heads[part], -1, 2, x.shape[1]).swapaxes(1, 2).reshape(x.shape)
            w[f"model.layers.{layer}.{back[part]}.{what}"] = x
        else:
            w[f"{top[stem]}.{what}"] = x
    cfg = families.llama(vocab_size=len(w["lm_head.weight"]), hidden_size=number["llama.embedding_length"],
                         num_hidden_layers=number["llama.block_count"], num_attention_heads=heads["attn_q"],
                         num_key_value_heads=heads["attn_k"], rms_norm_eps=number[
                             "llama.attention.layer_norm_rms_epsilon"], rope_theta=number["llama.rope.freq_base"])
    return cfg, w


def faults(stretto, data):
    folder = os.path.join(data, "faults")
    if not os.path.isdir(folder):
        print(f"skip: {folder} is not there")
        sys.exit(77)

    def at(name):
        return os.path.join(folder, name)

    for name, more in (("llama_bias_folder", {}), ("unaligned_safetensors", {}),
                       # Gemma2Config's defaults
                       ("gemma2_no_softcaps", dict(attn_logit_softcapping=50.0, final_logit_softcapping=30.0,
                                                   query_pre_attn_scalar=256, rope_theta=10000.0))):
        expect(stretto, name, at(name), {**folder_config(at(name)), **more}, folder_weights(at(name)), list(range(40)))
    w = folder_weights(at("tied_lm_head_only"))
    w["model.embed_tokens.weight"] = w["lm_head.weight"]
    expect(stretto, "tied_lm_head_only", at("tied_lm_head_only"), folder_config(at("tied_lm_head_only")), w,
           list(range(40)))
    refused(stretto, "extra_tensor.gguf", at("extra_tensor.gguf"), "blk.0.attn_q_norm.weight")
    cfg, w = gguf_weights(at("rope_scale_linear.gguf"))
    expect(stretto, "rope_scale_linear.gguf", at("rope_scale_linear.gguf"),
           {**cfg, "rope_scaling": dict(rope_type="linear", factor=4.0)}, w, list(range(60)))


# ---- tensors -----------------------------------------------------------------------------------------

def model(family):
    cfg, vocab, _, _ = families.MODELS[family]
    return cfg, vocab, families.weights(family, cfg)


def tensors(stretto):
    with tempfile.TemporaryDirectory() as d:
        for family in TYPES:
            cfg, vocab, w = model(family)
            path = os.path.join(d, family + ".gguf")

            def planted(what, name, x, *words, drop=None):
                kept = {n: v for n, v in w.items() if n != drop}
                files.write_gguf(path, cfg, vocab, kept, more=lambda g: name and g.add_tensor(name, x))
                refused(stretto, f"{family}: {what}", path, *words)

            one = np.ones(8, np.float32)
            for name in ("blk.1.attn_sinks.weight", "blk.0.attn_q.scale", "made_up.weight", "cls.weight"):
                planted(f"with {name}", name, one, name)
            biased = families.of(cfg).own or families.biases(cfg)[1]
            planted("with a bias in one layer only", "blk.7.attn_output.bias" if biased else "blk.0.attn_output.bias",
                    np.ones(64, np.float32), "attn_output.bias")
            always = [n for n in w if n.endswith(".bias") and ".1." in n]
            if always:
                planted("without a bias that all members have", None, None, ".bias", drop=always[-1])
            hf = os.path.join(d, family)
            extra = next(n for n in w if ".1." in n).rsplit(".", 2)[0]
            files.write_hf(hf, cfg, vocab, {**w, extra + ".sinks.weight": one}, "single", "F32")
            refused(stretto, f"{family} folder with an unknown tensor", hf, "sinks")
        layers(stretto, d)
        fused(stretto, d)
        biases_and_words(stretto, d)
        heads(stretto, d)
        converted(stretto, d)


def converted(stretto, d):
    """A folder, the GGUF file that `convert` makes of it and the one that files.py writes: the same bits.
    (llama's GGUF files have q and k in another order, so its folders add up the same terms in another.)"""
    for name in [n for n in families.MODELS if n.endswith(("-biased", "-window", "-layers", "-pattern", "-scalar"))] \
            + TYPES:
        cfg, vocab, w = model(name)
        folder, ours, theirs = (os.path.join(d, name + end) for end in ("-folder", "-ours.gguf", "-theirs.gguf"))
        files.write_hf(folder, cfg, vocab, w, "single", "F32")
        files.write_gguf(theirs, cfg, vocab, w)
        r = subprocess.run([stretto, "convert", folder, ours, "--type", "f32"], check=True, stderr=subprocess.PIPE)
        fam = families.of(cfg)
        own = cfg["query_pre_attn_scalar"] != cfg["head_dim"] if fam.gemma else \
            bool((fam.windows and not fam.every and cfg.get("sliding_window")) or cfg.get("no_rope_layers"))
        check((b"may pass over it" in r.stderr) == own, f"{name}: a word about others: {r.stderr}")
        a, b, c = (logits(stretto, p) for p in (folder, ours, theirs))
        # The published layout has no word for the scale of queries, so files.py writes none.
        check(b[0] is not None and (b[0] == c[0] or name == "gemma2-scalar"),
              f"{name}: converted and written differ {b[1]} {c[1]}")
        if not fam.pairs or fam.folder_pairs:
            check(a[0] == b[0], f"{name}: folder and converted differ {a[1]}")


def layers(stretto, d):
    """Sizes said for each layer: what cannot be is refused by its key (what can is golden.families' to compare)."""
    cfg, vocab, w = model("llama")
    path = os.path.join(d, "layers.gguf")
    for key, value, word in (("feed_forward_length", [160, 96], "has 2 elements; expected one for each of 3 layers"),
                             ("feed_forward_length", [160, -1, 96], "is -1 in layer 1"),
                             ("attention.head_count", [4, 0, 4], "is 0 in layer 1; expected 1 to"),
                             ("attention.head_count", [4, 3, 4], "3 heads cannot share 2"),
                             ("attention.head_count", [4, 8, 4], "blk.1.attn_q.weight"),
                             ("attention.head_count_kv", [2, 1, 2], "blk.1.attn_k.weight"),
                             ("attention.key_length", [16, 8, 16], "key_length differs between layers"),
                             ("attention.sliding_window", [5, 9, 7], "sliding_window differs between layers")):
        def plant(g):
            t = gguf.GGUFValueType
            g.kv_data[0]["llama." + key] = gguf.GGUFValue(value, t.ARRAY, t.INT32)

        files.write_gguf(path, cfg, vocab, w, more=plant)
        refused(stretto, f"{key} {value}", path, word)


def fused(stretto, d):
    """A GGUF file of any family may hold q, k and v in one tensor, and gate and up: the same bits as apart."""
    for name in ("qwen2", "olmo2", "gemma3"):
        cfg, vocab, w = model(name)
        apart, whole = os.path.join(d, "apart.gguf"), os.path.join(d, "whole.gguf")
        files.write_gguf(apart, cfg, vocab, w)
        joined = {}
        for n, x in w.items():
            for part, to in (("self_attn.q_proj", "self_attn.qkv_proj"), ("self_attn.k_proj", "self_attn.qkv_proj"),
                             ("self_attn.v_proj", "self_attn.qkv_proj"), ("mlp.gate_proj", "mlp.gate_up_proj"),
                             ("mlp.up_proj", "mlp.gate_up_proj")):
                n = n.replace(part, to)
            joined.setdefault(n, []).append(x)
        files.write_gguf(whole, cfg, vocab, {n: np.concatenate(x) if len(x) > 1 else x[0] for n, x in joined.items()})
        a, b = logits(stretto, apart), logits(stretto, whole)
        check(a[0] is not None and a[0] == b[0], f"{name}: q, k, v in one tensor: {b[1] or 'other logits'}")


def biases_and_words(stretto, d):
    """config.json and the weights must not contradict each other about biases."""
    told = [(n, word) for n in TYPES for word in set(filter(None, families.of(model(n)[0]).bias_words))
            if not families.of(model(n)[0]).own and not families.of(model(n)[0]).qkv_bias]
    for name, key in told:
        if key == "mlp_bias" and families.of(model(name)[0]).fused:
            continue                    # gpt-2's kind of word, which no class of these reads
        cfg, vocab, w = model(name)
        w = {n: x for n, x in w.items() if not n.endswith(".bias")}
        path = os.path.join(d, f"{name}-{key}")
        files.write_hf(path, {**cfg, key: True}, vocab, w, "single", "F32")
        refused(stretto, f"{name} with {key} but no biases", path, key)


def heads(stretto, d):
    """Tied or not, one head or two: what transformers makes of each."""
    cfg, vocab, w = model("llama-tied")
    other = families.draw(np.random.RandomState(1), w["model.embed_tokens.weight"].shape, "matrix")
    same = w["model.embed_tokens.weight"]
    for what, head, kept in (("both the same", same, w), ("two that differ", other, w),
                             ("the head alone", same, {n: x for n, x in w.items() if "embed_tokens" not in n})):
        path = os.path.join(d, "tied " + what)
        files.write_hf(path, cfg, vocab, {**kept, "lm_head.weight": head}, "single", "F32")
        expect(stretto, f"tied, {what}", path, cfg, {**w, "lm_head.weight": head})
        out = path + ".gguf"
        subprocess.run([stretto, "convert", "-q", path, out, "--type", "f32"], check=True)
        expect(stretto, f"tied, {what}, converted", out, cfg, {**w, "lm_head.weight": head})


# ---- keys of GGUF ------------------------------------------------------------------------------------

# Keys that a planted value does not move, and why.
QUIET = {
    "context_length": "a limit; the tests stay below it",
    "vocab_size": "the shape of the embedding says it",
    "tensor_data_layout": "says where a converter found the weights",
    "pooling_type": "whoever pools asks for it",
    "attention.layer_norm_epsilon": "of the kind of norm the family does not have",
    "attention.layer_norm_rms_epsilon": "of the kind of norm the family does not have",
    "attn_logit_softcapping": "the family has no such cap (llama.cpp's saver writes 50 and 30 into all files)",
    "final_logit_softcapping": "the family has no such cap",
    "router_logit_softcapping": "there is no router",
    "rope.scaling.finetuned": "says how the scaling came about",
    "rope.scaling.original_context_length": "of yarn and llama3 only",
    "rope.scaling.yarn_ext_factor": "of yarn only",
    "rope.scaling.yarn_beta_fast": "of yarn only",
    "rope.scaling.yarn_beta_slow": "of yarn only",
    "attention.sliding_window_pattern": "there is no window",
    "rope.freq_base_swa": "no layer sees a window",
    "leading_dense_block_count": "there are no experts", "interleave_moe_layer_step": "there are no experts",
    "moe_every_n_layers": "there are no experts", "moe_latent_size": "there are no experts",
    "decoder_start_token_id": "there is no decoder", "token_shift_count": "there is no time mixing",
    "deepstack_mapping": "there are no such layers",
    "classifier.output_labels": "a head is refused by its tensors",
    "classifier.pooling_type": "a head is refused by its tensors",
    "kda.gate_lower_bound": "there are no such heads",
    "attention.indexer.kpool_select_tail": "there is no indexer",
    "rope.scaling.type": "the word planted asks for none",
}
# Keys that must move the logits of these models; no other may.
SCALES = {"attention.scale", "attention.query_pre_attn_scalar"}
TURNED = SCALES | {"attention.layer_norm_rms_epsilon", "attention.sliding_window", "rope.freq_base",
                   "rope.dimension_count", "rope.scaling.factor", "rope.scale_linear", "rope.scaling.attn_factor"}
LEARNED = SCALES | {"attention.layer_norm_epsilon"}



def is_yarn(cfg):
    return (cfg.get("rope_scaling") or {}).get("rope_type") == "yarn"


def moves(cfg):
    """The keys that a model must obey."""
    fam = families.of(cfg)
    if fam.own:
        return LEARNED
    scales = {key for _, key in fam.scales}
    caps = {"attention": "attn_logit_softcapping", "logits": "final_logit_softcapping"}
    found = TURNED | {caps[x] for x in fam.caps} | scales
    if fam.warms or fam.sections or (cfg.get("rope_scaling") or {}).get("long_factor"):
        found = found - {"rope.dimension_count"}                # which something else must fit
    if fam.warms:
        found |= {"attention.temperature_scale", "rope.scaling.yarn_log_multiplier"}
    if fam.layer_norm:
        found = found - {"attention.layer_norm_rms_epsilon"} | {"attention.layer_norm_epsilon"}
    if "attention.scale" in scales:
        found = found - {"attention.query_pre_attn_scalar"} | {"rope.scaling.finetuned"}
    windows = layer_windows(cfg)
    if any(windows):
        found |= {"attention.sliding_window_pattern"} | ({"rope.freq_base_swa"} if fam.own_turn else set())
    if is_yarn(cfg):
        found = found - {"rope.scale_linear"} | {"rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow",
                                                 "rope.scaling.type", "rope.scaling.original_context_length"}
    return found


U32, F32, BOOL, STR = (gguf.GGUFValueType.UINT32, gguf.GGUFValueType.FLOAT32, gguf.GGUFValueType.BOOL,
                       gguf.GGUFValueType.STRING)
# What to plant where "3" would only be refused for its kind or size.
PLANT = {
    "rope.freq_base": (777.0, F32), "rope.freq_base_swa": (333.0, F32), "rope.scaling.factor": (2.5, F32),
    "rope.scale_linear": (2.5, F32), "rope.scaling.attn_factor": (1.5, F32), "rope.dimension_count": (4, U32),
    "attention.layer_norm_epsilon": (0.07, F32), "attention.layer_norm_rms_epsilon": (0.07, F32),
    "attn_logit_softcapping": (2.5, F32), "final_logit_softcapping": (2.5, F32), "attention.scale": (0.31, F32),
    "attention.query_pre_attn_scalar": (11.0, F32), "attention.sliding_window": (5, U32),
    "attention.sliding_window_pattern": (3, U32), "context_length": (128, U32), "rope.scaling.type": ("none", STR),
    "attention.causal": (None, BOOL), "rope.scaling.finetuned": (False, BOOL),
    "embedding_scale": (1.7, F32), "residual_scale": (1.7, F32), "logit_scale": (1.7, F32),
}
PLANT.update({"rope.scaling.yarn_beta_fast": (1.0, F32), "rope.scaling.yarn_beta_slow": (3.0, F32),
              "rope.scaling.original_context_length": (17, U32), "block_count": (2, U32),
              "embedding_length": (32, U32)})
MADE_UP = ("made_up", "attention.made_up", "rope.scaling.made_up", "ssm.made_up", "embedding_length_made_up")


def all_keys():
    """Every "{arch}.…" that gguf's writer knows, without the architecture, and some that nobody knows."""
    found = set(MADE_UP) | {"attention.query_pre_attn_scalar", "rope.scale_linear"}
    for group in vars(gguf.constants.Keys).values():
        for v in vars(group).values() if isinstance(group, type) else ():
            if isinstance(v, str) and v.startswith("{arch}."):
                found.add(v[len("{arch}."):])
    return sorted(k for k in found if "{" not in k)


def why_quiet(cfg, key):
    if key.startswith(("expert", "moe")):
        return "there are no experts"
    if families.of(cfg).own and key.startswith("rope."):
        return "positions are learned"
    fam = families.of(cfg)
    if fam.beside and key == "use_parallel_residual":
        return "the tensors say it"
    if fam.sections and key == "n_deepstack_layers":
        return "added to rows of images"
    if "attention_multiplier" in dict(fam.scales) and key == "attention.query_pre_attn_scalar":
        return "the file says the scale itself"
    return "the newer key wins" if is_yarn(cfg) and key == "rope.scale_linear" else QUIET.get(key)


def keys_of(stretto, family, d):
    cfg, vocab, w = model(family)
    arch, path, moved, refusals = families.of(cfg).arch, os.path.join(d, "model.gguf"), set(), 0
    files.write_gguf(path, cfg, vocab, w)
    before, why = logits(stretto, path)
    check(before is not None, f"{family}: {why}")
    for key in all_keys():
        value, kind = PLANT.get(key, (3, U32))
        if value is None:
            value = family == "bert"
        full = f"{arch}.{key}"

        def plant(g):
            g.kv_data[0][full] = gguf.GGUFValue(value, kind)

        files.write_gguf(path, cfg, vocab, w, more=plant)
        after, why = logits(stretto, path)
        what = f"{family}: {full} = {value}"
        if after is None:
            # Sizes are refused by the tensor or the other size that they do not fit.
            sizes = key in ("block_count", "rope.dimension_count") or "head_count" in key or "_length" in key
            refusals += 1
            check(full in why or (sizes and any(x in why for x in ("tensor", "token_embd", "heads", "rotary"))),
                  f"{what} is refused without its name: {why}")
        elif after != before:
            moved.add(key)
        else:
            check(why_quiet(cfg, key), f"{what} changes nothing and is not refused")
    check(moved == moves(cfg), f"{family}: the logits are moved by {sorted(moved ^ moves(cfg))}, or are not")
    check(all(x not in moved for x in MADE_UP), f"{family}: a key that nobody knows")
    print(f"{family}: {len(moved)} moved, {refusals} refused", flush=True)


def keys(stretto, names):
    other = [n for n in TYPES if n not in ARCHS and families.of(model(n)[0]).every] + ["llama-yarn", "phi3-long"]
    for family in names or ARCHS + other:
        with tempfile.TemporaryDirectory() as d:
            keys_of(stretto, family, d)


def saved(stretto, path):
    """The keys of tests/data/llama_cpp_saved.json: what llama_model_save_to_file of llama-cpp-python 0.3.36
    wrote when it had loaded the golden model of each family. Only the tensors and the words are left out."""
    with open(path) as f:
        rows = json.load(f)
    with tempfile.TemporaryDirectory() as d:
        for family in (n for n in ARCHS if n in rows):
            cfg, vocab, w = model(family)
            arch, before = families.of(cfg).arch, os.path.join(d, "before.gguf")
            files.write_gguf(before, cfg, vocab, w)

            def plant(g):
                for key, (kind, value) in {**rows["all"], **rows[family]}.items():
                    t = gguf.GGUFValueType
                    if value == []:                     # gguf's writer has no empty arrays
                        continue
                    g.kv_data[0][f"{arch}.{key}"] = gguf.GGUFValue(value, t.ARRAY, t[kind]) \
                        if isinstance(value, list) else gguf.GGUFValue(value, t[kind])

            after = os.path.join(d, "after.gguf")
            files.write_gguf(after, cfg, vocab, w, more=plant)
            a, b = logits(stretto, before), logits(stretto, after)
            check(a[0] is not None and a[0] == b[0], f"{family}: as llama.cpp saves it: {b[1] or 'other logits'}")

            def for_each_layer(g):
                t = gguf.GGUFValueType
                for key in ("feed_forward_length", "attention.head_count", "attention.head_count_kv"):
                    value = rows[family].get(key, rows["all"].get(key))[1]
                    g.kv_data[0][f"{arch}.{key}"] = gguf.GGUFValue([value] * rows[family]["block_count"][1], t.ARRAY,
                                                                   t.UINT32)

            files.write_gguf(after, cfg, vocab, w, more=for_each_layer)
            b = logits(stretto, after)
            check(a[0] == b[0], f"{family}: sizes said for each layer: {b[1] or 'other logits'}")


# ---- rotary positions --------------------------------------------------------------------------------

DIVISORS = np.linspace(1, 5, 8).astype(np.float32)
OLD = {"rope.scaling.original_context_length": (32, U32)}
# keys, whether rope_freqs.weight is there, and what the float64 forward takes for it
ROPES = (
    ({"rope.scale_linear": (4.0, F32)}, False, {"rope_type": "linear", "factor": 4.0}),
    ({"rope.scaling.factor": (4.0, F32)}, False, {"rope_type": "linear", "factor": 4.0}),
    ({"rope.scaling.factor": (3.0, F32), "rope.scale_linear": (4.0, F32)}, False,
     {"rope_type": "linear", "factor": 3.0}),
    ({"rope.scaling.factor": (0.0, F32), "rope.scale_linear": (4.0, F32)}, False, {}),
    ({"rope.scaling.factor": (3.0, F32), "rope.scaling.type": ("none", STR)}, False, {}),
    ({"rope.scaling.type": ("linear", STR)}, False, {}),
    ({"rope.scaling.attn_factor": (1.4, F32)}, False, {"length": 1.4}),
    ({"rope.scaling.factor": (3.0, F32), "rope.scaling.attn_factor": (1.4, F32)}, False,
     {"rope_type": "linear", "factor": 3.0, "length": 1.4}),
    ({}, True, {"divide": DIVISORS}),
    ({"rope.scaling.factor": (3.0, F32)}, True, {"rope_type": "linear", "factor": 3.0, "divide": DIVISORS}),
    ({"rope.scaling.factor": (3.0, F32), "rope.scaling.type": ("yarn", STR), **OLD}, True,
     {"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 32, "divide": DIVISORS}),
    ({"rope.scale_linear": (3.0, F32), "rope.scaling.type": ("yarn", STR), **OLD}, False,
     {"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 32}),
    ({"rope.scaling.factor": (3.0, F32), "rope.scaling.type": ("yarn", STR), "rope.scaling.attn_factor": (1.4, F32),
      **OLD}, False, {"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 32, "length": 1.4}),
)


def llama_cpp():
    """llama.cpp as the property tests find it, or None: then float64 is the only truth."""
    sys.path.insert(0, os.path.join(ROOT, "tests", "property"))
    try:
        import llama_cpp as peer
        place = peer.find()
        return place and peer.LlamaCpp(place)
    except ImportError:
        return None


def rope(stretto):
    peer, ids = llama_cpp(), (IDS * 4)[:80]
    print("compared with float64" + (" and llama.cpp" if peer else "; llama.cpp is not built (./dev peers --get)"))
    cfg, vocab, w = model("llama")
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "model.gguf")
        for more, divided, scaling in ROPES:
            def plant(g):
                for key, (value, kind) in more.items():
                    g.kv_data[0]["llama." + key] = gguf.GGUFValue(value, kind)
                if divided:
                    g.add_tensor("rope_freqs.weight", DIVISORS)

            files.write_gguf(path, cfg, vocab, w, more=plant)
            what = f"{ {k: v for k, (v, _) in more.items()} }" + " with rope_freqs.weight" * divided
            expect(stretto, what, path, {**cfg, "rope_scaling": scaling}, w, ids)
            if peer:
                got, _ = logits(stretto, path, ids)
                theirs = peer.logits(path, ids)
                off = np.abs(np.frombuffer(got, np.float32).reshape(theirs.shape) - theirs).max()
                check(off < 2e-4, f"{what}: {off:.1e} from llama.cpp")


# ---- config.json -------------------------------------------------------------------------------------

def config_classes():
    try:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        from transformers import CONFIG_MAPPING
        return CONFIG_MAPPING
    except ImportError as e:
        print(f"skip: {e}; ./dev test installs what is missing")
        sys.exit(77)


# Fields that do not move the answer, and why.
SILENT = {}
for why, names in {
        "a note about the file": "transformers_version architectures dtype problem_type id2label label2id",
        "what a call returns": "output_hidden_states return_dict use_cache",
        "training only": "residual_dropout initializer_range attention_dropout resid_pdrop embd_pdrop attn_pdrop "
                         "hidden_dropout_prob embedding_dropout hidden_dropout "
                         "attention_probs_dropout_prob classifier_dropout",
        "a head that is not run": "summary_type summary_use_proj summary_activation summary_proj_to_labels "
                                  "summary_first_dropout",
        "the tokenizer's": "eod_token_id pad_token_id bos_token_id eos_token_id",
        "same numbers in another order": "pretraining_tp chunk_size_feed_forward reorder_and_upcast_attn",
        "the shape of the embedding says it": "vocab_size type_vocab_size",
        "a limit; the tests stay below it": "max_position_embeddings n_positions",
        "of longrope": "original_max_position_embeddings",
        "a head of its own is used where the file has one": "tie_word_embeddings"}.items():
    SILENT.update(dict.fromkeys(names.split(), why))
ODD = {"hidden_act": "relu", "hidden_activation": "relu", "activation_function": "relu", "rms_norm_eps": 0.07,
       "layer_norm_eps": 0.07, "layer_norm_epsilon": 0.07, "norm_epsilon": 0.07, "sliding_window": 5,
       "query_pre_attn_scalar": 11,
       "attn_logit_softcapping": 2.5, "final_logit_softcapping": 2.5, "rope_theta": 777.0,
       "rope_local_base_freq": 333.0, "sliding_window_pattern": 2, "partial_rotary_factor": 0.5,
       "rope_scaling": {"type": "linear", "factor": 2.5}, "layer_types": "turned", "rope_parameters": "own",
       "use_sliding_window": False, "max_window_layers": 2, "head_dim": 8, "dtype": "float16",
       "scale_attn_weights": False, "no_rope_layers": [0, 1, 1, 1, 1]}
# Fields that a file may have without the class naming them: converters and older versions wrote them.
OLDER = {"rope_theta", "rope_scaling", "partial_rotary_factor"}


def warm_of(fam):
    return {"llama_4_scaling_beta": 0.7, "original_max_position_embeddings": 9} if fam.warms else {}


def planted_value(cls, field, cfg):
    v, fam = ODD.get(field), families.of(cfg)
    if field in fam.bias_words:
        return not cfg.get(field)
    if field == "rope_scaling":
        return {**v, **warm_of(fam)}
    if field == "use_sliding_window" and fam.windows != "above":
        return True
    if field == "partial_rotary_factor":
        return fam.share / 2
    if field == "num_key_value_heads":
        return 3 - min(2, cfg[field])
    if v == "turned":
        return ["full_attention", "sliding_attention"] * (cfg["num_hidden_layers"] // 2) \
            + ["full_attention"] * (cfg["num_hidden_layers"] % 2)
    if v == "own":
        new = {"rope_type": "linear", "factor": 2.5, "rope_theta": 777.0, **warm_of(fam)}
        kinds = {"full_attention": new, "sliding_attention": {"rope_theta": 99.0}}
        return kinds if families.of(cfg).own_turn and families.of(cfg).windows else new
    if v is not None:
        return v
    default = getattr(cls(), field, None)
    return (not default) if isinstance(default, bool) else default + 3 if isinstance(default, (int, float)) else "odd" \
        if isinstance(default, str) else 3


def fields_of(stretto, family, d, cls):
    import dataclasses
    cfg, vocab, w = model(family)
    fam = families.of(cfg)
    if fam.windows == "above":
        cfg = {**cfg, "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}
    names = {f.name for f in dataclasses.fields(cls)}
    if "rope_parameters" in names:
        names |= OLDER | set(fam.older)
    path = os.path.join(d, "folder")
    files.write_hf(path, cfg, vocab, w, "single", "F32")
    before, why = logits(stretto, path)
    check(before is not None, f"{family}: {why}")
    moved, refusals = set(), set()
    for field in sorted(names):
        value = planted_value(cls, field, cfg)
        new = {**cfg, "bos_token_id": 1, "eos_token_id": 2, field: value}
        if field == "rope_parameters":
            new = {k: v for k, v in new.items() if k not in ("rope_theta", "rope_local_base_freq", "rope_scaling")}
        with open(os.path.join(path, "config.json"), "w") as f:
            json.dump(new, f)
        after, why = logits(stretto, path)
        what = f"{family}: \"{field}\": {value}"
        if after is None:
            refusals.add(field)
            sizes = "_size" in field or field.startswith(("num_", "n_", "head_dim", "max_position"))
            check(f'"{field}"' in why or field in why or f"activation \"{value}" in why
                  or (sizes and any(x in why for x in ("tensor", "_embd", "heads", "rotary", "layers", "key_length",
                                                              "head_dim", "rope.dimension_count"))),
                  f"{what} is refused without its name: {why}")
        elif after != before:
            moved.add(field)
        else:
            used = field in fam.bias_words and not value        # a bias counts where the file has it
            unused = field == "sliding_window" and not fam.windows
            check(field in SILENT or used or unused, f"{what} changes nothing and is not refused")
    want = {fam.eps, "rope_scaling", "rope_parameters"} & names | set(fam.moves)
    want |= {"rope_theta"} & names if not fam.own_turn else set()
    want |= {"sliding_window"} if fam.windows else set()
    want |= {"layer_types"} if fam.windows in ("above", "every") else set()
    want |= {"use_sliding_window", "max_window_layers"} if fam.windows == "above" else set()
    want |= {"query_pre_attn_scalar"} if fam.gemma else set()
    want |= {"attn_logit_softcapping"} if "attention" in fam.caps else set()
    want |= {"final_logit_softcapping"} if fam.caps else set()
    want |= {"partial_rotary_factor"} if fam.part else set()
    want |= {word for word, _ in fam.scales}
    check(want <= moved, f"{family}: {sorted(want - moved)} do not move the logits")
    print(f"{family}: moved by {', '.join(sorted(moved))}; refused: {', '.join(sorted(refusals))}", flush=True)


def fields(stretto, names):
    classes = config_classes()
    for family in names or TYPES:
        with tempfile.TemporaryDirectory() as d:
            fields_of(stretto, family, d, classes[families.MODELS[family][0]["model_type"]])


# ---- defaults ----------------------------------------------------------------------------------------

def wanted_keys(c):
    """What the program must take for a config of transformers, in GGUF's words."""
    kind = c.model_type
    out = {"block_count": c.num_hidden_layers, "embedding_length": c.hidden_size,
           "context_length": c.max_position_embeddings, "attention.head_count": c.num_attention_heads}
    if kind == "gpt2":
        return {**out, "feed_forward_length": c.n_inner or 4 * c.n_embd,
                "attention.layer_norm_epsilon": c.layer_norm_epsilon}
    out["feed_forward_length"] = c.intermediate_size
    if kind == "bert":
        return {**out, "attention.layer_norm_epsilon": c.layer_norm_eps}
    rope = c.rope_parameters
    head = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    full, fam = rope.get("full_attention", rope), families.FAMILIES[kind]
    base = full["rope_theta"] * (full["alpha"] ** (head / (head - 2)) if fam.alpha and full.get("alpha") else 1)
    out.update({"attention.head_count_kv": c.num_key_value_heads, "attention.key_length": head,
                "attention.value_length": head,
                f"attention.layer_norm_{'' if fam.layer_norm else 'rms_'}epsilon": getattr(c, fam.eps),
                "rope.freq_base": base,
                "rope.dimension_count": int(head * (full.get("partial_rotary_factor") or 1))})
    out.update({key: getattr(c, word) for word, key in fam.scales})
    if full.get("mrope_section"):
        out["rope.dimension_sections"] = full["mrope_section"] + [0]
    if fam.turned == "fourth" and c.no_rope_layers != [int(i % 4 != 3) for i in range(c.num_hidden_layers)]:
        out["attention.rope_pattern"] = c.no_rope_layers
    window = getattr(c, "sliding_window", None)
    layers = [t == "sliding_attention" for t in c.layer_types] if getattr(c, "layer_types", None) else \
        [bool(fam.windows) and window is not None] * c.num_hidden_layers
    if any(layers):
        out["attention.sliding_window"] = window
        if layers != usual_windows(len(layers), fam.every):
            out["attention.sliding_window_pattern"] = [int(x) for x in layers]
    if fam.gemma:
        out["attention.query_pre_attn_scalar"] = c.query_pre_attn_scalar
        for key in ("attn_logit_softcapping", "final_logit_softcapping"):
            if getattr(c, key) is not None:
                out[key] = getattr(c, key)
            elif "attention" in fam.caps:
                out[key] = 0
    if "sliding_attention" in rope:
        out["rope.freq_base_swa"] = rope["sliding_attention"]["rope_theta"]
    if full["rope_type"] == "linear":
        out.update({"rope.scaling.type": "linear", "rope.scaling.factor": full["factor"]})
    if full["rope_type"] in ("yarn", "llama3"):
        out.update({"rope.scaling.type": full["rope_type"], "rope.scaling.factor": full["factor"],
                    "rope.scaling.original_context_length": full["original_max_position_embeddings"]})
    if full["rope_type"] == "longrope":
        out.update({"rope.scaling.type": "longrope",
                    "rope.scaling.original_context_length": full["original_max_position_embeddings"]})
    if fam.warms:
        out["attention.temperature_scale"] = full["llama_4_scaling_beta"]
    if full["rope_type"] == "yarn":
        out.update({"rope.scaling.yarn_beta_fast": full.get("beta_fast") or 32,
                    "rope.scaling.yarn_beta_slow": full.get("beta_slow") or 1})
    if full["rope_type"] == "llama3":
        out.update({"rope.scaling.low_freq_factor": full["low_freq_factor"],
                    "rope.scaling.high_freq_factor": full["high_freq_factor"]})
    return out


def defaults(stretto, print_keys):
    classes, skip = config_classes(), ("general.", "tokenizer.")
    same = {"attention.causal", "vocab_size", "pooling_type", "attention.head_count_kv", "rope.scaling.attn_factor"}
    with tempfile.TemporaryDirectory() as d:
        with open(os.path.join(d, "tokenizer.json"), "w") as f:
            f.write("{}")
        for kind, family in families.FAMILIES.items():
            for row in family.configs:
                what = f"{kind} {json.dumps(row)}"
                with open(os.path.join(d, "config.json"), "w") as f:
                    json.dump({"model_type": kind, **row}, f)
                r = subprocess.run([print_keys, d], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                check(r.returncode == 0, f"{what}: {r.stderr}")
                got = dict(line.split(" ", 1) for line in r.stdout.splitlines() if not line.startswith(skip))
                got = {k.split(".", 1)[1]: v for k, v in got.items()}
                want = wanted_keys(classes[kind](**json.loads(json.dumps(row))))
                for key in sorted(want.keys() | (got.keys() - same)):
                    check(key in want and key in got and equal(got[key], want[key]),
                          f"{what}: {key} is {got.get(key)}, transformers takes {want.get(key)}")
        ties(stretto, d, classes)


def equal(text, value):
    if isinstance(value, list):
        return text == "[" + " ".join(map(str, value)) + "]"
    return text == value if isinstance(value, str) else abs(float(text) - value) <= 1e-6 * abs(value)


def ties(stretto, d, classes):
    """A folder without a head and without a word about tying: the class decides."""
    for family in TYPES:
        cfg, vocab, w = model(family)
        if cfg["model_type"] == "bert":         # which has no head
            continue
        cfg = {k: v for k, v in cfg.items() if k != "tie_word_embeddings"}
        path = os.path.join(d, family)
        files.write_hf(path, cfg, vocab, {n: x for n, x in w.items() if n != "lm_head.weight"}, "single", "F32")
        got, why = logits(stretto, path)
        # Of a model that also sees the whole's class says it.
        tied = classes[families.of(cfg).outer or cfg["model_type"]]().tie_word_embeddings
        check((got is not None) == tied, f"{family}: the class says tied is {tied}: {why}")


def main():
    stretto, part, rest = sys.argv[1], sys.argv[2], sys.argv[3:]
    if part == "faults":
        faults(stretto, rest[0])
    elif part == "tensors":
        tensors(stretto)
    elif part == "keys":
        keys(stretto, rest)
    elif part == "saved":
        saved(stretto, rest[0])
    elif part == "rope":
        rope(stretto)
    elif part == "fields":
        fields(stretto, rest)
    elif part == "defaults":
        defaults(stretto, rest[0])
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
