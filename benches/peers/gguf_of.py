"""A Llama checkpoint in the Hugging Face format as GGUF in float32, for llama.cpp.

    python benches/peers/gguf_of.py FOLDER FILE.gguf

Token ids only: no tokenizer is written, so llama.cpp can decode with the file but not read or write text.
"""

import json
import sys
from pathlib import Path

import gguf
from safetensors.numpy import load_file

NAMES = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}
OUTER = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def interleaved(matrix, heads):
    """Rows of q or k so that rotary pairs are neighbours, as llama.cpp's llama wants; in the Hugging Face format the
    second of a pair lies half a head further."""
    rows, columns = matrix.shape
    return matrix.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def convert(folder, target):
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    if config["model_type"] != "llama":
        sys.exit(f"error: {folder} is a {config['model_type']}\nhint: only llama is converted here")
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for name, matrix in load_file(Path(folder) / "model.safetensors").items():
        if name in OUTER:
            writer.add_tensor(OUTER[name], matrix)
            continue
        _, _, layer, part = name.split(".", 3)
        if part.endswith("q_proj.weight"):
            matrix = interleaved(matrix, heads)
        elif part.endswith("k_proj.weight"):
            matrix = interleaved(matrix, kv_heads)
        writer.add_tensor(f"blk.{layer}.{NAMES[part]}", matrix.copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    convert(sys.argv[1], sys.argv[2])
