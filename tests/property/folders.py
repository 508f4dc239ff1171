"""Random Hugging Face folders: families x optional keys x biases x rope forms x ways of storing, all from a seed.

A key that is left out has the default of the family's configuration class, so sizes are chosen to fit it. What
our program must refuse is marked here, where it is generated: REFUSED says for each such feature which word the
refusal must hold, and nothing else may be refused."""
import json
import os
import random
import zlib

import numpy as np

import token_files
from oracle.families import FAMILIES as ROWS_OF, norm_names

# A feature that is refused: the refusal names it with one of these.
REFUSED = {
    "rope dynamic": ("dynamic",),
    "rope longrope": ("longrope",),
    "yarn untruncated": ("truncat",),
    "activation": ("activation",),
    "quantized": ("quantised",),
    "element type": ("stored as",),
    "unread tensor": ("sinks", "per_layer_gate", "k_scale"),
    "no head": ("lm_head",),
    "bidirectional": ("bidirectional",),
    "scaled by layer": ("scal",),
    "relative positions": ("relative",),
    "rope factor without a type": ("rope_type",),
    "no window": ("sliding_window",),
    "one base for two kinds": ("rope_theta",),
    "causal encoder": ("is_decoder", "decoder"),
    "biased head, scaled": ("output.bias",),
}
# A seed that is a number is a folder of one of the first families, as ever; "olmo2:7" is the seventh of olmo2, and
# LATER are the families that have folders of this kind only: a new one changes nothing about the others.
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "gemma3", "phi3", "gpt2", "bert")
LATER = tuple(t for t in ROWS_OF if t not in FAMILIES)
ROWS = 40                               # ids of a question at most
LEFT_OUT = object()


class Folder:
    """seed, config, tensors {name: array}, types {name: "F32" ...}, ids, features (set of words)."""

    def __init__(self, seed):
        self.seed, self.r = seed, random.Random(seed)
        self.numbers = np.random.RandomState(number_of(seed) % 2**32)
        self.config, self.tensors, self.features = {}, {}, set()
        self.extra_files = {}

    def maybe(self, chance):
        return self.r.random() < chance

    def pick(self, *values):
        return self.r.choice(values)

    def put(self, key, *values, out=0.0):
        """Writes one of the values under key, or, with the chance `out`, leaves the key out. Gives what was
        written, or LEFT_OUT."""
        if self.maybe(out):
            self.features.add("without " + key)
            return LEFT_OUT
        v = self.config[key] = self.pick(*values)
        return v

    def has(self, feature):
        self.features.add(feature)

    def refusal(self):
        """The words of which a refusal must hold one, or () where the folder must load."""
        return tuple(w for f in sorted(self.features) for w in REFUSED.get(f, ()))

    # ---- tensors ----
    def draw(self, name, shape, kind):
        x = self.numbers.standard_normal(shape)
        if kind == "matrix":
            x *= 1.5 / shape[-1] ** 0.5
        elif kind == "turned":
            x *= 1.5 / shape[0] ** 0.5
        elif kind == "gain":
            x = 1 + 0.3 * x
        elif kind == "gain-1":
            x *= 0.3
        elif kind == "bias":
            x *= 0.5
        self.tensors[name] = x.astype(np.float32)

    def linear(self, name, n_out, n_in, bias=False):
        self.draw(name + ".weight", (n_out, n_in), "matrix")
        if bias:
            self.draw(name + ".bias", (n_out,), "bias")


def number_of(seed):
    return seed if isinstance(seed, int) else zlib.crc32(seed.encode())


def seed_of(text):
    """What --seed takes."""
    return text if ":" in text else int(text)


def seeds(first, count, later, most):
    """`count` seeds from `first` on; where they are the usual ones (`first` 1), a tenth of `most` for each family
    that came later, at most."""
    if isinstance(first, str):
        family, _, n = first.partition(":")
        return [f"{family}:{int(n) + i}" for i in range(count)]
    few = min(count, most) // 10 if first == 1 and count > 1 else 0
    return list(range(first, first + count)) + [f"{family}:{i}" for family in later for i in range(1, few + 1)]


# ---- rotary scalings ---------------------------------------------------------------------------------

def scaling_of(f, context):
    """(the object without its type, its type) of a random scaling, or (None, None)."""
    kind = f.pick("none", "none", "none", "default", "linear", "linear", "llama3", "yarn", "yarn", "yarn", "other")
    original = f.pick(12, 16, 24, 32)
    if kind == "none":
        return None, None
    if kind == "default":
        return {}, "default"
    factor = f.pick(2, 4, 2.5, 8.0)
    if kind == "linear":
        return {"factor": factor}, kind
    if kind == "other":
        if f.maybe(0.4):
            f.has("rope dynamic")
            return {"factor": factor}, "dynamic"
        if f.maybe(0.3):
            f.has("rope factor without a type")
            return {"factor": factor}, None
        return None, None
    s = {"factor": factor}
    if f.maybe(0.85):
        s["original_max_position_embeddings"] = original
    if kind == "llama3":
        s.update(low_freq_factor=f.pick(1.0, 1, 1.5), high_freq_factor=f.pick(4.0, 3, 6.0))
        return s, kind
    if f.maybe(0.3):
        s["beta_fast"] = f.pick(32, 16.0, 8, None)
    if f.maybe(0.3):
        s["beta_slow"] = f.pick(1, 2.0, 0.5, None)
    if f.maybe(0.25):
        s["attention_factor"] = f.pick(1.0, 0.8, 1.3)
    elif f.maybe(0.25):
        s.update(mscale=f.pick(1.0, 0.7), mscale_all_dim=f.pick(1.0, 1.4, 0))
    if f.maybe(0.15):
        s["truncate"] = f.pick(True, False)
        if not s["truncate"]:
            f.has("yarn untruncated")
    return s, kind


def put_rope(f, context):
    """The rotary keys, in the older form (rope_theta, rope_scaling) or the newer (rope_parameters)."""
    theta = f.pick(500.0, 10000, 10000.0, 1e6, 3333)
    scaling, kind = scaling_of(f, context)
    if scaling is not None:
        f.has("rope " + (kind or "untyped"))
        if kind:
            scaling[f.pick("rope_type", "rope_type", "type")] = kind
        if kind == "yarn" and f.maybe(0.1):
            scaling.update(type=kind, rope_type=kind)
    if f.maybe(0.3):
        f.has("rope_parameters")
        parameters = dict(scaling or {"rope_type": "default"})
        where = f.pick("inside", "inside", "beside", "nowhere")
        if kind == "llama3":            # transformers insists on it there
            where = "inside"
        if where == "inside":
            parameters["rope_theta"] = theta
        elif where == "beside":
            f.config["rope_theta"] = theta
        f.config["rope_parameters"] = parameters
        return
    f.put("rope_theta", theta, out=0.2)
    if scaling is not None:
        f.config["rope_scaling"] = scaling
    elif f.maybe(0.4):
        f.config["rope_scaling"] = None


# ---- decoders with rotary positions ------------------------------------------------------------------

def default_of(kind):
    """How many key/value heads its class takes where a file is silent; None: as many as heads."""
    from transformers import CONFIG_MAPPING
    return getattr(CONFIG_MAPPING[kind], "num_key_value_heads", None)


def class_says(kind, field):
    from transformers import CONFIG_MAPPING
    return getattr(CONFIG_MAPPING[kind], field, None)


def put_sizes(f, kind):
    """Heads, widths and contexts; keys that are left out have the class's defaults. Gives the numbers."""
    gemma, qwen = kind.startswith("gemma"), kind.startswith("qwen")
    heads = f.pick(2, 4, 6)
    hd = f.pick(6, 8, 16, 20)
    if ROWS_OF[kind].share != 1:                                # a part of it is even
        hd = max(hd, 8) if int(max(hd, 8) * ROWS_OF[kind].share) % 2 == 0 else 16
    kv = f.pick(*[n for n in (1, 2, heads) if heads % n == 0])
    width = f.pick(24, 40, 48, 64) if f.maybe(0.5) else heads * hd
    default_kv = {"mistral": 8, "qwen2": 32, "qwen3": 32}.get(kind) if kind not in LATER else default_of(kind)
    if gemma and f.maybe(0.3):                                  # num_attention_heads 8
        heads, kv = 8, f.pick(2, 4, 8)
        if f.maybe(0.7):
            kv = 4
        f.has("without num_attention_heads")
    else:
        f.config["num_attention_heads"] = heads
    if not gemma and default_kv and f.maybe(0.15):
        heads = kv = default_kv
        hd = 4 if default_kv == 32 else hd
        f.config["num_attention_heads"] = heads
        f.has("without num_key_value_heads")
    elif gemma and kv == 4 and heads in (4, 8) and f.maybe(0.5):
        f.has("without num_key_value_heads")
    elif not gemma and not default_kv and f.maybe(0.3):
        kv = heads
        if f.maybe(0.5):
            f.config["num_key_value_heads"] = None
    else:
        f.config["num_key_value_heads"] = kv
    if ROWS_OF[kind].layer_norm:
        width = heads * hd
    elif kind in LATER and class_says(kind, "head_dim"):
        f.config["head_dim"] = hd
        if kind in ("seed_oss", "ernie4_5") and f.maybe(0.2):    # theirs may be null
            width, f.config["head_dim"] = heads * hd, None
    elif kind == "qwen3" and heads < 32 and f.maybe(0.12):
        hd, heads, kv = 128, 2, 1
        f.config.update(num_attention_heads=heads, num_key_value_heads=kv)
        f.has("without head_dim")
    elif gemma and f.maybe(0.06) and heads == 2:
        hd = 256
        f.has("without head_dim")
    elif qwen and kind == "qwen2" or kind == "phi3":
        width = heads * hd                                       # Qwen2Config and Phi3Config have no head_dim
        if kind == "qwen2" and f.maybe(0.1):
            f.config["head_dim"] = hd
    elif not gemma and kind != "qwen3" and f.maybe(0.5):
        width = heads * hd
        if f.maybe(0.3):
            f.config["head_dim"] = None
    else:
        f.config["head_dim"] = hd
    if width % heads:
        width = heads * max(4, 2 * (width // heads // 2))
        if "head_dim" not in f.config and "without head_dim" not in f.features:
            width = heads * hd
    f.config["hidden_size"] = width
    feed = f.config["intermediate_size"] = f.pick(32, 44, 60, 96)
    layers = f.pick(1, 2, 2, 3)
    if kind.startswith("gemma3"):
        layers = f.pick(2, 3, 7)
    if ROWS_OF[kind].turned:
        layers = f.pick(2, 4, 5)
    f.config["num_hidden_layers"] = layers
    context = f.put("max_position_embeddings", 48, 64, 200, out=0.15)
    return heads, kv, hd, width, feed, layers, 4096 if context is LEFT_OUT else context


def put_windows(f, kind, layers):
    window, windows = f.pick(3, 5, 9, 16), ROWS_OF[kind].windows
    if not windows:
        if f.maybe(0.15):               # the class knows no window
            f.config["sliding_window"] = window
    elif windows == "all":
        f.put("sliding_window", None, window, window, out=0.25)
    elif windows == "above":
        if f.maybe(0.5):
            f.config["sliding_window"] = f.pick(window, None)
        if f.maybe(0.5):
            f.config["max_window_layers"] = f.pick(0, 1, 28)
        if f.maybe(0.5):
            used = f.config["use_sliding_window"] = f.maybe(0.4)
            if used and f.config.get("sliding_window"):
                f.has("qwen window")
                if f.maybe(0.3):
                    f.config["layer_types"] = [f.pick("sliding_attention", "full_attention") for _ in range(layers)]
    else:
        f.put("sliding_window", *[window] * 15, None, out=0.1)
        if "sliding_window_pattern" in ROWS_OF[kind].older and f.maybe(0.4):
            f.config["sliding_window_pattern"] = f.pick(2, 3, 6)
        if f.maybe(0.25):
            f.has("layer_types")
            f.config["layer_types"] = [f.pick("sliding_attention", "full_attention") for _ in range(layers)]
        if f.config.get("sliding_window", 1) is None and ROWS_OF[kind].window_null:
            f.config["layer_types"] = ["full_attention"] * layers
        elif f.config.get("sliding_window", 1) is None:         # transformers makes no mask of no window
            f.has("no window")


def put_gemma(f, kind, hd):
    f.put("query_pre_attn_scalar", 20, 7, hd, out=0.3)
    f.put("final_logit_softcapping", 2.0, 30.0, 5.0, None, out=0.35)
    if kind == "gemma2":
        f.put("attn_logit_softcapping", 1.5, 50.0, 4.0, None, out=0.35)
    elif f.maybe(0.2):
        f.config["attn_logit_softcapping"] = None
    if f.maybe(0.3):
        f.put("use_bidirectional_attention", False, False, None, True)
        if f.config["use_bidirectional_attention"]:
            f.has("bidirectional")


def put_rope_of_kinds(f, own_key):
    """A base for the full layers, which alone are scaled, and one for the others; own_key: of the latter."""
    scaled = f.maybe(0.4)
    scaling = {"rope_type": "linear", "factor": f.pick(2.0, 8.0, 3)} if scaled else None
    theta, local = f.pick(1e6, 80000.0, 5000), f.pick(10000.0, 700.0, 10000)
    if f.maybe(0.3):
        f.has("rope_parameters")
        full = dict(scaling or {"rope_type": "default"})
        window = {"rope_type": "default"}
        if f.maybe(0.8):
            full["rope_theta"] = theta
        if f.maybe(0.8):
            window["rope_theta"] = local
        f.config["rope_parameters"] = {"full_attention": full, "sliding_attention": window}
        return
    if scaling:
        f.has("rope linear")
        f.config["rope_scaling"] = scaling
    if not own_key:                     # transformers 4 and 5 take it for different layers
        if f.put("rope_theta", theta, 500000.0, out=0.5) not in (500000.0, LEFT_OUT):
            f.has("one base for two kinds")
        return
    f.put("rope_theta", theta, out=0.3)
    f.put("rope_local_base_freq", local, out=0.3)


def rotary(f, kind):
    c, row = f.config, ROWS_OF[kind]
    gemma = row.gemma
    heads, kv, hd, width, feed, layers, context = put_sizes(f, kind)
    put_windows(f, kind, layers)
    f.put(row.eps, 1e-5, 1e-6, 3e-3, 0.02, out=0.25)
    act = "hidden_activation" if gemma else "hidden_act"
    f.put(act, *(("gelu_pytorch_tanh", "gelu_pytorch_tanh", "gelu_new") if gemma or row.ungated else
                 ("silu", "silu", "swish")),
          out=0.25)
    if f.maybe(0.03):
        c[act] = "relu" if gemma else "gelu"
        f.has("activation")
    if gemma and f.maybe(0.2):
        c["hidden_act"] = "gelu_pytorch_tanh"                   # written by old converters, read by nobody
    if gemma:
        put_gemma(f, kind, hd)
    if row.own_turn and row.windows:
        put_rope_of_kinds(f, row.older)
    elif kind == "phi3":
        put_phi3_rope(f, hd)
    else:
        put_rope(f, context)
    put_more_rope(f, row, hd, layers)
    for word, _ in row.scales:
        f.put(word, 0.3, 2.5, 1.0, out=0.3)
    q_bias = row.qkv_bias
    o_bias = False
    if kind in LATER:
        q_bias, o_bias, feed_bias = put_biases(f, row)
    elif kind not in ("mistral", "qwen2", "phi3") and f.maybe(0.4):
        q_bias = o_bias = c["attention_bias"] = f.maybe(0.6)
    if kind not in LATER:
        feed_bias = False
    if kind == "llama" and f.maybe(0.4):
        feed_bias = c["mlp_bias"] = f.maybe(0.6)
    if q_bias or feed_bias:
        f.has("biases")
    beside = row.beside == "always"
    if row.beside == "said":
        beside = f.put("use_parallel_residual", True, False, out=0.3) is True
    stray = f.maybe(0.12)                                        # biases that the class does not know
    if stray:
        f.has("stray biases")
    one = "gain-1" if gemma else "gain"
    f.draw("model.embed_tokens.weight", (c["vocab_size"], width), "plain")
    for i in range(layers):
        n = f"model.layers.{i}."
        if row.fused:
            f.linear(n + "self_attn.qkv_proj", (heads + 2 * kv) * hd, width, stray)
            f.linear(n + "mlp.gate_up_proj", 2 * feed, width, stray)
        else:
            f.linear(n + "self_attn.q_proj", heads * hd, width, q_bias or stray)
            f.linear(n + "self_attn.k_proj", kv * hd, width, q_bias)
            f.linear(n + "self_attn.v_proj", kv * hd, width, q_bias or stray)
        if row.fused_gate:
            f.linear(n + "mlp.gate_up_proj", 2 * feed, width, feed_bias)
        elif row.ungated:
            f.linear(n + row.ungated[0], feed, width, feed_bias)
        elif not row.fused:
            f.linear(n + "mlp.gate_proj", feed, width, feed_bias)
            f.linear(n + "mlp.up_proj", feed, width, feed_bias or stray)
        f.linear(n + row.out, width, heads * hd, o_bias or stray)
        f.linear(n + (row.ungated or ("", "mlp.down_proj"))[1], width, feed, feed_bias)
        for name in filter(None, norm_names(row)[:1] if beside else norm_names(row)):
            f.draw(n + name + ".weight", (width,), one)
            if row.norm_bias:
                f.draw(n + name + ".bias", (width,), "bias")
        if row.qk_norm:
            for name, count in zip(row.qk_names, (heads, kv)):
                f.draw(n + name + ".weight", (hd * (count if row.qk_norm == "width" else 1),), one)
        if f.maybe(0.1):
            f.tensors[n + "self_attn.rotary_emb.inv_freq"] = np.ones(hd // 2, np.float32)
    f.draw(row.last + ".weight", (width,), one)
    if row.norm_bias:
        f.draw(row.last + ".bias", (width,), "bias")
    tied = class_says(row.outer or kind, "tie_word_embeddings") if kind in LATER else gemma
    tie(f, "model.embed_tokens.weight", tied, width)
    factor = [c.get(word, class_says(kind, word)) for word, to in row.scales if to == "logit_scale"]
    if "lm_head.bias" in f.tensors and factor not in ([], [1.0]):
        f.has("biased head, scaled")
    return context


def put_biases(f, row):
    """Of q, k and v, of o, of the feed-forward part: what each family's words say."""
    for word in sorted(set(filter(None, row.bias_words))):
        if f.maybe(0.5):
            f.config[word] = f.maybe(0.5)
    if row.head_bias:
        return True, True, True
    return tuple(f.config.get(word, row.biased and word == row.bias_words[0]) for word in row.bias_words)


def put_warm(f):
    """Ministral 3's files always have a scaling in YaRN's way, or say nothing."""
    for key in ("rope_scaling", "rope_parameters", "rope_theta"):
        f.config.pop(key, None)
    f.features = {x for x in f.features if not x.startswith(("rope ", "yarn ", "rope_parameters", "without rope"))}
    if f.maybe(0.1):
        return
    f.config["rope_parameters"] = {
        "rope_type": "yarn", "factor": f.pick(2.0, 16.0), "original_max_position_embeddings": f.pick(6, 12, 64),
        "mscale": 1.0, "mscale_all_dim": f.pick(1.0, 0.5), "llama_4_scaling_beta": f.pick(0.1, 0.5),
        "rope_theta": f.pick(500.0, 1e6), "beta_fast": 32.0, "beta_slow": 1.0}


def put_more_rope(f, row, hd, layers):
    c = f.config
    where = next((c[key] for key in ("rope_scaling", "rope_parameters") if c.get(key)), None)
    if row.sections and where is not None and f.maybe(0.8):
        where.update(mrope_section=[hd // 2 - 2, 1, 1], mrope_interleaved=True)
        where.setdefault("rope_type", where.get("type", "default"))
    if row.warms:
        put_warm(f)
    if row.alpha and f.maybe(0.5) and "rope_parameters" not in c and "rope factor without a type" not in f.features:
        f.features = {x for x in f.features if not x.startswith(("rope ", "yarn "))}
        c["rope_scaling"] = {"type": "dynamic", "alpha": f.pick(1000.0, 7.5), "factor": 1.0}
        c["head_dim"] = hd              # which the class takes from nowhere else
    if row.part and row.share != 1 and f.maybe(0.5):
        c["partial_rotary_factor"] = f.pick(*[x for x in (0.25, 0.5, 0.75, 1.0) if int(hd * x) % 2 == 0])
    if row.turned == "fourth" and f.maybe(0.4):
        if f.maybe(0.5):
            c["no_rope_layers"] = [f.pick(0, 1) for _ in range(layers)]
        else:
            c["no_rope_layer_interval"] = f.pick(1, 2, 3, 4)


def put_phi3_rope(f, hd):
    f.put("rope_theta", 10000.0, 500, out=0.3)
    part = f.put("partial_rotary_factor", 1.0, 0.5, 0.75, out=0.5)
    if part is not LEFT_OUT and int(hd * part) % 2:
        f.config["partial_rotary_factor"] = 1.0
    if f.maybe(0.4):
        f.config["original_max_position_embeddings"] = f.pick(16, 48, 4096)
    if f.maybe(0.3):
        f.config["rope_scaling"] = None
    elif f.maybe(0.1):
        n = int(hd * f.config.get("partial_rotary_factor", 1.0)) // 2
        f.config["rope_scaling"] = {"type": f.pick("longrope", "su"), "long_factor": [2.0] * n,
                                    "short_factor": [1.0] * n, "original_max_position_embeddings": 16}
        f.has("long factors")


def tie(f, embed, default, width, head="lm_head.weight"):
    """Which of the two matrices the file has, and whether they are one."""
    tied = f.put("tie_word_embeddings", True, False, out=0.4)
    tied = default if tied is LEFT_OUT else tied
    rows = f.config["vocab_size"]
    if not tied:
        if f.maybe(0.02):
            f.has("no head")
            return
        f.linear(head[:-7], rows, width, f.maybe(0.05))
        return
    how = f.pick("embedding", "embedding", "embedding", "both", "head", "two")
    if how == "both":
        f.tensors[head] = f.tensors[embed]
    elif how == "head":
        f.has("tied, only the head is stored")
        f.tensors[head] = f.tensors.pop(embed)
    elif how == "two":
        f.has("tied, but two are stored")
        f.linear(head[:-7], rows, width)


# ---- gpt-2 and bert ----------------------------------------------------------------------------------

def gpt2(f):
    c = f.config
    heads, hd = f.pick(2, 3, 4), f.pick(6, 8, 16)
    width = heads * hd
    layers = f.pick(1, 2, 3)
    c.update(n_head=heads, n_embd=width, n_layer=layers)
    context = f.put("n_positions", 48, 64, out=0.15)
    context = 1024 if context is LEFT_OUT else context
    feed = f.put("n_inner", None, 40, 4 * width, out=0.4)
    feed = 4 * width if feed in (LEFT_OUT, None) else feed
    f.put("layer_norm_epsilon", 1e-5, 3e-3, 0.02, out=0.3)
    f.put("activation_function", "gelu_new", "gelu_new", "gelu_pytorch_tanh", out=0.3)
    if f.maybe(0.04):
        c["activation_function"] = f.pick("relu", "gelu")
        f.has("activation")
    if f.maybe(0.06):
        c.update(f.pick({"scale_attn_by_inverse_layer_idx": True}, {"scale_attn_weights": False}))
        f.has("scaled by layer")
    if f.maybe(0.2):
        c["reorder_and_upcast_attn"] = True
    outer = f.pick("transformer.", "")
    f.draw(outer + "wte.weight", (c["vocab_size"], width), "plain")
    f.draw(outer + "wpe.weight", (context, width), "plain")
    masks = f.maybe(0.3)
    for i in range(layers):
        n = f"{outer}h.{i}."
        for name in ("ln_1", "ln_2"):
            f.draw(n + name + ".weight", (width,), "gain")
            f.draw(n + name + ".bias", (width,), "bias")
        for name, a, b in (("attn.c_attn", width, 3 * width), ("attn.c_proj", width, width),
                           ("mlp.c_fc", width, feed), ("mlp.c_proj", feed, width)):
            f.draw(n + name + ".weight", (a, b), "turned")
            f.draw(n + name + ".bias", (b,), "bias")
        if masks:
            f.tensors[n + "attn.bias"] = np.tri(8, dtype=np.float32).reshape(1, 1, 8, 8)
            f.tensors[n + "attn.masked_bias"] = np.float32([-1e4])
    f.draw(outer + "ln_f.weight", (width,), "gain")
    f.draw(outer + "ln_f.bias", (width,), "bias")
    tie(f, outer + "wte.weight", True, width)
    return context


def bert(f):
    c = f.config
    heads, hd, layers = f.pick(2, 3, 4), f.pick(6, 8, 16), f.pick(1, 2, 3)
    width, feed = heads * hd, f.pick(32, 60, 96)
    c.update(num_attention_heads=heads, hidden_size=width, num_hidden_layers=layers, intermediate_size=feed)
    context = f.put("max_position_embeddings", 48, 64, out=0.15)
    context = 512 if context is LEFT_OUT else context
    kinds = f.put("type_vocab_size", 1, 2, 3, out=0.4)
    f.put("layer_norm_eps", 1e-12, 3e-3, 0.02, out=0.4)
    f.put("hidden_act", "gelu", out=0.4)
    if f.maybe(0.04):
        c["hidden_act"] = f.pick("relu", "gelu_new")
        f.has("activation")
    if f.maybe(0.3):
        c["position_embedding_type"] = f.pick("absolute", "absolute", "relative_key")
        if c["position_embedding_type"] != "absolute":
            f.has("relative positions")
    if f.maybe(0.2):
        c["is_decoder"] = f.maybe(0.2)
        if c["is_decoder"]:
            f.has("causal encoder")
    old = f.maybe(0.3)                  # gains and shifts by their old names
    outer = f.pick("", "bert.")

    def norm(name):
        f.draw(name + (".gamma" if old else ".weight"), (width,), "gain")
        f.draw(name + (".beta" if old else ".bias"), (width,), "bias")

    f.draw(outer + "embeddings.word_embeddings.weight", (c["vocab_size"], width), "plain")
    f.draw(outer + "embeddings.position_embeddings.weight", (context, width), "plain")
    f.draw(outer + "embeddings.token_type_embeddings.weight", (2 if kinds is LEFT_OUT else kinds, width), "plain")
    norm(outer + "embeddings.LayerNorm")
    for i in range(layers):
        n = f"{outer}encoder.layer.{i}."
        for x in ("query", "key", "value"):
            f.linear(n + "attention.self." + x, width, width, True)
        f.linear(n + "attention.output.dense", width, width, True)
        norm(n + "attention.output.LayerNorm")
        f.linear(n + "intermediate.dense", feed, width, True)
        f.linear(n + "output.dense", width, feed, True)
        norm(n + "output.LayerNorm")
    if f.maybe(0.3):
        f.tensors[outer + "embeddings.position_ids"] = np.arange(context, dtype=np.float32)[None]
    if f.maybe(0.4):
        f.linear(outer + "pooler.dense", width, width, True)
    if outer and f.maybe(0.3):
        f.linear("cls.predictions.transform.dense", width, width, True)
        f.draw("cls.predictions.bias", (c["vocab_size"],), "bias")
    return context


# ---- what any folder may have ------------------------------------------------------------------------

HARMLESS = {
    "architectures": ["SomeForCausalLM"], "attention_dropout": 0.0, "initializer_range": 0.02, "use_cache": True,
    "transformers_version": "4.51.3", "torch_dtype": "bfloat16", "_name_or_path": "somewhere/else",
    "pretraining_tp": 1, "output_attentions": False, "return_dict": True, "id2label": {"0": "LABEL_0"},
    "label2id": {"LABEL_0": 0}, "problem_type": None, "unsloth_version": "2025.1",
    "resid_pdrop": 0.1, "hidden_dropout_prob": 0.1, "classifier_dropout": None, "dtype": "float32",
    "_attn_implementation_autoset": True, "cache_implementation": "hybrid", "gradient_checkpointing": False,
}


def put_harmless(f):
    for key in f.r.sample(sorted(HARMLESS), f.r.randrange(8)):
        f.config.setdefault(key, HARMLESS[key])
    if f.maybe(0.02):
        f.config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
        f.has("quantized")
    if f.maybe(0.03):
        stem = f.pick("self_attn.sinks", "per_layer_gate.weight", "self_attn.k_scale")
        place = next(n for n in f.tensors if ".0." in n)
        f.tensors[place[:place.index(".0.") + 3] + stem] = np.ones(4, np.float32)
        f.has("unread tensor")


def nest(f):
    """A model that also sees: the text's numbers one level down, its tensors under one more name."""
    c = f.config
    outer = {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"],
             "vision_config": {"hidden_size": 32, "model_type": "siglip_vision_model"}}
    if "tie_word_embeddings" in c:
        outer["tie_word_embeddings"] = c.pop("tie_word_embeddings")
    if f.maybe(0.7):
        c["model_type"] = "gemma3_text"
    else:
        del c["model_type"]
    outer["text_config"] = c
    f.config = outer
    new = f.maybe(0.5)
    named = {}
    for n, x in f.tensors.items():
        if n.startswith("model."):
            n = ("model.language_model." + n[6:]) if new else "language_model." + n
        elif not new:
            n = "language_model." + n
        named[n] = x
    tower = "model.vision_tower." if new else "vision_tower."
    named[tower + "vision_model.post_layernorm.weight"] = np.ones(8, np.float32)
    named[("model." if new else "") + "multi_modal_projector.mm_soft_emb_norm.weight"] = np.ones(8, np.float32)
    f.tensors = named


def rounded(x, dtype):
    """What dtype can hold of x, as its bytes."""
    if dtype == "BF16":
        u = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
        return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16).tobytes()
    return x.astype({"F32": np.float32, "F16": np.float16, "F64": np.float64, "I64": np.int64}[dtype]).tobytes()


def safetensors_file(f, tensors, main):
    header, data, at = {}, [], 0
    if f.maybe(0.7):
        header["__metadata__"] = {"format": "pt"}
    for name, x in tensors.items():
        dtype = main if f.maybe(0.8) else f.pick("F32", "F16", "BF16")
        if "embed" in name or "wte" in name or "lm_head.weight" in name:
            dtype = main                # two that are one are one in every bit
        if "position_ids" in name:
            dtype = "I64"
        if f.odd_type and name == f.odd_type:
            dtype = "F64"
        b = rounded(x, dtype)
        header[name] = {"dtype": dtype, "shape": list(x.shape), "data_offsets": [at, at + len(b)]}
        data.append(b)
        at += len(b)
    text = json.dumps(header, separators=f.pick((",", ":"), (", ", ": "))).encode()
    if f.maybe(0.7):
        text += b" " * (-len(text) % 8)
    else:
        f.has("unaligned")
    return len(text).to_bytes(8, "little") + text + b"".join(data)


def store(f, folder):
    os.makedirs(folder, exist_ok=True)

    def put(name, x):
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as out:
            out.write(x if isinstance(x, bytes) else json.dumps(x, ensure_ascii=False).encode())

    main = f.pick("F32", "F32", "F16", "BF16")
    f.odd_type = f.pick(*sorted(f.tensors)) if f.maybe(0.01) else None
    if f.odd_type and not any(part in f.odd_type for part in ("inv_freq", "masked_bias", "attn.bias", "position_ids",
                                                              "pooler", "cls.", "vision", "multi_modal")):
        f.has("element type")
    names = list(f.tensors)
    f.r.shuffle(names)
    parts = f.pick(1, 1, 2, 3)
    if parts == 1:
        put("model.safetensors", safetensors_file(f, {n: f.tensors[n] for n in names}, main))
    else:
        where = {}
        for i in range(parts):
            file = f"model-{i + 1:05}-of-{parts:05}.safetensors"
            part = names[i::parts]
            where.update({n: file for n in part})
            put(file, safetensors_file(f, {n: f.tensors[n] for n in part}, main))
        put("model.safetensors.index.json", {"metadata": {"total_size": 1}, "weight_map": where})
    put("config.json", f.config)
    for name, x in f.extra_files.items():
        put(name, x)


def make(seed):
    """A folder, not yet stored."""
    f = Folder(seed)
    kind = f.family = f.pick(*FAMILIES) if isinstance(seed, int) else seed.partition(":")[0]
    f.text = token_files.make(f.r, kind)
    inner = "gemma3_text" if kind == "gemma3" else kind
    f.config.update(model_type=inner, vocab_size=f.text.size + f.pick(0, 0, 3, 13))
    f.config.update(f.text.config)
    vocab = f.config["vocab_size"]
    context = gpt2(f) if kind == "gpt2" else bert(f) if kind == "bert" else rotary(f, inner)
    f.ids = [f.r.randrange(vocab) for _ in range(f.r.randrange(1, min(ROWS, context) + 1))]
    if len(f.ids) < 20 and f.maybe(0.7):
        f.ids += [f.r.randrange(vocab) for _ in range(20)]
    if kind == "gemma3":
        nest(f)
    put_harmless(f)
    f.extra_files.update(f.text.files)
    f.features |= f.text.features
    f.features.add("family " + kind)
    return f
