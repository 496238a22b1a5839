"""What `transformers` says about our checkpoints, and about checkpoints that it wrote: the values our engine must meet.

    python tests/peers/logits.py            # computes everything again and compares it with the recorded values
    python tests/peers/logits.py --record   # writes the fixture and the three small checkpoints anew

The embedded model is read from its folder with `AutoModelForCausalLM` and `AutoTokenizer`, which shows that
`transformers` loads our models. The three small checkpoints go the other way: `transformers` makes them and
`save_pretrained` writes them, and each has something of its own that a loader can get wrong:

* `llama`: grouped-query attention, untied output, a head width of its own, a large rotary base;
* `qwen2`: biases on q, k, v, tied output, a byte-level tokenizer with Qwen's pattern;
* `qwen3`: RMSNorm on the heads of q and k, bfloat16, several shards, several end-of-text tokens.

`crates/native/tests/transformers.rs` compares. Needs `pip install torch transformers numpy`; no accelerator, no network.
"""

import argparse
import json
import os
import platform
import shutil
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import tokenizers
import torch
import transformers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "crates" / "native" / "tests" / "fixtures"
RECORD = FIXTURES / "transformers.json"

# How far two runs of `transformers` may differ (other processor, other version) before the record counts as stale.
TOLERANCE = 2e-5
# Greedy continuations must not hang on rounding: the likeliest token leads the second by at least this much.
LEAST_LEAD = 1e-3

SEEDLING_TEXTS = [
    "Sg=50;e=g-1;d=e+81;l=89;d?",
    "Sg=50;e=g-1;d=e+81;l=89;d?g=50;e=50-1=49;d=49+81=130#130<eos>",
    "Dk=7;m=k*9;m?#63",
    "Jg=50;e=g-1;e?g=50;e=50-1=48#48!N",
    "Bg=50;e=g-_;d=e+81;d=130;_?",
    "SAnn has 50.Bob has 1 less than Ann.Dimitri keeps 3 times as many as Bob.how many has Dimitri?",
    "  S g = 50 ;\n\te = g - 1 ; e ?  ",
    "Annabel owns 3 more than Ann.",
    "g<=1~2>(3,4):5/6!",
    "naïve 日本 €5",
    "<pad>S<unk>g=1<eos>",
    "hasAnnhas as AsAs",
    "x",
]
BYTE_LEVEL_TEXTS = [
    "Hello world, how many apples are left?",
    "  two  leading and   many inner spaces ",
    "line one\n\nline two\r\n\tindented",
    "1234567890 and 3.14159",
    "it's they'RE I'll we'd DON'T",
    "naïve café, Straße, Ωmega, 日本語, emoji 🙂🙃",
    "a<|endoftext|>b<|im_end|>",
    "x=3;y=x*4=12#12",
    "!!! ... ??? ((nested))",
    "\u00a0non-breaking\u2003em space",
    "e\u0301 decomposed, é composed",
    "A",
]
# The pattern of the Qwen models; it looks ahead, which not every regular-expression library can.
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def fingerprint(path):
    """FNV-1a, 64 bits, over the 32-bit little-endian words of a file: names the weights that were recorded."""
    data = path.read_bytes()
    data += bytes(-len(data) % 4)
    state = 0xCBF29CE484222325
    for word in memoryview(data).cast("I"):
        state = (state ^ word) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{state:016x}"


def byte_level_tokenizer():
    """A small byte-level BPE as Qwen's, trained on the text of this file's first lines."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.normalizer = tokenizers.normalizers.NFC()
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([__doc__], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def make_small_checkpoints():
    """Writes the three small checkpoints with random weights, large enough that every part matters to the result."""
    common = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4)
    common |= dict(num_key_value_heads=2, max_position_embeddings=64)
    tokenizer = byte_level_tokenizer()
    kinds = {
        "llama": (
            dict(vocab_size=48, head_dim=6, rms_norm_eps=1e-5, tie_word_embeddings=False, eos_token_id=2),
            500_000.0,
        ),
        "qwen2": (
            dict(vocab_size=len(tokenizer), rms_norm_eps=1e-6, tie_word_embeddings=True),
            1_000_000.0,
        ),
        "qwen3": (
            dict(vocab_size=48, head_dim=8, rms_norm_eps=1e-6, tie_word_embeddings=False, eos_token_id=[3, 5]),
            10_000.0,
        ),
    }
    for seed, (kind, (own, theta)) in enumerate(kinds.items()):
        rotary = {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}
        config = AutoConfig.for_model(kind, **common, **own, **rotary)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                if name.endswith("norm.weight"):
                    parameter.copy_(1.0 + 0.3 * noise)
                else:
                    parameter.copy_(0.35 * noise)
        folder = FIXTURES / kind
        shutil.rmtree(folder, ignore_errors=True)
        if kind == "qwen3":
            model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="6KB")
        else:
            model.save_pretrained(folder)
        if kind == "qwen2":
            tokenizer.save_pretrained(folder)


def rounded(values):
    return [round(float(value), 6) for value in values]


@torch.no_grad()
def sequence_record(model, tokens):
    """Log-probability of each token after the first, entropy of each distribution it came from, and the whole
    log-distribution behind the last token. Nats."""
    logits = model(torch.tensor([tokens])).logits[0].double()
    logprobs = torch.log_softmax(logits, dim=-1)
    entropies = -(logprobs.exp() * logprobs).sum(dim=-1)
    chosen = logprobs[:-1].gather(1, torch.tensor(tokens[1:]).long().unsqueeze(1)).squeeze(1)
    return {
        "tokens": tokens,
        "logprobs": rounded(chosen),
        "entropies": rounded(entropies[:-1]),
        "next": rounded(logprobs[-1]),
    }


@torch.no_grad()
def greedy_record(model, prompt, length):
    """The likeliest continuation, by `generate` with its cache, and its log-probabilities.

    Ends earlier where two tokens are nearly equally likely: there rounding would decide.
    """
    output = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=length,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        pad_token_id=0,
    )
    tokens, logprobs = [], []
    for token, logits in zip(output.sequences[0, len(prompt) :].tolist(), output.logits):
        distribution = torch.log_softmax(logits[0].double(), dim=-1)
        best, second = distribution.topk(2).values.tolist()
        if best - second < LEAST_LEAD:
            break
        tokens.append(token)
        logprobs.append(distribution[token])
    if not tokens:
        sys.exit(f"error: no clear greedy token after {prompt}\nhint: choose another prompt or another seed")
    return {"prompt": prompt, "tokens": tokens, "logprobs": rounded(logprobs)}


def model_record(folder, texts, sequences, prompts, greedy_length):
    """Everything recorded about one checkpoint; `texts` where it has a tokenizer, else token `sequences`."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    files = sorted(folder.glob("model*.safetensors"))
    record = {
        "folder": folder.relative_to(ROOT).as_posix(),
        "fingerprint": {file.name: fingerprint(file) for file in files},
        "end_tokens": [],
        "tokenizer": [],
        "sequences": [],
        "greedy": [],
    }
    ends = model.generation_config.eos_token_id
    record["end_tokens"] = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if texts:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        for text in texts:
            tokens = tokenizer(text)["input_ids"]
            record["tokenizer"].append(
                {
                    "text": text,
                    "tokens": tokens,
                    "decoded": tokenizer.decode(tokens, skip_special_tokens=True),
                    "decoded_all": tokenizer.decode(tokens, skip_special_tokens=False),
                }
            )
        sequences = [entry["tokens"] for entry in record["tokenizer"]]
        prompts = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    record["sequences"] = [sequence_record(model, tokens) for tokens in sequences]
    record["greedy"] = [greedy_record(model, prompt, greedy_length) for prompt in prompts]
    return record


def random_tokens(vocabulary, lengths, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(vocabulary, (length,), generator=generator).tolist() for length in lengths]


def everything():
    lengths = [2, 7, 24, 64]
    plain = dict(texts=[], sequences=random_tokens(48, lengths, 7), prompts=random_tokens(48, [1, 20], 8))
    return {
        "about": "Values of `transformers` in float32, written by tests/peers/logits.py --record.",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "models": [
            model_record(
                ROOT / "models" / "seedling",
                texts=SEEDLING_TEXTS,
                sequences=[],
                prompts=["Sg=50;e=g-1;d=e+81;l=89;d?", "Dk=7;m=k*9;m?", "Jg=50;e=g-1;e?g=50;e=50-1=48#48!"],
                greedy_length=60,
            ),
            model_record(FIXTURES / "llama", **plain, greedy_length=30),
            model_record(
                FIXTURES / "qwen2",
                texts=BYTE_LEVEL_TEXTS,
                sequences=[],
                prompts=["Hello", "x=3;"],
                greedy_length=30,
            ),
            model_record(FIXTURES / "qwen3", **plain, greedy_length=30),
        ],
    }


def written(record):
    """JSON with one line per array of numbers, so that a change can be read in a diff."""

    def lay(value, depth):
        indent = " " * depth
        if isinstance(value, dict) and value:
            inner = [f"{indent} {json.dumps(key)}: {lay(item, depth + 1)}" for key, item in value.items()]
            return "{\n" + ",\n".join(inner) + f"\n{indent}}}"
        if isinstance(value, list) and value and isinstance(value[0], dict):
            inner = [f"{indent} {lay(item, depth + 1)}" for item in value]
            return "[\n" + ",\n".join(inner) + f"\n{indent}]"
        return json.dumps(value, ensure_ascii=False)

    return lay(record, 0) + "\n"


def differences(old, new, at=""):
    """Places where two records differ: structure and whole numbers exactly, other numbers by more than the tolerance."""
    if isinstance(old, dict) and isinstance(new, dict):
        if old.keys() != new.keys():
            yield f"{at}: fields {sorted(old)} recorded, {sorted(new)} now"
            return
        for key in old:
            if f"{at}/{key}" != "/versions":
                yield from differences(old[key], new[key], f"{at}/{key}")
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield f"{at}: {len(old)} entries recorded, {len(new)} now"
            return
        for index, (left, right) in enumerate(zip(old, new)):
            yield from differences(left, right, f"{at}/{index}")
    elif isinstance(old, float) and isinstance(new, float):
        if not abs(old - new) <= TOLERANCE:
            yield f"{at}: {old} recorded, {new} now"
    elif old != new:
        yield f"{at}: {old!r} recorded, {new!r} now"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--record", action="store_true", help="write the fixture instead of comparing with it")
    arguments = arguments.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    if arguments.record:
        FIXTURES.mkdir(parents=True, exist_ok=True)
        make_small_checkpoints()
        record = everything()
        RECORD.write_text(written(record), encoding="utf-8")
        print(f"recorded {len(record['models'])} models in {RECORD.relative_to(ROOT)}")
        return
    if not RECORD.is_file():
        sys.exit(f"error: {RECORD.relative_to(ROOT)} is missing\nhint: write it with --record")
    found = list(differences(json.loads(RECORD.read_text(encoding="utf-8")), everything()))
    for line in found[:20]:
        print(line)
    if found:
        sys.exit(f"error: {len(found)} differences\nhint: if the models were meant to change, record again: --record")
    print("all recorded values are met")


if __name__ == "__main__":
    main()
