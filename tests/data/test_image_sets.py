"""The real data sets: their published numbers, and each fetched from a server on this machine."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from sklearn.datasets import load_digits

from vem.data import fashion_mnist, frey_faces, idx, mnist, omniglot, silhouettes
from vem.data.digits import digits
from vem.errors import VemError

TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def sizes(data):
    return len(data.train), len(data.valid), len(data.test)


def everything(data, *names):
    """x and labels of these splits (all of them), one after the other."""
    parts = [data.split(name) for name in names or ("train", "valid", "test")]
    return torch.cat([part.x for part in parts]), torch.cat([part.labels for part in parts])


def test_digits_are_scikit_learns_and_split_by_seed():
    data, other = digits(binarize="none"), digits(binarize="none", seed=1)
    assert sizes(data) == (1297, 250, 250) and data.image_shape == (8, 8) and data.kind == "real"
    (x, labels), bunch = everything(data), load_digits()
    assert float(x.double().sum() * 16) == bunch.data.sum()
    assert torch.equal(labels.bincount(), torch.from_numpy(bunch.target).bincount())
    assert not torch.equal(data.test.x, other.test.x)
    assert digits().kind == "binary" and digits(binarize="stochastic").redrawn


def test_static_mnist_is_read_as_its_text_says_and_its_test_rows_are_shuffled(data_root):
    data = mnist.mnist(root=data_root)
    assert sizes(data) == (50_000, 10_000, 10_000) and data.event_shape == (28, 28) == data.image_shape
    assert data.kind == "binary" and not data.redrawn
    means = [round(float(data.split(name).x.mean()), 5) for name in ("train", "valid", "test")]
    assert means == [0.13056, 0.13113, 0.13251]
    assert data.train.labels is None and any("no labels" in note for note in data.notes)
    path = data_root / "binarized-mnist" / "binarized_mnist_test.amat.gz"
    text = np.fromstring(gzip.decompress(path.read_bytes()).decode(), np.float32, sep=" ").reshape(-1, 784)
    test = data.test.x.reshape(-1, 784).numpy()
    assert np.array_equal(test[np.lexsort(test.T)], text[np.lexsort(text.T)])
    # Zeros have more ink than ones: sorted by digit, the first thousand would stand far from the mean.
    assert abs(test[:1000].mean() - test.mean()) < 0.005 < abs(text[:1000].mean() - text.mean())


@pytest.mark.parametrize(
    ("load", "counts", "means"),
    [
        (mnist.mnist, (TRAIN_COUNTS, TEST_COUNTS), (0.130660, 0.132515)),
        (fashion_mnist.fashion_mnist, ([6000] * 10, [1000] * 10), (0.286041, 0.286849)),
    ],
)
def test_grey_mnist_and_fashion_mnist_have_the_published_labels_and_means(data_root, load, counts, means):
    data = load(binarize="none", root=data_root)
    assert sizes(data) == (50_000, 10_000, 10_000) and data.kind == "real"
    for names, count, mean in zip((("train", "valid"), ("test",)), counts, means, strict=True):
        x, labels = everything(data, *names)
        assert labels.bincount().tolist() == count
        assert float(x.mean()) == pytest.approx(mean, abs=1e-6) and float(x.max()) == 1


def test_omniglot(data_root):
    data = omniglot.omniglot(binarize="none", root=data_root)
    assert sizes(data) == (23_045, 1_345, 8_070) and data.image_shape == (28, 28)
    x, labels = everything(data)
    assert float(x.mean()) == pytest.approx(0.080514, abs=1e-6)
    assert len(labels.unique()) == 50 and int(labels.max()) == 49
    assert omniglot.omniglot(root=data_root, max_train=100).kind == "binary"


def test_silhouettes_stand_upright_with_ones_inside(data_root):
    data = silhouettes.silhouettes(root=data_root)
    assert sizes(data) == (4100, 2264, 2307) and data.kind == "binary"
    x, labels = everything(data)
    assert float(x.mean()) == pytest.approx(1 - 0.54391, abs=1e-5)
    # The object is in the middle of its picture, and the pictures are more often wide than tall.
    mean = x.mean(0)
    assert mean[10:18, 10:18].mean() > 0.5 > mean[[0, 0, -1, -1], [0, -1, 0, -1]].mean()
    counts = labels.bincount()
    assert len(counts) == 101 and (int(counts.min()), int(counts.max())) == (31, 798)
    # Faces (the second class) have eyes side by side: more alike left to right than top to bottom.
    faces = x[labels == 1].mean(0)
    assert (faces - faces.flip(1)).abs().mean() < (faces - faces.flip(0)).abs().mean()


def test_frey_faces_are_split_by_blocks_of_film(data_root):
    frames = torch.from_numpy(np.load(data_root / "frey-faces" / "freyfaces.npy").astype(np.float32) / 255)
    number = {frame.numpy().tobytes(): i for i, frame in enumerate(frames)}

    def near(data):
        """The share of test frames whose neighbour on the film is in training."""
        train = {number[x.numpy().tobytes()] for x in data.train.x}
        return np.mean([{number[x.numpy().tobytes()] + 1} <= train for x in data.test.x])

    blocks, single = (frey_faces.frey_faces(root=data_root, split=split) for split in ("blocks", "frames"))
    assert blocks.kind == "real" and blocks.image_shape == (28, 20) and sum(sizes(blocks)) == 1965
    assert sizes(single) == (1565, 200, 200)
    assert near(blocks) < 0.05 and near(single) > 0.6
    with pytest.raises(VemError, match=r"data\.split='film'"):
        frey_faces.frey_faces(root=data_root, split="film")


CUT_SHORT = {
    "mnist/t10k-images-idx3-ubyte.gz": lambda root: mnist.mnist("none", root),
    "binarized-mnist/binarized_mnist_valid.amat.gz": lambda root: mnist.mnist("static", root),
    "omniglot/omniglot_28x28_area.npz": lambda root: omniglot.omniglot(root=root),
    "frey-faces/freyfaces.npy": lambda root: frey_faces.frey_faces(root=root),
    "caltech101-silhouettes/caltech101_silhouettes_28.mat": lambda root: silhouettes.silhouettes(root=root),
}


@pytest.fixture
def changed(data_root, tmp_path):
    """A copy of a data set's folder in which one file has other bytes."""

    def make(place, change):
        path = tmp_path / place
        shutil.copytree(data_root / path.parent.name, path.parent, copy_function=os.symlink)
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(change(content))

    return make


@pytest.mark.parametrize("place", CUT_SHORT)
def test_a_file_that_was_cut_short_is_named(changed, tmp_path, place):
    changed(place, lambda content: content[: len(content) // 2])
    name = place.split("/")[1]
    with pytest.raises(VemError, match=rf"{name}.*(wrong checksum|cannot be read).*[Dd]elete it"):
        CUT_SHORT[place](tmp_path)


def test_static_mnist_with_one_changed_pixel_is_refused(changed, tmp_path):
    def one_pixel(packed):
        text = bytearray(gzip.decompress(packed))
        text[2 * 784 + 300] ^= 1
        return gzip.compress(bytes(text), 1)

    changed("binarized-mnist/binarized_mnist_valid.amat.gz", one_pixel)
    with pytest.raises(VemError, match="wrong checksum"):
        mnist.mnist(root=tmp_path)


def sha256(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def test_static_mnist_is_downloaded_as_text_and_kept_packed(site, tmp_path):
    x = np.random.default_rng(0).integers(0, 2, (40, 784))
    text = "".join(" ".join(map(str, row)) + " \n" for row in x.tolist()).replace(" \n", "\n").encode()
    site.files["valid.amat"] = text
    source = replace(mnist.STATIC_FILES["valid"], urls=(site.url + "valid.amat",), checksum=sha256(text))
    packed = tmp_path / "binarized-mnist" / "binarized_mnist_valid.amat.gz"
    for _ in range(2):
        assert np.array_equal(mnist._amat(source, tmp_path).view(-1, 784).numpy(), x)
        assert list(packed.parent.iterdir()) == [packed] and site.asked == ["valid.amat"]
    # The text put there by hand will do as well, and stays.
    packed.unlink()
    plain = tmp_path / source.path
    plain.write_bytes(text)
    assert np.array_equal(mnist._amat(source, tmp_path).view(-1, 784).numpy(), x) and plain.exists()


def test_mnist_is_downloaded(site, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 256, (60, 28, 28) if "images" in name else (60,), np.uint8) for name in mnist.FILES}
    served = {}
    for name, values in arrays.items():
        head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
        site.files[name] = gzip.compress(head + values.tobytes())
        served[name] = replace(mnist.FILES[name], urls=(site.url + name,), checksum=sha256(site.files[name]))
    monkeypatch.setattr(mnist, "FILES", served)
    monkeypatch.setattr(idx, "NUM_VALID", 10)
    data = mnist.mnist("none", tmp_path)
    assert sizes(data) == (50, 10, 60) and sorted(site.asked) == sorted(mnist.FILES)
    for names, key in ((("train", "valid"), "train"), (("test",), "t10k")):
        x, labels = everything(data, *names)
        assert np.array_equal((255 * x).round().numpy(), arrays[f"{key}-images-idx3-ubyte.gz"])
        assert np.array_equal(labels.numpy(), arrays[f"{key}-labels-idx1-ubyte.gz"])


def test_frey_faces_are_built_from_the_published_file(site, data_root, tmp_path, monkeypatch):
    faces = np.load(data_root / "frey-faces" / "freyfaces.npy")
    monkeypatch.setattr(frey_faces, "FILE", replace(frey_faces.FILE, urls=(site.url + "frey.mat",)))

    changed = faces.copy()
    changed[0, 0] += 1
    for wrong in (mat(changed), b"<html>moved</html>"):
        site.files["frey.mat"] = wrong
        with pytest.raises(VemError, match=r"frey_rawface.mat (has the wrong checksum|cannot be read)"):
            frey_faces.frey_faces(root=tmp_path)
        assert list((tmp_path / "frey-faces").iterdir()) == []

    site.files["frey.mat"] = mat(faces)
    for _ in range(2):
        built = frey_faces.frey_faces(root=tmp_path)
        assert torch.equal(built.train.x, frey_faces.frey_faces(root=data_root).train.x)


def mat(faces):
    out = io.BytesIO()
    savemat(out, {"ff": faces.T})
    return out.getvalue()


def png_archives(data_root, rows):
    """Zip archives of the original drawings, as upstream packs them."""
    with np.load(data_root / "omniglot" / "omniglot_105x105_packed.npz") as packed:
        ink, names = packed["ink"][rows], packed["names"][rows]
    archives = {name: io.BytesIO() for name in omniglot.FILES}
    files = {name: zipfile.ZipFile(out, "w") for name, out in archives.items()}
    for bits, name in zip(ink, names.tolist(), strict=True):
        drawing = np.unpackbits(bits)[:11025].reshape(105, 105).astype(bool)
        png = io.BytesIO()
        Image.fromarray(~drawing).save(png, "png")
        files[name.decode().split("/")[0]].writestr(name.decode(), png.getvalue())
    for file in files.values():
        file.close()
    return {name: out.getvalue() for name, out in archives.items()}


def test_omniglot_is_built_from_the_published_archives_and_kept(site, data_root, tmp_path, monkeypatch):
    """Of some drawings of both archives: reduced as in the packed file, and refused for they are not the data set."""
    rows = np.arange(0, 32460, 541)
    site.files |= png_archives(data_root, rows)
    served = {name: replace(source, urls=(site.url + name,), checksum=sha256(site.files[name]))
              for name, source in omniglot.FILES.items()}  # fmt: skip
    monkeypatch.setattr(omniglot, "FILES", served)
    with pytest.raises(VemError, match="checksum"):
        omniglot.omniglot(root=tmp_path)
    assert not (tmp_path / omniglot.ARRAY).exists()
    with np.load(data_root / omniglot.ARRAY) as packed:
        images, names = packed["images"][rows], packed["names"][rows]
    monkeypatch.setattr(omniglot, "CHECKSUM", sha256(images.tobytes()))
    monkeypatch.setattr(omniglot, "SIZES", (40, 10, 10))
    first, again = (omniglot.omniglot("none", tmp_path) for _ in range(2))
    assert torch.equal(first.train.x, again.train.x) and len(site.asked) == 2
    with np.load(tmp_path / omniglot.ARRAY) as built:
        assert np.array_equal(built["images"], images) and np.array_equal(built["names"], names)


def test_a_damaged_archive_is_named(tmp_path):
    path = tmp_path / "images_background.zip"
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(VemError, match=r"images_background.zip cannot be read"):
        omniglot.build([path])


def test_a_file_that_is_not_idx_is_refused(tmp_path):
    path = tmp_path / "file.gz"
    for content in (b"", b"\0\0\x08\x01\0\0\0\x05abc", b"plain text", b"\0\0\x0d\x01\0\0\0\x01abcd"):
        path.write_bytes(gzip.compress(content))
        with pytest.raises(VemError, match="not an idx file"):
            idx.read(path)
