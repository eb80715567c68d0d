"""Learns the digits 0 to 4, and then, with few examples, the digits 5 to 9 on top of what it learned.

    python examples/transfer_learning.py            about fifteen seconds on two CPU cores
    python examples/transfer_learning.py --quick    one epoch each, to see that everything runs

Exits with 1 when the test accuracy on the new digits is below 0.93 after the full run, or when training the
new head has changed the layers below it.
"""

import argparse
import sys

import numpy as np

import easyflax as ef
from easyflax import layers

EXAMPLES = 200  # of the new digits
WANTED_ACCURACY = 0.93


def digits_of(images: np.ndarray, labels: np.ndarray, *, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns five digits from `first` on, images of floats from 0 to 1, labels from 0 to 4."""
    chosen = (labels >= first) & (labels < first + 5)
    return (images[chosen] / 16).astype(np.float32)[..., None], labels[chosen] - first


def compiled(model: ef.Model, learning_rate: float) -> ef.Model:
    optimizer = ef.optimizers.Adam(learning_rate)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main(quick: bool) -> int:
    ef.enable_compilation_cache()
    train, test = ef.datasets.load_digits()
    old, new, new_test = digits_of(*train, first=0), digits_of(*train, first=5), digits_of(*test, first=5)
    new = new[0][:EXAMPLES], new[1][:EXAMPLES]

    body = ef.Sequential(
        [
            ef.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
        ],
        name="body",
    )
    pretrained = ef.Sequential([body, layers.Dense(5, activation="softmax")])
    compiled(pretrained, 1e-3).fit(*old, epochs=1 if quick else 10, verbose=2)

    # Transfer learning: freeze what was learned, put a new head on, train that, then all of it a little.
    body.trainable = False
    model = ef.Sequential([body, layers.Dropout(0.3), layers.Dense(5, activation="softmax", name="head")])
    model.summary(show_trainable=True)
    before = body.get_weights()
    compiled(model, 3e-3).fit(*new, epochs=1 if quick else 40, verbose=0)
    unchanged = all(map(np.array_equal, before, body.get_weights()))
    head_only = model.evaluate(*new_test, verbose=0, return_dict=True)["accuracy"]
    body.trainable = True
    compiled(model, 3e-4).fit(*new, epochs=1 if quick else 40, verbose=0)
    accuracy = model.evaluate(*new_test, verbose=0, return_dict=True)["accuracy"]

    print(f"layers below the head, while it was trained: {'unchanged' if unchanged else 'CHANGED'}")
    print(
        f"accuracy on {len(new_test[0])} new digits: {head_only:.4f} with the head, {accuracy:.4f} fine-tuned"
    )
    return 0 if unchanged and (quick or accuracy >= WANTED_ACCURACY) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="train for one epoch each only")
    sys.exit(main(parser.parse_args().quick))
