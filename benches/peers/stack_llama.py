"""llama.cpp through llama-cpp-python's C interface: one batch per step, drawn by its own sampler.

Weights in float32 (converted from our safetensors by `gguf_of.py`), keys and values as llama.cpp has them by default
(half precision). Each sample has a stream of its own in the cache, which is faster here than one shared cache.
"""

import ctypes

import llama_cpp
import numpy as np

import stack


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


class Engine:
    def __init__(self, job):
        self.prompt, self.samples, self.length = job["prompt"], job["samples"], job["new_tokens"]
        self.quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        options = llama_cpp.llama_model_default_params()
        options.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(job["gguf"].encode(), options)
        if not self.model:
            raise SystemExit(f"error: llama.cpp cannot read {job['gguf']}")
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        options = llama_cpp.llama_context_default_params()
        # A stream's length is rounded up to a multiple of 256 by llama.cpp.
        options.n_ctx = self.samples * -(-(len(self.prompt) + self.length) // 256) * 256
        options.n_batch = options.n_ubatch = max(self.samples, len(self.prompt))
        options.n_seq_max = self.samples
        options.kv_unified = False
        options.n_threads = options.n_threads_batch = job["threads"]
        options.no_perf = True
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        if not self.context:
            raise SystemExit("error: llama.cpp could not make a context")
        self.memory = llama_cpp.llama_get_memory(self.context)
        chain = llama_cpp.llama_sampler_chain_default_params()
        self.sampler = llama_cpp.llama_sampler_chain_init(chain)
        # The last in the chain draws; at temperature 1 it needs nothing before it.
        llama_cpp.llama_sampler_chain_add(self.sampler, llama_cpp.llama_sampler_init_dist(1))
        self.batch = llama_cpp.llama_batch_init(max(self.samples, len(self.prompt)), 0, 1)

    def fill(self, rows):
        """A batch of (token, position, sequence, whether logits are wanted)."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for index, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[index] = token
            batch.pos[index] = position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = sequence
            batch.logits[index] = wanted

    def run(self):
        code = llama_cpp.llama_decode(self.context, self.batch)
        if code != 0:
            raise SystemExit(f"error: llama_decode returned {code}")

    def read_prompt(self):
        """Logits behind the prompt, whose keys and values all samples then have."""
        llama_cpp.llama_memory_clear(self.memory, True)
        last = len(self.prompt) - 1
        self.fill([(token, place, 0, place == last) for place, token in enumerate(self.prompt)])
        self.run()
        for sample in range(1, self.samples):
            llama_cpp.llama_memory_seq_cp(self.memory, 0, sample, -1, -1)
        return self.logits(1)

    def logits(self, rows):
        """The logits of the last batch, a view that the next batch overwrites."""
        start = llama_cpp.llama_get_logits(self.context)
        return np.ctypeslib.as_array(start, shape=(rows, self.vocabulary))

    def sample_all(self):
        """All samples once; returns their mean log-probability."""
        logits = np.empty((self.length, self.samples, self.vocabulary), dtype=np.float32)
        tokens = np.empty((self.length, self.samples), dtype=np.int64)
        draw, context, sampler, batch = (
            llama_cpp.llama_sampler_sample,
            self.context,
            self.sampler,
            self.batch,
        )
        logits[0] = self.read_prompt()
        chosen = [draw(sampler, context, -1) for _ in range(self.samples)]
        tokens[0] = chosen
        self.fill([(0, 0, sample, True) for sample in range(self.samples)])
        for place in range(1, self.length):
            position = len(self.prompt) + place - 1
            for sample, token in enumerate(chosen):
                batch.token[sample] = token
                batch.pos[sample] = position
            self.run()
            logits[place] = self.logits(self.samples)
            chosen = [draw(sampler, context, sample) for sample in range(self.samples)]
            tokens[place] = chosen
        logprobs = np.take_along_axis(log_softmax(logits), tokens[:, :, None], axis=2)
        return float(logprobs.mean(dtype=np.float64))


def decode(job):
    engine = Engine(job)
    sums = []

    def repeat():
        sums.append(engine.sample_all())
        return engine.samples * engine.length

    repeat()
    next_logprobs = log_softmax(engine.read_prompt()[0].astype(np.float64)).tolist()
    result = stack.measure(job["seconds"], repeat)
    return result | {"next_logprobs": next_logprobs, "mean_logprob": sum(sums) / len(sums)}


def main():
    job = stack.job()
    stack.answer({"decode": decode}[job["kind"]](job))


if __name__ == "__main__":
    main()
