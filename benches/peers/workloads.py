"""What is measured: the shapes, the jobs, and the ratios aimed at. One place for all stacks."""

from dataclasses import dataclass, field

OURS = "elenchus"
TORCH, COMPILED, TRANSFORMERS, LLAMA = "torch", "torch-compile", "transformers", "llama.cpp"

# stack: (program, modules it needs, how to get them)
STACKS = {
    OURS: (None, [], "install Rust 1.95 from https://rustup.rs"),
    TORCH: ("stack_torch.py", ["torch", "safetensors"], "pip install torch safetensors numpy"),
    COMPILED: ("stack_torch.py", ["torch", "safetensors"], "pip install torch safetensors numpy, and a C++ compiler"),
    TRANSFORMERS: ("stack_transformers.py", ["torch", "transformers"], "pip install torch transformers numpy"),
    LLAMA: (
        "stack_llama.py",
        ["llama_cpp", "gguf", "safetensors"],
        'CMAKE_ARGS="-DGGML_NATIVE=ON" pip install llama-cpp-python gguf safetensors numpy',
    ),
}

PROMPT_TOKENS, NEW_TOKENS = 48, 96


def shape(width, layers, heads, intermediate, vocabulary):
    """The fields of our `ModelConfig`; no token ends a sequence, so every sample has its full length."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": intermediate,
        "layers": layers,
        "heads": heads,
        "kv_heads": heads,
        "head_dim": width // heads,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-5,
        "max_positions": 256,
        "tie_embeddings": True,
        "qkv_bias": False,
        "qk_norm": False,
        "eos_token_ids": [],
    }


SHAPES = {"S": shape(128, 4, 4, 384, 128), "M": shape(256, 6, 8, 768, 512)}
TRAINING = {"S": {"tokens": 128, "batch": 64}, "M": {"tokens": 256, "batch": 32}}
# No clipping: with it each stack would add a pass of its own kind.
OPTIMISER = {
    "learning_rate": 1e-3,
    "beta1": 0.9,
    "beta2": 0.95,
    "epsilon": 1e-8,
    "weight_decay": 0.01,
    "clip_norm": 0.0,
}


@dataclass
class Workload:
    name: str
    size: str
    title: str
    # The job without weights, threads and seconds.
    job: dict
    stacks: list
    # Least ratio of our speed to a stack's.
    aims: dict = field(default_factory=dict)


def workloads():
    found = []
    for size, given in TRAINING.items():
        found.append(
            Workload(
                f"train-{size}",
                size,
                f"training {size}: batch {given['batch']} of {given['tokens']} tokens, AdamW",
                {"kind": "train", **given, "checked_steps": 3, "optimiser": OPTIMISER},
                [OURS, TORCH, COMPILED],
                {TORCH: 2.0},
            )
        )
    for samples, aims in [(64, {TORCH: 2.0, TRANSFORMERS: 3.0, LLAMA: 1.0}), (1, {TORCH: 3.0, LLAMA: 1.0})]:
        for size, given in SHAPES.items():
            prompt = [(31 * place * place + 7 * place) % given["vocab_size"] for place in range(PROMPT_TOKENS)]
            found.append(
                Workload(
                    f"decode-{size}-{samples}",
                    size,
                    f"decoding {size}: {samples} sample{'s' if samples > 1 else ''} of {NEW_TOKENS} tokens"
                    f" from one {PROMPT_TOKENS}-token prompt",
                    {"kind": "decode", "prompt": prompt, "samples": samples, "new_tokens": NEW_TOKENS},
                    [OURS, TORCH, TRANSFORMERS, LLAMA],
                    aims,
                )
            )
    for size in SHAPES:
        # One request in four is long (96 to 191 tokens), the others have 4 to 47.
        requests = [
            {
                "prompt_tokens": 16 + i * 7 % 48,
                "new_tokens": 96 + i * 31 % 96 if i % 4 == 0 else 4 + i * 13 % 44,
            }
            for i in range(160)
        ]
        found.append(
            Workload(
                f"unequal-{size}",
                size,
                f"decoding {size}: 320 sequences of 4 to 191 tokens, 64 at once",
                {"kind": "unequal", "rows": 64, "samples": 2, "requests": requests},
                [OURS],
            )
        )
    return found


# Aims that are no ratios: (workload, field of our answer, least, most, text).
LIMITS = [
    ("train-S", "gemm_share", 0.60, None, "share of the measured GEMM peak"),
    ("train-M", "gemm_share", 0.60, None, "share of the measured GEMM peak"),
    ("train-M", "peak_memory_mb", None, 250.0, "peak resident memory, MB"),
    # The stricter of the two ways to count: also places of the batch that stay empty at the end.
    ("unequal-S", "idle_places", None, 0.10, "idle places"),
    ("unequal-M", "idle_places", None, 0.10, "idle places"),
]
