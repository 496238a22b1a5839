"""PyTorch, eager (or `torch.compile` for training): a hand-written Llama block as one would write it for speed.

Fused q/k/v and gate/up matrices, scaled_dot_product_attention, fused AdamW; decoding with a static key/value cache,
the prompt computed once and spread over the samples. Reads the same safetensors as our engine.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

import stack


class Llama(nn.Module):
    """The shape of `config.json`, without grouped queries, biases and scaled positions, which no workload has."""

    def __init__(self, folder):
        super().__init__()
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        weights = load_file(Path(folder) / "model.safetensors")
        self.width, self.layers = config["hidden_size"], config["num_hidden_layers"]
        self.heads, self.head_width = config["num_attention_heads"], config["head_dim"]
        self.epsilon, self.vocabulary = config["rms_norm_eps"], config["vocab_size"]
        assert config["num_key_value_heads"] == self.heads and config["tie_word_embeddings"]

        def joined(layer, *names):
            return nn.Parameter(torch.cat([weights[f"model.layers.{layer}.{name}.weight"] for name in names]))

        # Rotary pairs as neighbours, so that one complex product turns them: three times as fast as halves.
        for name in [name for name in weights if name.endswith(("q_proj.weight", "k_proj.weight"))]:
            pairs = weights[name].view(self.heads, 2, self.head_width // 2, self.width)
            weights[name] = pairs.transpose(1, 2).reshape(-1, self.width)

        self.embedding = nn.Parameter(weights["model.embed_tokens.weight"])
        layers = range(self.layers)
        attention, mlp = "self_attn", "mlp"
        self.attention_norm = nn.ParameterList([joined(i, "input_layernorm") for i in layers])
        self.qkv = nn.ParameterList(
            [joined(i, f"{attention}.q_proj", f"{attention}.k_proj", f"{attention}.v_proj") for i in layers]
        )
        self.output = nn.ParameterList([joined(i, f"{attention}.o_proj") for i in layers])
        self.mlp_norm = nn.ParameterList([joined(i, "post_attention_layernorm") for i in layers])
        self.gate_up = nn.ParameterList([joined(i, f"{mlp}.gate_proj", f"{mlp}.up_proj") for i in layers])
        self.down = nn.ParameterList([joined(i, f"{mlp}.down_proj") for i in layers])
        self.norm = nn.Parameter(weights["model.norm.weight"])
        positions = torch.arange(config["max_position_embeddings"], dtype=torch.float32)
        pairs = torch.arange(0, self.head_width, 2, dtype=torch.float32) / self.head_width
        angles = torch.outer(positions, config["rope_theta"] ** -pairs)
        turns = torch.polar(torch.ones_like(angles), angles).view(1, len(positions), 1, 1, -1)
        self.register_buffer("turns", turns, persistent=False)

    def turned(self, x, first):
        """Rotary positions: x is [batch, time, q and k, heads, head width], beginning at position `first`."""
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * self.turns[:, first : first + x.shape[1]]).flatten(-2)

    def block(self, layer, x, first, attend):
        batch, time, _ = x.shape
        normed = F.rms_norm(x, (self.width,), self.attention_norm[layer], self.epsilon)
        qkv = F.linear(normed, self.qkv[layer]).view(batch, time, 3, self.heads, self.head_width)
        q, k = self.turned(qkv[:, :, :2], first).unbind(2)
        mixed = attend(layer, q.transpose(1, 2), k.transpose(1, 2), qkv[:, :, 2].transpose(1, 2))
        x = x + F.linear(mixed.transpose(1, 2).reshape(batch, time, -1), self.output[layer])
        normed = F.rms_norm(x, (self.width,), self.mlp_norm[layer], self.epsilon)
        gate, up = F.linear(normed, self.gate_up[layer]).chunk(2, dim=-1)
        return x + F.linear(F.silu(gate) * up, self.down[layer])

    def logits(self, x):
        return F.linear(F.rms_norm(x, (self.width,), self.norm, self.epsilon), self.embedding)

    def loss(self, tokens):
        """Mean cross-entropy of every token but the first."""

        def attend(_, q, k, v):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)

        x = F.embedding(tokens, self.embedding)
        for layer in range(self.layers):
            x = self.block(layer, x, 0, attend)
        logits = self.logits(x[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    def read_prompt(self, prompt, cache, samples):
        """Fills the cache of all samples with the prompt; logits behind it."""

        def attend(layer, q, k, v):
            cache[layer, 0, :, :, : len(prompt)] = k
            cache[layer, 1, :, :, : len(prompt)] = v
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)

        x = F.embedding(torch.tensor([prompt]), self.embedding)
        for layer in range(self.layers):
            x = self.block(layer, x, 0, attend)
        return self.logits(x[:, -1]).expand(samples, -1)

    def step(self, tokens, position, cache):
        """Logits behind one more token of each sample."""

        def attend(layer, q, k, v):
            cache[layer, 0, :, :, position] = k[:, :, 0]
            cache[layer, 1, :, :, position] = v[:, :, 0]
            keys, values = cache[layer, :, :, :, : position + 1]
            return F.scaled_dot_product_attention(q, keys, values)

        x = F.embedding(tokens.unsqueeze(1), self.embedding)
        for layer in range(self.layers):
            x = self.block(layer, x, position, attend)
        return self.logits(x[:, 0])


def train(job):
    model = Llama(job["weights"])
    given = job["optimiser"]
    matrices = [parameter for parameter in model.parameters() if parameter.dim() == 2]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() == 1]
    optimiser = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": given["weight_decay"]},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=given["learning_rate"],
        betas=(given["beta1"], given["beta2"]),
        eps=given["epsilon"],
        fused=True,
    )
    assert given["clip_norm"] == 0, "no stack clips"
    tokens = torch.tensor(
        [
            [stack.training_token(b, t, model.vocabulary) for t in range(job["tokens"])]
            for b in range(job["batch"])
        ]
    )
    loss_of = torch.compile(model.loss) if job["compile"] else model.loss

    def step():
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(tokens)
        loss.backward()
        optimiser.step()
        return loss.item()

    losses = [step() for _ in range(max(job["checked_steps"], 1))]

    def repeat():
        step()
        return tokens.numel()

    return stack.measure(job["seconds"], repeat) | {"losses": losses}


@torch.inference_mode()
def decode(job):
    model = Llama(job["weights"])
    prompt, samples, length = job["prompt"], job["samples"], job["new_tokens"]
    shape = (model.layers, 2, samples, model.heads, len(prompt) + length, model.head_width)
    cache = torch.zeros(shape)
    torch.manual_seed(1)
    sums = []

    def repeat():
        tokens = torch.empty(length, samples, dtype=torch.long)
        logprobs = torch.empty(length, samples)
        logits = model.read_prompt(prompt, cache, samples)
        for place in range(length):
            distribution = F.log_softmax(logits, dim=-1)
            # The largest p / noise is a draw from p (Gumbel); much cheaper here than `multinomial`.
            chosen = (distribution.exp() / torch.empty_like(distribution).exponential_()).argmax(dim=-1)
            tokens[place] = chosen
            logprobs[place] = distribution.gather(1, chosen.unsqueeze(1)).squeeze(1)
            if place + 1 < length:
                logits = model.step(chosen, len(prompt) + place, cache)
        sums.append(logprobs.double().mean().item())
        return tokens.numel()

    repeat()
    next_logprobs = F.log_softmax(model.read_prompt(prompt, cache, 1)[0], dim=-1).tolist()
    result = stack.measure(job["seconds"], repeat)
    return result | {"next_logprobs": next_logprobs, "mean_logprob": sum(sums) / len(sums)}


def main():
    job = stack.job()
    torch.set_num_threads(job["threads"])
    stack.answer({"train": train, "decode": decode}[job["kind"]](job))


if __name__ == "__main__":
    main()
