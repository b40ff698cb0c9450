"""Fashion-MNIST: clothing in the form of MNIST."""

from __future__ import annotations

from vem.data import idx
from vem.data.dataset import Data
from vem.data.files import data_folder, sources
from vem.data.prepare import BINARIZATIONS, prepare
from vem.errors import choice

FILES = sources(
    "fashion-mnist/{}",
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    {
        idx.TRAIN_IMAGES: "sha256:3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        idx.TRAIN_LABELS: "sha256:a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        idx.TEST_IMAGES: "sha256:346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        idx.TEST_LABELS: "sha256:67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
)


def fashion_mnist(
    binarize: str = "static", root: str | None = None, seed: int = 0, max_train: int | None = None
) -> Data:
    """Fashion-MNIST, 50,000 / 10,000 / 10,000 labelled images, x [N, 28, 28].

    ``static``: x ~ Bernoulli(grey), drawn once from ``seed`` (vem's own draw: nobody published one).
    ``stochastic``: the training x is drawn again every epoch. ``threshold``: grey ≥ ½. ``none``: the
    grey levels in [0, 1]. The validation split is the last 10,000 of the 60,000 training images.

    Raises:
        VemError: a file is missing and cannot be fetched, or has the wrong checksum; a bad option.

    Source: Xiao, Rasul and Vollgraf, 2017; static binarization as in Cremer, Li and Duvenaud, 2018.
    """
    choice(binarize, BINARIZATIONS, "data.binarize")
    return prepare(idx.load("fashion_mnist", FILES, data_folder(root), seed), binarize, max_train)
