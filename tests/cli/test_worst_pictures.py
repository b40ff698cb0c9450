"""pictures.npz shows the data that per_datum.csv says are the worst, after a run and after it is measured again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vem.cli import evaluate, messages, train
from vem.evaluation.pictures import NUM_WORST
from vem.storage import records


def shown(directory: Path) -> dict[str, np.ndarray]:
    with np.load(directory / records.PICTURES, allow_pickle=False) as file:
        return {name: file[name] for name in file.files if name.startswith("worst_")}


def wanted(directory: Path, loss: str) -> pd.DataFrame:
    rows = pd.read_csv(directory / records.PER_DATUM).query("split == 'test'").copy()
    rows["loss"] = rows.eval(loss)
    return rows.sort_values(["loss", "row"], ascending=[False, True]).head(NUM_WORST)


@pytest.mark.parametrize("strategy", ["amortized", "local"])
def test_the_worst_of_per_datum_are_the_pictures(strategy: str, tmp_path: Path) -> None:
    small = [
        *("data=digits", "data.max_train=60", "latent_dim=3", "model.decoder.widths=[4]", f"strategy={strategy}"),
        *("training.epochs=2", "progress=false", "evaluation=gaps", "evaluation.num_data=30", "threads=1"),
        *("evaluation.annealing.temperatures=3", "evaluation.annealing.chains=2", "evaluation.splits=[test]"),
    ]
    train.execute(messages.composed(small), small, tmp_path / "run")
    for loss, overrides in (("log_marginal_lower - elbo", None), ("-elbo", ["evaluation=quick"])):
        if overrides:
            evaluate.evaluate(tmp_path / "run", [*overrides, "evaluation.num_data=30", "progress=false"])
        rows, arrays = wanted(tmp_path / "run", loss), shown(tmp_path / "run")
        assert arrays["worst_row"].tolist() == rows["row"].tolist()
        assert arrays["worst_label"].tolist() == rows["label"].tolist()
        assert set(arrays["worst_split"].tolist()) == {"test"}
        assert arrays["worst_x"].shape == arrays["worst_reconstruction"].shape == (NUM_WORST, 8, 8)
        assert np.isfinite(arrays["worst_reconstruction"]).all()
