"""The mapping table of a decoder-only transformer, whichever family it is of."""

from e3mega.families.form import FamilyForm
from e3mega.families.geometry import ExpertOptions, ModelOptions
from e3mega.families.mapping import HfTensor, Place, Shard, Start, Weight

_LAYER = "decoder.layers.{layer}"
_ATTENTION = f"{_LAYER}.self_attention"
_EXPERT = f"{_LAYER}.mlp.experts.local_experts.{{expert}}"


def decoder_weights(model: ModelOptions, form: FamilyForm) -> tuple[Weight, ...]:
    """Every parameter of the model, in the order of the Hugging Face model."""
    embedding, *rest = end_weights(model)
    layers = [
        weight for layer in range(model.num_layers) for weight in layer_weights(model, form, layer)
    ]
    return (embedding, *layers, *rest)


def layer_weights(model: ModelOptions, form: FamilyForm, layer: int) -> tuple[Weight, ...]:
    """The parameters of one layer."""
    return (*_attention(model, form, layer), *_feed_forward(model, layer))


def end_weights(model: ModelOptions) -> tuple[Weight, ...]:
    """The embedding, the final norm, and the LM head where it is not tied."""
    rows = (model.vocab_size, model.hidden_size)
    embedding = Weight(
        "embedding.word_embeddings.weight",
        (HfTensor("model.embed_tokens.weight", rows),),
        Shard.VOCAB,
        Place.FIRST,
        copy_name="output_layer.weight" if model.ties_embeddings else "",
    )
    norm = Weight(
        "decoder.final_layernorm.weight",
        (HfTensor("model.norm.weight", (model.hidden_size,)),),
        Shard.REPLICATED,
        Place.LAST,
        start=Start.ONE,
    )
    head = Weight(
        "output_layer.weight", (HfTensor("lm_head.weight", rows),), Shard.VOCAB, Place.LAST
    )
    return (embedding, norm, *(() if model.ties_embeddings else (head,)))


def _tensor(layer: int, name: str, *shape: int) -> HfTensor:
    return HfTensor(f"model.layers.{layer}.{name}", shape)


def _norm(layer: int, megatron_name: str, hf_name: str, width: int) -> Weight:
    tensor = _tensor(layer, f"{hf_name}.weight", width)
    name = f"{megatron_name}.weight"
    return Weight(name, (tensor,), Shard.REPLICATED, Place.LAYER, layer, start=Start.ONE)


def _attention(model: ModelOptions, form: FamilyForm, layer: int) -> list[Weight]:
    """The norm before attention, and attention."""
    width, groups = model.hidden_size, model.num_kv_heads
    query, key = model.num_heads * model.head_dim, groups * model.head_dim
    projections = (("q_proj", query), ("k_proj", key), ("v_proj", key))

    def fused(kind: str, *inputs: int, start: Start) -> Weight:
        tensors = tuple(
            _tensor(layer, f"self_attn.{name}.{kind}", rows, *inputs) for name, rows in projections
        )
        name = f"{_ATTENTION}.linear_qkv.{kind}"
        return Weight(name, tensors, Shard.QKV, Place.LAYER, layer, groups, start=start)

    found = [
        _norm(layer, f"{_LAYER}.input_layernorm", "input_layernorm", width),
        fused("weight", width, start=Start.RANDOM),
    ]
    if form.has_qkv_bias:
        found.append(fused("bias", start=Start.ZERO))
    if form.has_qk_norm:
        found += [
            _norm(layer, f"{_ATTENTION}.{kind}_layernorm", f"self_attn.{kind}_norm", model.head_dim)
            for kind in ("q", "k")
        ]
    output = (_tensor(layer, "self_attn.o_proj.weight", width, query),)
    name = f"{_ATTENTION}.linear_proj.weight"
    found.append(Weight(name, output, Shard.ROW, Place.LAYER, layer))
    return found


def _feed_forward(model: ModelOptions, layer: int) -> list[Weight]:
    """The norm before the feed-forward block, and the block or its router and experts."""
    name = "post_attention_layernorm"
    found = [_norm(layer, f"{_LAYER}.pre_mlp_layernorm", name, model.hidden_size)]
    experts = model.experts
    if experts is None or not model.has_experts_in(layer):
        return found + _swiglu(model, layer, f"{_LAYER}.mlp", "mlp", model.ffn_size)
    return found + _experts(model, experts, layer)


def _experts(model: ModelOptions, experts: ExpertOptions, layer: int) -> list[Weight]:
    gate = (_tensor(layer, "mlp.gate.weight", experts.num_experts, model.hidden_size),)
    name = f"{_LAYER}.mlp.router.weight"
    found = [Weight(name, gate, Shard.REPLICATED, Place.LAYER, layer)]
    for expert in range(experts.num_experts):
        hf_name = f"mlp.experts.{expert}"
        found += _swiglu(model, layer, _EXPERT, hf_name, experts.ffn_size, expert=expert)
    return found


def _swiglu(
    model: ModelOptions,
    layer: int,
    megatron_name: str,
    hf_name: str,
    ffn_size: int,
    *,
    expert: int | None = None,
) -> list[Weight]:
    width = model.hidden_size
    up = tuple(
        _tensor(layer, f"{hf_name}.{name}.weight", ffn_size, width)
        for name in ("gate_proj", "up_proj")
    )
    down = (_tensor(layer, f"{hf_name}.down_proj.weight", width, ffn_size),)
    first, second = f"{megatron_name}.linear_fc1.weight", f"{megatron_name}.linear_fc2.weight"
    return [
        Weight(first, up, Shard.GATE_UP, Place.LAYER, layer, expert=expert),
        Weight(second, down, Shard.ROW, Place.LAYER, layer, expert=expert),
    ]
