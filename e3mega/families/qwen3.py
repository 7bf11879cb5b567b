"""Qwen3 dense: its mapping table and its Hugging Face configuration."""

from e3mega.families.geometry import ModelOptions
from e3mega.families.mapping import HfTensor, Place, Shard, Weight

_ATTENTION = "decoder.layers.{layer}.self_attention"
_LAYER = "decoder.layers.{layer}"


def weights(model: ModelOptions) -> tuple[Weight, ...]:
    """Every parameter of the model, in the order of the Hugging Face model."""
    embedding = Weight(
        "embedding.word_embeddings.weight",
        (HfTensor("model.embed_tokens.weight", (model.vocab_size, model.hidden_size)),),
        Shard.VOCAB,
        Place.FIRST,
        copy_name="output_layer.weight" if model.ties_embeddings else "",
    )
    layers = [weight for layer in range(model.num_layers) for weight in _layer(model, layer)]
    norm = Weight(
        "decoder.final_layernorm.weight",
        (HfTensor("model.norm.weight", (model.hidden_size,)),),
        Shard.REPLICATED,
        Place.LAST,
        is_norm=True,
    )
    head = Weight(
        "output_layer.weight",
        (HfTensor("lm_head.weight", (model.vocab_size, model.hidden_size)),),
        Shard.VOCAB,
        Place.LAST,
    )
    return (embedding, *layers, norm, *(() if model.ties_embeddings else (head,)))


def _layer(model: ModelOptions, layer: int) -> tuple[Weight, ...]:
    width, ffn = model.hidden_size, model.ffn_size
    query, key = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim

    def tensor(name: str, *shape: int) -> HfTensor:
        return HfTensor(f"model.layers.{layer}.{name}.weight", shape)

    def weight(name: str, shard: Shard, *hf: HfTensor, num_groups: int = 1) -> Weight:
        return Weight(f"{name}.weight", hf, shard, Place.LAYER, layer, num_groups)

    def norm(name: str, hf: HfTensor) -> Weight:
        return Weight(f"{name}.weight", (hf,), Shard.REPLICATED, Place.LAYER, layer, is_norm=True)

    return (
        norm(f"{_LAYER}.input_layernorm", tensor("input_layernorm", width)),
        weight(
            f"{_ATTENTION}.linear_qkv",
            Shard.QKV,
            tensor("self_attn.q_proj", query, width),
            tensor("self_attn.k_proj", key, width),
            tensor("self_attn.v_proj", key, width),
            num_groups=model.num_kv_heads,
        ),
        norm(f"{_ATTENTION}.q_layernorm", tensor("self_attn.q_norm", model.head_dim)),
        norm(f"{_ATTENTION}.k_layernorm", tensor("self_attn.k_norm", model.head_dim)),
        weight(f"{_ATTENTION}.linear_proj", Shard.ROW, tensor("self_attn.o_proj", width, query)),
        norm(f"{_LAYER}.pre_mlp_layernorm", tensor("post_attention_layernorm", width)),
        weight(
            f"{_LAYER}.mlp.linear_fc1",
            Shard.GATE_UP,
            tensor("mlp.gate_proj", ffn, width),
            tensor("mlp.up_proj", ffn, width),
        ),
        weight(f"{_LAYER}.mlp.linear_fc2", Shard.ROW, tensor("mlp.down_proj", width, ffn)),
    )


def hf_config(model: ModelOptions) -> dict[str, object]:
    """What config.json of the Hugging Face folder holds; token ids of the task are added to it."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "head_dim": model.head_dim,
        "hidden_act": "silu",
        "hidden_size": model.hidden_size,
        "initializer_range": model.init_std,
        "intermediate_size": model.ffn_size,
        "max_position_embeddings": model.max_context_tokens,
        "max_window_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "num_hidden_layers": model.num_layers,
        "num_key_value_heads": model.num_kv_heads,
        "rms_norm_eps": model.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_theta},
        "rope_scaling": None,
        "rope_theta": model.rope_theta,
        "sliding_window": None,
        "tie_word_embeddings": model.ties_embeddings,
        "dtype": model.precision.value,
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": model.vocab_size,
    }
