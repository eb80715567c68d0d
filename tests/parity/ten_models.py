"""Ten models, each written once for Keras and for easyflax: a builder takes the namespace, `keras`.

They are stated in all ways that Keras knows: `Sequential`, between symbolic values, as subclasses of `Model`,
and with layers of one's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

BATCH = 4


def perceptron(keras: Any, rate: float = 0.3) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(16, activation="relu", kernel_regularizer="l2"),
            layers.Dropout(rate, seed=1),
            layers.Dense(8, "tanh"),
            layers.Dense(5, activation="softmax", name="probabilities"),
        ],
        name="perceptron",
    )


def lenet(keras: Any) -> Any:
    layers = keras.layers
    model = keras.Sequential()
    model.add(keras.Input(shape=(28, 28, 1)))
    model.add(layers.Conv2D(6, kernel_size=5, padding="same", activation="tanh"))
    model.add(layers.AveragePooling2D(pool_size=(2, 2), strides=2))
    model.add(layers.Conv2D(16, kernel_size=(5, 5), activation="tanh"))
    model.add(layers.AveragePooling2D((2, 2)))
    model.add(layers.Flatten())
    model.add(layers.Dense(120, activation="tanh"))
    model.add(layers.Dense(84, activation="tanh"))
    model.add(layers.Dense(10))
    return model


def resnet18(keras: Any, width: int = 2) -> Any:
    layers = keras.layers

    def conv_norm(x: Any, filters: int, size: int, strides: int = 1) -> Any:
        x = layers.Conv2D(
            filters, size, strides, padding="same", use_bias=False, kernel_initializer="he_normal"
        )(x)
        return layers.BatchNormalization()(x)

    def block(x: Any, filters: int, strides: int) -> Any:
        y = layers.ReLU()(conv_norm(x, filters, 3, strides))
        y = conv_norm(y, filters, 3)
        if strides > 1:
            x = conv_norm(x, filters, 1, strides)
        return layers.ReLU()(layers.Add()([x, y]))

    inputs = keras.Input(shape=(32, 32, 3))
    x = layers.Activation("relu")(conv_norm(inputs, width, 3))
    for stage in range(4):
        for number in range(2):
            x = block(x, width * 2**stage, strides=2 if stage and not number else 1)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs=inputs, outputs=layers.Dense(10)(x), name="resnet18")


def unet(keras: Any) -> Any:
    layers = keras.layers

    def double_conv(x: Any, filters: int) -> Any:
        for _ in range(2):
            x = layers.Conv2D(filters, 3, activation="relu", padding="same")(x)
        return x

    inputs = x = keras.Input((16, 16, 1), name="picture")
    skips = []
    for filters in (2, 4):
        x = double_conv(x, filters)
        skips.append(x)
        x = layers.MaxPooling2D(2)(x)
    x = double_conv(x, 8)
    for filters, skip in zip((4, 2), reversed(skips)):
        x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same")(x)
        x = layers.concatenate([x, skip])
        x = double_conv(x, filters)
    return keras.Model(inputs, layers.Conv2D(3, 1, activation="softmax", name="classes")(x))


def lstm_classifier(keras: Any, rate: float = 0.2) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((7,), dtype="int32"),
            layers.Embedding(20, 6, mask_zero=True),
            layers.Bidirectional(layers.LSTM(5, return_sequences=True)),
            layers.LSTM(4),
            layers.Dropout(rate, seed=2),
            layers.Dense(3, activation="softmax"),
        ]
    )


def transformer(keras: Any, rate: float = 0.1) -> Any:
    layers = keras.layers

    class TokenAndPosition(layers.Layer):
        """The sum of an embedding of tokens, and of a learned one of their places."""

        def __init__(self, tokens, width, **kwargs):
            super().__init__(**kwargs)
            self.tokens, self.width = tokens, width
            self.embedding = layers.Embedding(tokens, width)

        def build(self, input_shape):
            self.positions = self.add_weight(
                shape=(input_shape[-1], self.width), initializer="uniform", name="positions"
            )
            self.embedding.build(input_shape)

        def call(self, tokens):
            return self.embedding(tokens) + self.positions

    class Block(layers.Layer):
        """Attention and two dense layers, each with a skip connection and a normalization after it."""

        def __init__(self, width, heads, hidden, **kwargs):
            super().__init__(**kwargs)
            self.attention = layers.MultiHeadAttention(num_heads=heads, key_dim=width // heads)
            self.feed = keras.Sequential([layers.Dense(hidden, activation="gelu"), layers.Dense(width)])
            self.norm1 = layers.LayerNormalization(epsilon=1e-6)
            self.norm2 = layers.LayerNormalization(epsilon=1e-6)
            self.dropout1 = layers.Dropout(rate, seed=3)
            self.dropout2 = layers.Dropout(rate, seed=4)

        def call(self, x, training=None):
            attended = self.dropout1(self.attention(x, x), training=training)
            x = self.norm1(x + attended)
            return self.norm2(x + self.dropout2(self.feed(x), training=training))

    inputs = keras.Input(shape=(6,), dtype="int32")
    x = TokenAndPosition(11, 8)(inputs)
    for _ in range(2):
        x = Block(8, heads=2, hidden=12)(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(3)(layers.Dropout(rate, seed=5)(x)))


def siamese(keras: Any) -> Any:
    layers = keras.layers
    encoder = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(3, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(6, activation="tanh"),
        ],
        name="encoder",
    )
    project = layers.Dense(4, use_bias=False, name="project")
    left, right = keras.Input((8, 8, 1), name="left"), keras.Input((8, 8, 1), name="right")
    a, b = project(encoder(left)), project(encoder(right))
    cosine = layers.Dot(axes=1, normalize=True)([a, b])
    features = layers.Concatenate()([abs(a - b), cosine])
    outputs = layers.Dense(1, activation="sigmoid", name="same")(features)
    return keras.Model(inputs=[left, right], outputs=outputs, name="siamese")


def wide_and_deep(keras: Any) -> Any:
    layers = keras.layers
    inputs = {
        "age": keras.Input((1,), name="age"),
        "city": keras.Input((1,), name="city", dtype="int32"),
        "features": keras.Input((6,), name="features"),
    }
    city = layers.Flatten()(layers.Embedding(10, 4, name="cities")(inputs["city"]))
    wide = layers.concatenate([inputs["features"], inputs["age"]])
    deep = layers.Concatenate()([inputs["age"], city, inputs["features"]])
    for units in (8, 6):
        deep = layers.BatchNormalization(momentum=0.9)(layers.Dense(units, activation="relu")(deep))
    both = layers.Dense(1, name="wide")(wide) + layers.Dense(1, name="deep")(deep)
    return keras.Model(inputs=inputs, outputs=both)


def autoencoder(keras: Any) -> Any:
    layers = keras.layers

    class Autoencoder(keras.Model):
        """A code of few numbers, and from it the picture again."""

        def __init__(self, code, shape):
            super().__init__()
            self.encoder = keras.Sequential(
                [
                    layers.Flatten(),
                    layers.Dense(code, activation="relu", activity_regularizer="l1"),
                ]
            )
            self.decoder = keras.Sequential(
                [
                    layers.Dense(int(np.prod(shape)), activation="sigmoid"),
                    layers.Reshape(shape),
                ]
            )

        def call(self, x, training=None):
            return self.decoder(self.encoder(x, training=training), training=training)

    return Autoencoder(5, (8, 8))


def multi_task(keras: Any) -> Any:
    layers = keras.layers
    inputs = keras.Input(shape=(10,), name="features")
    trunk = keras.Sequential(
        [layers.Dense(12), layers.LeakyReLU(0.1), layers.LayerNormalization()], name="trunk"
    )
    x = trunk(inputs)
    kind = layers.Dense(4, name="logits")(x)
    outputs = {
        "kind": layers.Softmax(name="kind")(kind),
        "score": layers.Dense(1, name="score")(layers.Concatenate()([x, kind])),
        "box": layers.Rescaling(2.0, offset=-1.0, name="box")(layers.Dense(4, activation="sigmoid")(x)),
    }
    return keras.Model(inputs, outputs, name="multi_task")


MODELS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        perceptron,
        lenet,
        resnet18,
        unet,
        lstm_classifier,
        transformer,
        siamese,
        wide_and_deep,
        autoencoder,
        multi_task,
    )
}


def inputs_for(name: str, rows: int = BATCH) -> Any:
    """Returns inputs of the model of that name."""
    rng = np.random.default_rng(0)

    def floats(*shape: int) -> Any:
        return rng.uniform(-1, 1, (rows, *shape)).astype("float32")

    def numbers(high: int, *shape: int) -> Any:
        return rng.integers(1, high, (rows, *shape)).astype("int32")

    if name == "lstm_classifier":  # of several lengths, filled up with zeros
        lengths = 2 + np.arange(rows) % 6
        return np.where(np.arange(7) < lengths[:, None], numbers(20, 7), 0).astype("int32")
    makers: dict[str, Callable[[], Any]] = {
        "perceptron": lambda: floats(12),
        "lenet": lambda: floats(28, 28, 1),
        "resnet18": lambda: floats(32, 32, 3),
        "unet": lambda: floats(16, 16, 1),
        "transformer": lambda: numbers(11, 6),
        "siamese": lambda: [floats(8, 8, 1), floats(8, 8, 1)],
        "wide_and_deep": lambda: {"age": floats(1), "city": numbers(10, 1), "features": floats(6)},
        "autoencoder": lambda: floats(8, 8),
        "multi_task": lambda: floats(10),
    }
    return makers[name]()
