"""Architectures of published weights, written out in PyTorch with the names that their files have.

Our models are written as one would write them here, and `names=` translates. All is computed in float32;
several layers follow each other, so results are compared to 2e-5 of the largest value.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import interop, nnx

torch = pytest.importorskip("torch")
nn = torch.nn
functional = torch.nn.functional


def with_random_weights(module: Any) -> Any:
    """The module with weights and biases drawn anew, so that no zero or one hides a mistake."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.05 + 0.3 * torch.randn(parameter.shape, generator=generator))
    return module


def assert_close(ours: Any, theirs: Any) -> None:
    theirs = theirs.detach().numpy()
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=2e-5, atol=2e-5 * np.max(np.abs(theirs)))


def write_in_two_files(folder: Path, tensors: dict[str, Any]) -> Path:
    """Writes safetensors files with an index beside them, as models that are too large for one file have."""
    save_file = pytest.importorskip("safetensors.torch").save_file
    names = sorted(tensors)
    places = {name: f"model-{1 + i % 2:05}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(places.values()):
        inside = {name: tensors[name].contiguous() for name in names if places[name] == file}
        save_file(inside, folder / file, metadata={"format": "pt"})
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": places}))
    return index


# -- a decoder as Llama's: RMSNorm, rotary positions, fewer heads for keys than for queries, a gated layer


def rotation(length: int, size: int) -> np.ndarray:
    """Angles of the positions, `(length, 1, size)`, each twice."""
    angles = np.arange(length)[:, None] / 10000.0 ** (np.arange(0, size, 2) / size)
    return np.concatenate([angles, angles], axis=1)[:, None].astype(np.float32)


class TorchDecoderLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn, self.mlp = nn.Module(), nn.Module()
        for name, out in {"q_proj": 16, "k_proj": 8, "v_proj": 8, "o_proj": 16}.items():
            setattr(self.self_attn, name, nn.Linear(16, out, bias=False))
        self.mlp.gate_proj, self.mlp.up_proj = nn.Linear(16, 20, bias=False), nn.Linear(16, 20, bias=False)
        self.mlp.down_proj = nn.Linear(20, 16, bias=False)
        self.input_layernorm = nn.RMSNorm(16, eps=1e-5)
        self.post_attention_layernorm = nn.RMSNorm(16, eps=1e-5)

    def attend(self, x: Any) -> Any:
        def rotated(x: Any) -> Any:
            angles = torch.from_numpy(rotation(x.shape[1], 4))
            first, second = x.chunk(2, -1)
            return x * angles.cos() + torch.cat([-second, first], -1) * angles.sin()

        projections = (self.self_attn.q_proj, self.self_attn.k_proj, self.self_attn.v_proj)
        q, k, v = (projection(x).unflatten(-1, (-1, 4)) for projection in projections)
        q, k, v = (y.transpose(1, 2) for y in (rotated(q), rotated(k), v))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.self_attn.o_proj(y.transpose(1, 2).flatten(2))

    def forward(self, x: Any) -> Any:
        x = x + self.attend(self.input_layernorm(x))
        y = self.post_attention_layernorm(x)
        return x + self.mlp.down_proj(functional.silu(self.mlp.gate_proj(y)) * self.mlp.up_proj(y))


class TorchDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(11, 16)
        self.model.layers = nn.ModuleList([TorchDecoderLayer() for _ in range(2)])
        self.model.norm = nn.RMSNorm(16, eps=1e-5)
        self.lm_head = nn.Linear(16, 11, bias=False)

    def forward(self, ids: Any) -> Any:
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x)
        return self.lm_head(self.model.norm(x))


def rotating_attention(q: Any, k: Any, v: Any, **options: Any) -> Any:
    def rotated(x: Any) -> Any:
        angles = rotation(x.shape[1], x.shape[-1])
        first, second = jnp.split(x, 2, axis=-1)
        return x * jnp.cos(angles) + jnp.concatenate([-second, first], axis=-1) * jnp.sin(angles)

    return nnx.dot_product_attention(rotated(q), rotated(k), v, **options)


class DecoderLayer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.attention = nnx.MultiHeadAttention(
            4, 16, num_kv_heads=2, use_bias=False, attention_fn=rotating_attention, decode=False, rngs=rngs
        )
        self.gate, self.up = (nnx.Linear(16, 20, use_bias=False, rngs=rngs) for _ in range(2))
        self.down = nnx.Linear(20, 16, use_bias=False, rngs=rngs)
        self.norm1, self.norm2 = (nnx.RMSNorm(16, epsilon=1e-5, rngs=rngs) for _ in range(2))

    def __call__(self, x: Any) -> Any:
        x = x + self.attention(self.norm1(x), is_causal=True)
        y = self.norm2(x)
        return x + self.down(nnx.silu(self.gate(y)) * self.up(y))


class Decoder(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Embed(11, 16, rngs=rngs)
        self.layers = [DecoderLayer(rngs) for _ in range(2)]
        self.norm = nnx.RMSNorm(16, epsilon=1e-5, rngs=rngs)
        self.head = nnx.Linear(16, 11, use_bias=False, rngs=rngs)

    def __call__(self, ids: Any) -> Any:
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


DECODER_NAMES = {
    "embed": "model.embed_tokens",
    "layers.*.norm1": "model.layers.*.input_layernorm",
    "layers.*.norm2": "model.layers.*.post_attention_layernorm",
    "layers.*.attention": "model.layers.*.self_attn",
    "layers.*.attention.out_proj": "model.layers.*.self_attn.o_proj",
    "layers.*.gate": "model.layers.*.mlp.gate_proj",
    "layers.*.up": "model.layers.*.mlp.up_proj",
    "layers.*.down": "model.layers.*.mlp.down_proj",
    "norm": "model.norm",
    "head": "lm_head",
}


@pytest.mark.slow
def test_a_decoder_of_language_from_several_files_has_equal_outputs_and_gradients(tmp_path):
    theirs = with_random_weights(TorchDecoder())
    index = write_in_two_files(tmp_path, theirs.state_dict())
    ours = nnx.eval_shape(lambda: Decoder(nnx.Rngs(0)))
    interop.load_torch(ours, index, DECODER_NAMES)
    ids = np.array([[1, 10, 0, 3, 3], [7, 7, 2, 5, 9]])
    logits = theirs(torch.from_numpy(ids))
    functional.cross_entropy(logits[:, :-1].flatten(0, 1), torch.from_numpy(ids[:, 1:]).flatten()).backward()

    def loss(model: Decoder) -> Any:
        logits = model(ids)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), ids[:, 1:, None], axis=-1)
        return -jnp.mean(chosen), logits

    grads, y = nnx.jit(nnx.grad(loss, has_aux=True))(ours)
    assert_close(y, logits)
    back = interop.to_torch(ours, DECODER_NAMES, like=index)
    assert back.keys() == theirs.state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in theirs.state_dict().items())
    nnx.update(ours, grads)
    converted = interop.to_torch(ours, DECODER_NAMES, like=theirs)  # all conversions are linear
    for name, parameter in theirs.named_parameters():
        assert_close(converted[name], parameter.grad)


# -- an encoder of sound and a decoder of text, as Whisper's: convolutions over time, attention from one to
# the other, keys without a bias, and an output layer that is the embedding once more


class TorchAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.k_proj = nn.Linear(8, 8, bias=False)
        self.q_proj, self.v_proj, self.out_proj = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: Any, memory: Any, *, is_causal: bool = False) -> Any:
        q, k, v = self.q_proj(x), self.k_proj(memory), self.v_proj(memory)
        q, k, v = (y.unflatten(-1, (2, 4)).transpose(1, 2) for y in (q, k, v))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
        return self.out_proj(y.transpose(1, 2).flatten(2))


class TorchSpeechLayer(nn.Module):
    def __init__(self, *, crosses: bool) -> None:
        super().__init__()
        self.self_attn, self.self_attn_layer_norm = TorchAttention(), nn.LayerNorm(8)
        if crosses:
            self.encoder_attn, self.encoder_attn_layer_norm = TorchAttention(), nn.LayerNorm(8)
        self.fc1, self.fc2, self.final_layer_norm = nn.Linear(8, 12), nn.Linear(12, 8), nn.LayerNorm(8)

    def forward(self, x: Any, memory: Any = None) -> Any:
        y = self.self_attn_layer_norm(x)
        x = x + self.self_attn(y, y, is_causal=memory is not None)
        if memory is not None:
            x = x + self.encoder_attn(self.encoder_attn_layer_norm(x), memory)
        return x + self.fc2(functional.gelu(self.fc1(self.final_layer_norm(x))))


class TorchSpeech(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.conv1 = nn.Conv1d(5, 8, 3, padding=1)
        self.encoder.conv2 = nn.Conv1d(8, 8, 3, stride=2, padding=1)
        self.encoder.embed_positions = nn.Embedding(6, 8)
        self.encoder.layers = nn.ModuleList([TorchSpeechLayer(crosses=False)])
        self.decoder.embed_tokens, self.decoder.embed_positions = nn.Embedding(7, 8), nn.Embedding(9, 8)
        self.decoder.layers = nn.ModuleList([TorchSpeechLayer(crosses=True)])
        self.proj_out = nn.Linear(8, 7, bias=False)
        self.proj_out.weight = self.decoder.embed_tokens.weight

    def forward(self, sound: Any, ids: Any) -> Any:
        x = functional.gelu(self.encoder.conv2(functional.gelu(self.encoder.conv1(sound)))).transpose(1, 2)
        memory = self.encoder.layers[0](x + self.encoder.embed_positions.weight)
        y = self.decoder.embed_tokens(ids) + self.decoder.embed_positions.weight[: ids.shape[1]]
        return self.proj_out(self.decoder.layers[0](y, memory))


def gelu(x: Any) -> Any:
    return nnx.gelu(x, approximate=False)


class SpeechLayer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, *, crosses: bool) -> None:
        def attention_and_norm() -> tuple[nnx.MultiHeadAttention, nnx.LayerNorm]:
            attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
            return attention, nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs)

        self.self_attn, self.self_attn_layer_norm = attention_and_norm()
        if crosses:
            self.encoder_attn, self.encoder_attn_layer_norm = attention_and_norm()
        self.fc1, self.fc2 = nnx.Linear(8, 12, rngs=rngs), nnx.Linear(12, 8, rngs=rngs)
        self.final_layer_norm = nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs)

    def __call__(self, x: Any, memory: Any = None) -> Any:
        x = x + self.self_attn(self.self_attn_layer_norm(x), is_causal=memory is not None)
        if memory is not None:
            x = x + self.encoder_attn(self.encoder_attn_layer_norm(x), memory)
        return x + self.fc2(gelu(self.fc1(self.final_layer_norm(x))))


class TiedOutput(nnx.Module):
    """Shares the embedding's variable, which is then found and written under the names of both."""

    def __init__(self, embed: nnx.Embed) -> None:
        self.weight = embed.embedding

    def __call__(self, x: Any) -> Any:
        return x @ self.weight[...].T


class Speech(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.encoder = nnx.Dict(
            conv1=nnx.Conv(5, 8, 3, padding=1, rngs=rngs),
            conv2=nnx.Conv(8, 8, 3, strides=2, padding=1, rngs=rngs),
            embed_positions=nnx.Embed(6, 8, rngs=rngs),
            layers=nnx.List([SpeechLayer(rngs, crosses=False)]),
        )
        self.decoder = nnx.Dict(
            embed_tokens=nnx.Embed(7, 8, rngs=rngs),
            embed_positions=nnx.Embed(9, 8, rngs=rngs),
            layers=nnx.List([SpeechLayer(rngs, crosses=True)]),
        )
        self.proj_out = TiedOutput(self.decoder.embed_tokens)

    def __call__(self, sound: Any, ids: Any) -> Any:
        x = gelu(self.encoder.conv2(gelu(self.encoder.conv1(sound))))
        memory = self.encoder.layers[0](x + self.encoder.embed_positions.embedding)
        y = self.decoder.embed_tokens(ids) + self.decoder.embed_positions.embedding[: ids.shape[1]]
        return self.proj_out(self.decoder.layers[0](y, memory))


@pytest.mark.slow
def test_an_encoder_of_sound_with_a_decoder_of_text_is_equal_and_goes_back():
    theirs, ours = with_random_weights(TorchSpeech()), Speech(nnx.Rngs(0))
    names = {"*.layers.*.*.k_proj.bias": None}
    interop.load_torch(ours, theirs, names)
    sound = np.random.default_rng(0).normal(size=(2, 5, 12)).astype(np.float32)
    ids = np.array([[1, 6, 0, 3], [5, 5, 2, 4]])
    y = nnx.jit(lambda model, sound, ids: model(sound, ids))(ours, sound.transpose(0, 2, 1), ids)
    assert_close(y, theirs(torch.from_numpy(sound), torch.from_numpy(ids)))
    back = interop.to_torch(ours, names, like=theirs)
    assert all(torch.equal(back[name], tensor) for name, tensor in theirs.state_dict().items())
    theirs.load_state_dict(back)  # strictly, so no name is missing
