"""Hugging Face `transformers`: `AutoModelForCausalLM.generate`, as documented, in float32 with its default cache."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import AutoModelForCausalLM

import stack


@torch.inference_mode()
def decode(job):
    model = AutoModelForCausalLM.from_pretrained(
        job["weights"], dtype=torch.float32, attn_implementation="sdpa"
    ).eval()
    prompt = torch.tensor([job["prompt"]])
    sums = []
    torch.manual_seed(1)

    def repeat():
        output = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            num_return_sequences=job["samples"],
            max_new_tokens=job["new_tokens"],
            return_dict_in_generate=True,
            output_logits=True,
        )
        tokens = output.sequences[:, prompt.shape[1] :]
        assert tokens.shape == (job["samples"], job["new_tokens"]), tokens.shape
        logprobs = torch.log_softmax(torch.stack(output.logits, dim=1), dim=-1)
        chosen = logprobs.gather(2, tokens.unsqueeze(2)).squeeze(2)
        sums.append(chosen.double().mean().item())
        return tokens.numel()

    repeat()
    next_logprobs = torch.log_softmax(model(prompt).logits[0, -1], dim=-1).tolist()
    result = stack.measure(job["seconds"], repeat)
    return result | {"next_logprobs": next_logprobs, "mean_logprob": sum(sums) / len(sums)}


def main():
    job = stack.job()
    torch.set_num_threads(job["threads"])
    stack.answer({"decode": decode}[job["kind"]](job))


if __name__ == "__main__":
    main()
