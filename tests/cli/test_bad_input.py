"""Bad input: each row ends in one clear message with the remedy, exit code 1, and nothing computed is lost."""

from __future__ import annotations

import errno
import gzip
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_support import TINY, TINY_GMM, contents

SetUp = Callable[[Path], Sequence[str]]


def saved(values: Any, *overrides: str) -> SetUp:
    """data=array on these values."""

    def set_up(folder: Path) -> Sequence[str]:
        np.save(folder / "x.npy", np.asarray(values))
        return ["data=array", "data.path=x.npy", *overrides]

    return set_up


def grey(*shape: int) -> Any:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def table(content: str | bytes, *overrides: str) -> SetUp:
    """data=array on a table with this content."""

    def set_up(folder: Path) -> Sequence[str]:
        (folder / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        return ["data=array", "data.path=t.csv", *overrides]

    return set_up


def several_arrays(*overrides: str) -> SetUp:
    """An .npz whose names do not say what is x."""

    def set_up(folder: Path) -> Sequence[str]:
        np.savez(folder / "x.npz", pixels=grey(12, 2), target=np.arange(12))
        return ["data=array", "data.path=x.npz", *overrides]

    return set_up


def octaves(*overrides: str) -> Sequence[str]:
    path = Path(__file__).parents[1] / "data" / "matlab" / "octave_many.mat"
    return ["data=array", f"data.path={path}", *overrides]


def truncated_array(folder: Path) -> Sequence[str]:
    np.save(folder / "x.npy", grey(50, 4))
    whole = (folder / "x.npy").read_bytes()
    (folder / "x.npy").write_bytes(whole[: len(whole) // 2])
    return ["data=array", "data.path=x.npy"]


def with_mnist(content: bytes) -> SetUp:
    """MNIST's first file with other bytes than the published ones."""

    def set_up(folder: Path) -> Sequence[str]:
        for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
            path = folder / "mnist" / f"{part}-ubyte.gz"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        return ["data=mnist", "data.binarize=threshold", f"data.root={folder}"]

    return set_up


def below_a_file(folder: Path) -> Sequence[str]:
    (folder / "file").write_text("")
    return ["hydra.run.dir=file/run"]


def sweep_below_a_file(folder: Path) -> Sequence[str]:
    (folder / "file").write_text("")
    return ["-m", "seed=0,1", "hydra.sweep.dir=file/sweep"]


def own_module(text: str, *overrides: str) -> SetUp:
    def set_up(folder: Path) -> Sequence[str]:
        (folder / "bad_input_module.py").write_text(text)
        return ["allow_targets=[bad_input_module]", *overrides]

    return set_up


# name, what is typed (after the overrides of a tiny run), and words that the message must hold
ROWS: list[tuple[str, Sequence[str] | SetUp, Sequence[str]]] = [
    # --- files
    ("no path", ["data=array"], ["data.path=FILE"]),
    ("a path of no user", ["data=array", "data.path=~nobody9/x.npy"], ["~nobody9/x.npy"]),
    ("no seed", ["~seed"], ["no seed", "leave out ~seed"]),
    ("missing file", ["data=array", "data.path=no.npy"], ["data.path=no.npy", "not a file", ".npy"]),
    ("truncated file", truncated_array, ["x.npy", "cannot be read", "Save it again"]),
    ("wrong checksum", with_mnist(b"not the published bytes"), ["wrong checksum", "Delete it", "data.root=DIR"]),
    ("truncated archive", with_mnist(gzip.compress(b"x" * 9999)[:-9]), ["checksum", "cut short", "Delete it"]),
    # --- data
    ("constant", saved(np.ones((50, 4))), ["equal", "nothing to learn"]),
    ("empty", saved(np.ones((0, 4))), ["0 rows", "more data"]),
    ("no columns", saved(np.ones((50, 0))), ["empty"]),
    ("rank 1", saved(grey(50)), ["(50,)", "[N, D]", "Reshape"]),
    ("text", saved(np.full((50, 4), "a")), ["not real numbers", "float32"]),
    # --- tables: what is asked of them, and each answer, is in tests/data
    ("no row names", table("a,b\n1,2,3\n", "data.row_names=false"), ["Name every column", "data.row_names=true"]),
    ("wrong separator", table("a,b\n1,2\n", "data.separator=tab"), ["in no line", "data.separator=comma"]),
    ("unknown separator", table("1\n2\n", "data.separator=colon"), ["data.separator='colon'", "semicolon, tab, space"]),
    ("unknown decimal", table("1\n2\n", "data.decimal=dot"), ["data.decimal='dot'", "auto, point, comma"]),
    ("unknown header", table("1\n2\n", "data.header=maybe"), ["data.header='maybe'", "auto, true, false"]),
    ("unknown row names", table("1\n2\n", "data.row_names=maybe"), ["data.row_names='maybe'", "auto, true, false"]),
    ("unknown encoding", table("1\n2\n", "data.encoding=utf-9"), ["data.encoding=utf-9", "cp1252 or latin-1"]),
    ("bytes", table(b"PK\0\0\0\0"), ["zero bytes", "not a text"]),
    ("lines of unlike length", table("a,b\n1,2\n3,4,5\n"), ["line 3 has 3 cells", "line 1 has 2", "Mend"]),
    ("no row", table("# by me\n"), ["holds no row"]),
    ("a missing label", table("a,k\n1,u\n2,\n", "data.label_column=k"), ["1 of 2 labels", "line 3, column k"]),
    ("a column of text", table("a,k\n1,u\n2,v\n"), ["column k", "label_column", "categories=onehot", "drop=[2]"]),
    ("text among numbers", table("a,k\n1,2\n2,v\n"), ["line 3, column k, holds 'v'", "Mend", "data.drop=[2]"]),
    (
        "names as categories",
        table("a,k\n1,u\n2,v\n3,w\n", "data.categories=onehot"),
        ["no two of its 3 texts are equal", "data.drop=[2]"],
    ),
    ("unknown categories", table("1\n2\n", "data.categories=onehoot"), ["data.categories='onehoot'", "'onehot'"]),
    ("no such column", table("a,b\n1,2\n", "data.columns=[c]"), ["data.columns='c'", "Its columns: a, b"]),
    ("a column twice", table("a,b\n1,2\n", "data.drop=[a,1]"), ["data.drop=['a', 1]", "name each once"]),
    ("no column left", table("a,b\n1,2\n", "data.drop=[a,b]"), ["no column is left", "data.drop"]),
    ("columns of no table", saved(grey(50, 4), "data.columns=[1]"), ["data.columns=[1]", "x.npy", "leave it out"]),
    # --- data and models
    ("not binary", saved(grey(50, 4), "model.likelihood=bernoulli"), ["0 or 1", "data.binarize=threshold", "gaussian"]),
    ("units of 0 and 1", saved(grey(50, 4) > 0.5, "model.units=column"), ["model.units=column", "0 and 1", "gaussian"]),
    ("units of a mixture", ["strategy=gmm", "model.units=column"], ["model.units cannot", "another choice of model"]),
    ("an unknown rule of convergence", ["strategy=gmm", "strategy.convergence=never"], ["convergence='never'", "gain"]),
    ("an unknown acceleration", ["strategy=gmm", "strategy.accelerate=fast"], ["strategy.accelerate=", "auto"]),
    ("an unknown start", ["strategy=gmm", "strategy.start=open"], ["strategy.start='open'", "closed, model"]),
    ("unknown columns inside", [*TINY_GMM, "model.standardize=maybe"], ["model.standardize", "auto"]),
    ("no mode", ["evaluation=gaps", "evaluation.annealing.modes=0"], ["evaluation.annealing.modes=0", "at least 1"]),
    ("gaps of some data where none are measured", ["evaluation.gap_data=5"], ["gap_data=5", "evaluation=brief"]),
    ("gaps of no data", ["evaluation=gaps", "evaluation.gap_data=0"], ["evaluation.gap_data=0", "at least 1"]),
    ("units mistyped", ["model.units=columns"], ["model.units='columns'", "did you mean 'column'"]),
    ("blobs not binary", ["model.likelihood=bernoulli"], ["data=blobs", "model.likelihood=gaussian"]),
    ("not grey", saved(grey(50, 4) * 255, "data.binarize=static"), ["[0, 1]", "x / 255"]),
    ("more components than data", ["strategy=gmm", "model.components=41"], ["41", "40", "components"]),
    ("subset too large", ["data.max_train=999"], ["data.max_train=999", "40"]),
    ("unknown precision", saved(grey(50, 4), "data.precision=double"), ["data.precision='double'", "file, single"]),
    # --- files of other programs, too
    ("a layer of an .npz", several_arrays("data.layer=counts"), ["data.layer=counts", ".h5ad files", "leave it out"]),
    ("separator of a .mat", octaves("data.array=X", "data.separator=tab"), ["data.separator=tab", ".csv"]),
    # --- numbers out of range
    ("width 0", ["model.decoder.widths=[0]"], ["widths[0]=0", "at least 1"]),
    ("latent_dim 0", ["latent_dim=0"], ["latent_dim=0", "at least 1"]),
    ("batch 0", ["training.batch_size=0"], ["training.batch_size=0", "at least 1"]),
    (
        "batch norm on one row",
        own_module("from torch import nn\nclass Normed(nn.Sequential):\n    def __init__(self):\n"
                   "        super().__init__(nn.Linear(3, 4), nn.BatchNorm1d(4))\n",
                   "~strategy/encoder", "+strategy.encoder._target_=bad_input_module.Normed", "training.batch_size=1"),
        ["training.batch_size=1", "batch norm", "training.batch_size=2"],
    ),
    ("epochs 0", ["training.epochs=0"], ["training.epochs=0", "at least 1"]),
    ("half an epoch", ["training.epochs=1.5"], ["training.epochs=1.5", "whole number"]),
    ("rate 0", ["training.rate=0"], ["training.rate=0", "positive"]),
    ("no draws", ["objective.num_draws=0"], ["objective.num_draws=0", "at least 1"]),
    ("no e-steps", ["strategy=local", "strategy.order=e_then_m", "strategy.e_steps=0"], ["strategy.e_steps=0"]),
    ("no components", ["strategy=gmm", "model.components=0"], ["model.components=0", "at least 1"]),
    ("threads 0", ["threads=0"], ["threads=0", "at least 1"]),
    ("no evaluation draws", ["evaluation.draws=0"], ["evaluation.draws=0", "at least 1"]),
    # --- text where a number belongs, and the reverse
    ("epochs abc", ["training.epochs=abc"], ["training.epochs='abc'", "whole number"]),
    ("latent_dim abc", ["latent_dim=abc"], ["latent_dim='abc'", "whole number"]),
    ("rate fast", ["training.rate=fast"], ["training.rate='fast'", "a number"]),
    ("width abc", ["model.decoder.widths=[abc]"], ["model.decoder.widths", "whole number"]),
    ("widths no list", ["model.decoder.widths=200"], ["model.decoder.widths=200", "a list"]),
    ("epochs true", ["training.epochs=true"], ["training.epochs=True", "whole number"]),
    ("epochs null", ["training.epochs=null"], ["training.epochs=null", "whole number"]),
    ("draws abc", ["objective.num_draws=abc"], ["num_draws='abc'", "whole number"]),
    ("seed abc", ["seed=abc"], ["seed='abc'", "whole number"]),
    ("threads abc", ["threads=abc"], ["threads='abc'", "whole number"]),
    ("rule rate abc", ["strategy=local", "strategy.rule.rate=abc"], ["strategy.rule.rate='abc'", "a number"]),
    # --- names
    ("unknown key", ["trainig.epochs=3"], ["trainig.epochs", "did you mean 'training.epochs'?"]),
    ("unknown key of a group", ["model.latent_dmi=3"], ["model.latent_dmi", "did you mean 'model.latent_dim'?"]),
    ("unknown top-level key", ["latent_dmi=3"], ["latent_dmi", "did you mean 'latent_dim'?"]),
    ("unknown group", ["strateggy=local"], ["strateggy", "did you mean 'strategy'?"]),
    ("unknown option", ["strategy=amortised"], ["strategy=amortised", "did you mean 'amortized'?", "gmm, local"]),
    ("unknown option, far", ["strategy=zebra"], ["strategy=zebra", "Options of strategy: amortized"]),
    ("unknown nested option", ["strategy=local", "strategy/rule=adm"], ["strategy/rule=adm", "did you mean 'adam'?"]),
    ("unknown choice", ["objective.kl=closd"], ["objective.kl='closd'", "did you mean 'closed'?"]),
    ("unknown likelihood", ["model.likelihood=poisson"], ["model.likelihood='poisson'", "bernoulli, gaussian"]),
    ("unknown activation", ["model.decoder.activation=reul"], ["activation='reul'", "did you mean 'relu'?"]),
    ("unknown binarization", ["data=digits", "data.binarize=statik"], ["data.binarize='statik'", "'static'"]),
    ("unknown keep", ["training.keep=first"], ["training.keep='first'", "last, best"]),
    ("added key", ["+training.epoch=3"], ["training.epoch", "did you mean 'epochs'?"]),
    ("malformed list", ["training.epochs=[1"], ["training.epochs=[1", "not understood", "quote values"]),
    ("no equals sign", ["epochs"], ["epochs", "key=value"]),
    ("an interpolation to nowhere", ["latent_dim=${nowhere}"], ["latent_dim", "${nowhere}"]),
    # --- targets
    ("target not allowed", ["model._target_=os.system"], ["model._target_=os.system", "allow_targets=[os]"]),
    ("target by a detour", ["model._target_=torch.os.system"], ["torch.os.system", "not allowed"]),
    ("nested target not allowed", ["model.decoder._target_=os.abort"], ["model.decoder._target_=os.abort", "[os]"]),
    ("target missing", ["model._target_=vem.models.deep.Nothing"], ["deep has no 'Nothing'", "name right"]),
    ("module missing", ["model._target_=no_module.X", "allow_targets=[no_module]"], ["no_module", "working directory"]),
    ("target no callable", ["model._target_=vem.noise.__name__"], ["vem.noise.__name__", "class or a function"]),
    ("wrong argument", ["+model.depth=3"], ["model.depth", "takes no 'depth'", "It takes: event_shape, latent_dim"]),
    ("allow_targets text", ["allow_targets=mymodule"], ["allow_targets='mymodule'", "allow_targets=[mymodule]"]),
    (
        "own module raises",
        own_module("class Broken:\n    def __init__(self, **k):\n        raise ValueError('five legs')\n",
                   "~model", "+model._target_=bad_input_module.Broken"),
        ["model: bad_input_module.Broken", "five legs"],
    ),
    # --- parts that do not fit
    ("family and model", ["family=categorical"], ["Categorical", "take family=diagonal_gaussian"]),
    ("local on a mixture", ["strategy=local", "model=mixture"], ["take family=categorical"]),
    ("exact EM on a deep model", ["strategy=exact_em"], ["DeepLatentModel", "closed"]),
    (
        "local on redrawn data",
        ["data=digits", "strategy=local", "data.binarize=stochastic"],
        ["data.binarize=static", "strategy=amortized"],
    ),
    # --- the machine
    ("no GPU", ["device=cuda"], ["device=cuda", "no GPU", "device=auto"]),
    ("no such device", ["device=nonsense"], ["device=nonsense", "auto, cpu or cuda"]),
    ("a device torch only names", ["device=meta"], ["device=meta", "auto, cpu or cuda"]),
    ("half precision", ["dtype=float16"], ["dtype='float16'", "float32, float64"]),
    ("folder below a file", below_a_file, ["file/run", "hydra.run.dir=DIR"]),
    ("folder of a sweep below a file", sweep_below_a_file, ["file", "hydra.sweep.dir=DIR"]),
    ("folder that no one can make", ["hydra.run.dir=/proc/vem/run"], ["/proc/vem", "hydra.run.dir=DIR"]),
]  # fmt: skip


def tiny(overrides: Sequence[str]) -> list[str]:
    """The overrides of a tiny run, less those of a group's option that the row replaces."""
    mine = {o.lstrip("~").split("=")[0] for o in overrides} | ({"model"} if "strategy=gmm" in overrides else set())
    return [o for o in TINY if not any(o.startswith(f"{group}.") for group in mine & {"data", "model"})]


@pytest.mark.parametrize(("typed", "words"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_one_message(here, vem_run, typed, words):
    overrides = typed(here) if callable(typed) else typed
    if "device=cuda" in overrides and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    ended = vem_run(*[o for o in overrides if o == "-m"], *tiny(overrides), *[o for o in overrides if o != "-m"]).bad()
    for word in words:
        assert word in ended.err, ended.err


# --- what launchers raise


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/s"), ["/s cannot be made", "hydra.sweep.dir=DIR"]),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            ["multirun.yaml was not written (No space", "Free some space"],
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/s"), ["/s was not written (Disk quota", "Free some space"]),
        (ConnectionError("Could not find any running Ray instance."), ["Ray instance", "`ray start --head`", "=null"]),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
            None,
        ),  # not foreseen, and not about a folder
        (OSError("handle is closed"), None),
    ],
)
def test_an_error_of_a_launcher_is_about_a_folder_only_if_it_names_one(error, words):
    from vem.cli import messages

    said = messages.explain(messages.no_folder(error))
    assert (said is None) == (words is None)
    for word in words or ():
        assert word in said


# --- what is already computed survives


@pytest.fixture
def finished(here, vem_run) -> Path:
    vem_run(*TINY_GMM, "hydra.run.dir=done").good()
    return here / "done"


def test_a_changed_config_is_refused_with_the_difference(finished, vem_run):
    before = contents(finished)
    ended = vem_run(*TINY_GMM, "training.epochs=3", "seed=4", "hydra.run.dir=done").bad()
    for line in ("-training.epochs=2", "+training.epochs=3", "-seed=0", "+seed=4", "fresh hydra.run.dir"):
        assert line in ended.err
    assert "batch_size" not in ended.err
    assert contents(finished) == before


def test_a_changed_data_file_is_refused(here, vem_run):
    import vem
    from vem.errors import VemError

    overrides = ["data=array", "data.path=x.npy", "strategy=gmm", "model.components=2", "hydra.run.dir=own"]
    np.save(here / "x.npy", grey(50, 3))
    vem_run(*overrides, "training.epochs=2").good()
    before = contents(here / "own")
    np.save(here / "x.npy", grey(50, 3) + 1)
    ended = vem_run(*overrides, "training.epochs=2").bad()
    assert "data.sha256" in ended.err and "data.path holds has changed" in ended.err
    assert contents(here / "own") == before
    with pytest.raises(VemError, match=r"x\.npy has changed since"):
        vem.load(here / "own")
    # The same content in another place is the same run.
    np.save(here / "y.npy", grey(50, 3))
    again = vem_run(*overrides, "data.path=y.npy", "training.epochs=2").good()
    assert "left alone" in again.out and contents(here / "own") == before


def test_a_run_that_failed_before_it_computed_anything_may_be_mended(here, vem_run):
    vem_run(*TINY_GMM, "training.epochs=0", "hydra.run.dir=r").bad()
    vem_run(*TINY_GMM, "training.epochs=1", "hydra.run.dir=r").good()


def test_a_run_that_is_not_finished_is_not_loaded(finished):
    import vem
    from vem.errors import VemError
    from vem.storage import records

    status = records.read_json(finished / records.RUN)
    records.write_json(finished / records.RUN, {**status, "status": "running"})
    with pytest.raises(VemError, match=r"not finished \(status running\).*start its command again"):
        vem.load(finished)


@pytest.mark.parametrize("name", ["run.json", "checkpoint.pt", "config.yaml"])
def test_a_damaged_run_is_not_loaded(finished, name):
    import vem
    from vem.errors import VemError

    whole = (finished / name).read_bytes()
    (finished / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VemError, match=name):
        vem.load(finished)


def test_a_disk_that_fills_during_a_checkpoint(here, vem_run, monkeypatch):
    """The third checkpoint meets a full disk: the second stays whole, is named, and the run goes on from it."""
    from vem.training import checkpoint

    command = [*TINY, "training.epochs=5", "training.checkpoint_seconds=0", "hydra.run.dir=full"]
    save, calls = torch.save, []

    def fills(state: Any, file: Any) -> None:
        calls.append(file)
        if len(calls) == 3:
            file.write(b"half of a checkpoint")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(state, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fills)
        ended = vem_run(*command).bad()
    path = here / "full" / "checkpoint.pt"
    assert "disk is full" in ended.err and str(path) in ended.err and "start the same command again" in ended.err
    assert checkpoint.load(path, "cpu")["progress"]["epoch"] == 2
    assert [p.name for p in path.parent.glob(".*")] == []
    vem_run(*command).good()
    vem_run(*command, "hydra.run.dir=whole").good()
    one, two = (checkpoint.load(here / name / "checkpoint.pt", "cpu") for name in ("full", "whole"))
    assert all(torch.equal(one["model"][key], two["model"][key]) for key in two["model"])


# --- the other commands, and real processes


def test_report_on_an_empty_folder(vem_process):
    ended = vem_process(".", module="vem.report")
    assert ended.code == 1 and "Traceback" not in ended.text
    assert "no run below" in ended.err


@pytest.mark.parametrize(
    ("typed", "word"),
    [("strategy=amortised", "did you mean"), ("training.epochs=abc", "number"), ("model._target_=os.system", "allow")],
)
def test_in_a_process_of_its_own(vem_process, typed, word):
    ended = vem_process(*TINY, typed).bad()
    assert word in ended.err and ended.err.count("\n") == 1
    assert ended.out == ""
