"""llama.cpp's logits through its C library, by ctypes: everything in float32, one thread. The structures are those
of the wheel's own llama_cpp.py beside the library that `./dev peers --get` builds.

Files that it does not like make the library end its process, so it lives in one of its own: LlamaCpp asks it."""
import ctypes
import importlib.util
import json
import os
import subprocess
import sys
import types

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def find(root=ROOT):
    """(folder of libllama.so, folder of the Python package), or None."""
    peers = os.path.join(root, "build", "peers")
    packages = [os.path.join(peers, n, "llama_cpp") for n in (os.listdir(peers) if os.path.isdir(peers) else ())
                if n.startswith("llama_cpp_python-")]
    for folder in (os.path.join(peers, "bin"), os.path.join(peers, "llama.cpp", "bin")):
        if os.path.exists(os.path.join(folder, "libllama.so")) and packages and os.path.isdir(packages[0]):
            return folder, packages[0]
    return None


def bindings(package):
    """The package's llama_cpp.py without its __init__, which wants more than is here."""
    parent = types.ModuleType("llama_cpp")
    parent.__path__ = [package]
    sys.modules["llama_cpp"] = parent
    name = "llama_cpp.llama_cpp"
    spec = importlib.util.spec_from_file_location(name, os.path.join(package, "llama_cpp.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class LlamaCpp:
    def __init__(self, place):
        self.place, self.child = place, None

    def logits(self, path, ids, betas=(-1.0, -1.0)):
        """betas: of YaRN, which llama.cpp reads from the files of few architectures."""
        if self.child is None:
            self.child = subprocess.Popen([sys.executable, os.path.abspath(__file__), *self.place],
                                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                          env=dict(os.environ, GGML_NO_BACKTRACE="1"))
        self.child.stdin.write(json.dumps([path, list(map(int, ids)), betas]).encode() + b"\n")
        self.child.stdin.flush()
        head = self.child.stdout.readline().decode()
        if not head:
            words, self.child = self.child.communicate()[1].decode(errors="replace").strip(), None
            raise RuntimeError("llama.cpp ended itself: " + words[-200:])
        if not head.startswith("ok"):
            raise RuntimeError(head.strip())
        shape = tuple(map(int, head.split()[1:]))
        return np.frombuffer(self.child.stdout.read(shape[0] * shape[1] * 4), np.float32).reshape(shape).astype(float)

    def close(self):
        if self.child:
            self.child.communicate()


class Library:
    def __init__(self, folder, package):
        os.environ["LLAMA_CPP_LIB_PATH"] = folder
        self.c = bindings(package)
        self.quiet = self.c.llama_log_callback(lambda level, text, user: None)
        self.c.llama_log_set(self.quiet, ctypes.c_void_p(0))
        self.c.llama_backend_init()

    def logits(self, path, ids, betas):
        c = self.c
        mp = c.llama_model_default_params()
        mp.n_gpu_layers, mp.use_extra_bufts = 0, False
        model = c.llama_model_load_from_file(path.encode(), mp)
        if not model:
            raise RuntimeError("llama.cpp does not load it")
        cp = c.llama_context_default_params()
        cp.n_ctx = cp.n_batch = cp.n_ubatch = 256
        cp.n_threads = cp.n_threads_batch = 1
        cp.type_k = cp.type_v = 0
        cp.flash_attn_type = 0
        cp.offload_kqv = cp.op_offload = False
        cp.yarn_beta_fast, cp.yarn_beta_slow = betas
        context = c.llama_init_from_model(model, cp)
        if not context:
            c.llama_model_free(model)
            raise RuntimeError("llama.cpp makes no context for it")
        batch = c.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, i, 1, 0, 1
        try:
            if c.llama_decode(context, batch):
                raise RuntimeError("llama.cpp does not compute it")
            n = c.llama_vocab_n_tokens(c.llama_model_get_vocab(model))
            return np.array([np.ctypeslib.as_array(c.llama_get_logits_ith(context, i), (n,)).copy()
                             for i in range(len(ids))])
        finally:
            c.llama_batch_free(batch)
            c.llama_free(context)
            c.llama_model_free(model)


def main():
    library = Library(*sys.argv[1:])
    for line in sys.stdin.buffer:
        try:
            x = library.logits(*json.loads(line))
            head, data = f"ok {x.shape[0]} {x.shape[1]}", x.astype(np.float32).tobytes()
        except RuntimeError as e:
            head, data = str(e), b""
        sys.stdout.buffer.write(head.encode() + b"\n" + data)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
