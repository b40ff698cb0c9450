"""The real data sets: their published numbers, and each fetched from a server on this machine."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from vem.data import fashion_mnist, frey_faces, idx, mnist, omniglot, silhouettes
from vem.data.digits import digits
from vem.errors import VemError

TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def sizes(data):
    return len(data.train), len(data.valid), len(data.test)


def test_digits_are_scikit_learns_and_split_by_seed():
    data, other = digits(binarize="none"), digits(binarize="none", seed=1)
    assert sizes(data) == (1297, 250, 250) and data.image_shape == (8, 8) and data.kind == "real"
    x = torch.cat([data.train.x, data.valid.x, data.test.x])
    labels = torch.cat([data.train.labels, data.valid.labels, data.test.labels])
    from sklearn.datasets import load_digits

    bunch = load_digits()
    assert float(x.double().sum() * 16) == bunch.data.sum()
    assert torch.equal(labels.bincount(), torch.from_numpy(bunch.target).bincount())
    assert not torch.equal(data.test.x, other.test.x)
    assert digits().kind == "binary" and digits(binarize="stochastic").redrawn


def test_static_mnist(data_root):
    data = mnist.mnist(root=data_root)
    assert sizes(data) == (50_000, 10_000, 10_000) and data.event_shape == (28, 28) == data.image_shape
    assert data.kind == "binary" and not data.redrawn
    means = [round(float(data.split(name).x.mean()), 5) for name in ("train", "valid", "test")]
    assert means == [0.13056, 0.13113, 0.13251]
    assert data.train.labels is None and any("no labels" in note for note in data.notes)


def test_static_mnist_is_read_as_its_text_says_and_its_test_rows_are_shuffled(data_root):
    path = data_root / "binarized-mnist" / "binarized_mnist_test.amat.gz"
    text = np.array([line.split() for line in gzip.decompress(path.read_bytes()).splitlines()]).astype(np.float32)
    test = mnist.mnist(root=data_root).test.x.reshape(-1, 784).numpy()
    order, expected = np.lexsort(test.T), np.lexsort(text.T)
    assert np.array_equal(test[order], text[expected])
    # Zeros have more ink than ones: sorted by digit, the first thousand would stand far from the mean.
    assert abs(test[:1000].mean() - test.mean()) < 0.005 < abs(text[:1000].mean() - text.mean())


def test_grey_mnist_has_the_published_labels_and_mean(data_root):
    data = mnist.mnist(binarize="none", root=data_root)
    assert sizes(data) == (50_000, 10_000, 10_000) and data.kind == "real"
    assert torch.cat([data.train.labels, data.valid.labels]).bincount().tolist() == TRAIN_COUNTS
    assert data.test.labels.bincount().tolist() == TEST_COUNTS
    x = torch.cat([data.train.x, data.valid.x])
    assert float(x.mean()) == pytest.approx(0.130660, abs=1e-6) and float(x.max()) == 1
    assert float(data.test.x.mean()) == pytest.approx(0.132515, abs=1e-6)


def test_fashion_mnist_has_the_published_mean_and_a_thousand_of_each_class(data_root):
    data = fashion_mnist.fashion_mnist(binarize="none", root=data_root)
    assert torch.cat([data.train.labels, data.valid.labels]).bincount().tolist() == [6000] * 10
    assert data.test.labels.bincount().tolist() == [1000] * 10
    assert float(data.test.x.mean()) == pytest.approx(0.286849, abs=1e-6)


def test_omniglot(data_root):
    data = omniglot.omniglot(binarize="none", root=data_root)
    assert sizes(data) == (23_045, 1_345, 8_070) and data.image_shape == (28, 28)
    x = torch.cat([data.train.x, data.valid.x, data.test.x])
    assert float(x.mean()) == pytest.approx(0.080514, abs=1e-6)
    labels = torch.cat([data.train.labels, data.valid.labels, data.test.labels])
    assert len(labels.unique()) == 50 and int(labels.max()) == 49
    assert omniglot.omniglot(root=data_root, max_train=100).kind == "binary"


def test_silhouettes_stand_upright_with_ones_inside(data_root):
    data = silhouettes.silhouettes(root=data_root)
    assert sizes(data) == (4100, 2264, 2307) and data.kind == "binary"
    x = torch.cat([data.train.x, data.valid.x, data.test.x])
    assert float(x.mean()) == pytest.approx(1 - 0.54391, abs=1e-5)
    # The object is in the middle of its picture, and the pictures are more often wide than tall.
    mean = x.mean(0)
    assert mean[10:18, 10:18].mean() > 0.5 > mean[[0, 0, -1, -1], [0, -1, 0, -1]].mean()
    labels = torch.cat([data.train.labels, data.valid.labels, data.test.labels])
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


@pytest.fixture
def copy(data_root, tmp_path):
    """A writable copy of one data set's folder."""

    def make(name):
        target = tmp_path / name
        target.mkdir()
        for path in (data_root / name).iterdir():
            shutil.copyfile(path, target / path.name)
        return target

    return make


@pytest.mark.parametrize(
    ("folder", "name", "load"),
    [
        ("mnist", "t10k-images-idx3-ubyte.gz", lambda root: mnist.mnist("none", root)),
        ("binarized-mnist", "binarized_mnist_valid.amat.gz", lambda root: mnist.mnist("static", root)),
        ("omniglot", "omniglot_28x28_area.npz", lambda root: omniglot.omniglot(root=root)),
        ("frey-faces", "freyfaces.npy", lambda root: frey_faces.frey_faces(root=root)),
        (
            "caltech101-silhouettes",
            "caltech101_silhouettes_28.mat",
            lambda root: silhouettes.silhouettes(root=root),
        ),
    ],
)
def test_a_file_that_was_cut_short_is_named(copy, tmp_path, folder, name, load):
    path = copy(folder) / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(VemError, match=rf"{name}.*(wrong checksum|cannot be read).*[Dd]elete it"):
        load(tmp_path)


def test_static_mnist_with_one_changed_pixel_is_refused(copy, tmp_path):
    path = copy("binarized-mnist") / "binarized_mnist_valid.amat.gz"
    text = bytearray(gzip.decompress(path.read_bytes()))
    text[2 * 784 + 300] ^= 1
    path.write_bytes(gzip.compress(bytes(text), 1))
    with pytest.raises(VemError, match="wrong checksum"):
        mnist.mnist(root=tmp_path)


def test_static_mnist_is_downloaded_as_text_and_kept_packed(site, data_root, tmp_path):
    packed = data_root / "binarized-mnist" / "binarized_mnist_valid.amat.gz"
    site.files["valid.amat"] = gzip.decompress(packed.read_bytes())
    source = replace(mnist.STATIC_FILES["valid"], urls=(site.url + "valid.amat",))
    downloaded = mnist._amat(source, tmp_path)
    assert torch.equal(downloaded, mnist._amat(mnist.STATIC_FILES["valid"], data_root))
    assert [path.name for path in (tmp_path / "binarized-mnist").iterdir()] == ["binarized_mnist_valid.amat.gz"]
    assert torch.equal(mnist._amat(source, tmp_path), downloaded) and site.asked == ["valid.amat"]
    # The text put there by hand will do as well, and stays.
    (tmp_path / "binarized-mnist" / "binarized_mnist_valid.amat.gz").unlink()
    plain = tmp_path / source.path
    plain.write_bytes(site.files["valid.amat"])
    assert torch.equal(mnist._amat(source, tmp_path), downloaded) and plain.exists()


def test_mnist_is_downloaded(site, data_root, tmp_path, monkeypatch):
    for name in mnist.FILES:
        site.files[name] = (data_root / "mnist" / name).read_bytes()
    served = {name: replace(source, urls=(site.url + name,)) for name, source in mnist.FILES.items()}
    monkeypatch.setattr(mnist, "FILES", served)
    downloaded = mnist.mnist("threshold", tmp_path, max_train=500)
    assert torch.equal(downloaded.train.x, mnist.mnist("threshold", data_root, max_train=500).train.x)
    assert sorted(site.asked) == sorted(mnist.FILES)


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


def serve_omniglot(site, archives, monkeypatch):
    served = {}
    for name, content in archives.items():
        site.files[name] = content
        checksum = "sha256:" + hashlib.sha256(content).hexdigest()
        served[name] = replace(omniglot.FILES[name], urls=(site.url + name,), checksum=checksum)
    monkeypatch.setattr(omniglot, "FILES", served)


def test_omniglot_drawings_are_reduced_as_in_the_packed_file(site, data_root, tmp_path, monkeypatch):
    rows = np.arange(0, 32460, 541)  # of both archives
    serve_omniglot(site, png_archives(data_root, rows), monkeypatch)
    images, names = omniglot.build([omniglot.obtain(source, tmp_path) for source in omniglot.FILES.values()])
    with np.load(data_root / "omniglot" / "omniglot_28x28_area.npz") as packed:
        assert np.array_equal(images, packed["images"][rows])
        assert np.array_equal(names, packed["names"][rows])
    # Part of the drawings is not the data set.
    with pytest.raises(VemError, match="checksum"):
        omniglot.omniglot(root=tmp_path)
    assert not (tmp_path / omniglot.ARRAY).exists()


@pytest.mark.slow
def test_omniglot_is_built_from_the_published_archives(site, data_root, tmp_path, monkeypatch):
    serve_omniglot(site, png_archives(data_root, np.arange(32460)), monkeypatch)
    for _ in range(2):
        built = omniglot.omniglot(root=tmp_path)
        assert torch.equal(built.train.x, omniglot.omniglot(root=data_root).train.x)


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
