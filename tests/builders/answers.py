"""What the answer of a report is about, without its words; and groups to be ranked, from numbers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from vem.report.cautions import Caution
from vem.report.explain import Lead, Loss
from vem.report.intervals import Scores, paired
from vem.report.ranking import Ranking
from vem.report.read import findings


def about(table):
    """Of one table: its rankings, why the best leads, losses by label, cautions by kind, and the texts of remarks."""
    said = [sentence.about for sentence in table.answer]
    cautions = [one for one in said if isinstance(one, Caution)]
    return SimpleNamespace(
        rankings=[one for one in said if isinstance(one, Ranking)],
        lead=next((one for one in said if isinstance(one, Lead)), None),
        losses={one.label: one for one in said if isinstance(one, Loss)},
        cautions={one.kind: one for one in cautions},
        remarks=[one.facts["text"] for one in cautions if one.kind == "remark"],
    )


def answered(root, **options):
    """The same of the one table of a folder."""
    (table,) = findings([root], **options).tables
    return about(table)


class Rivals:
    """Groups of runs: label → by seed, an ELBO or one for each data point."""

    def __init__(self, groups):
        seeds = {label: own if isinstance(own, dict) else dict(enumerate(own)) for label, own in groups.items()}
        self.values = {label: {s: np.asarray(v, float) for s, v in own.items()} for label, own in seeds.items()}
        self.scores = {label: {s: _score(v) for s, v in own.items()} for label, own in self.values.items()}
        self.rows = [
            {"label": label, "strategy": label, "seeds": len(own), "num_data": 50,
             "test_elbo_mean": float(np.mean([score.mean for score in own.values()]))}
            for label, own in self.scores.items()
        ]  # fmt: skip

    def difference(self, label, baseline):
        return paired(self.scores[label], self.scores[baseline])


def _score(values):
    return Scores(float(values)) if not values.ndim else Scores(values.mean(), np.arange(len(values)), values)
