"""Real data at hand: digits inside the package, and well-known image sets by verified download."""

from easyflax.datasets.cifar10 import load_cifar10 as load_cifar10
from easyflax.datasets.digits import load_digits as load_digits
from easyflax.datasets.mnist import load_fashion_mnist as load_fashion_mnist
from easyflax.datasets.mnist import load_mnist as load_mnist

__all__ = ["load_cifar10", "load_digits", "load_fashion_mnist", "load_mnist"]
