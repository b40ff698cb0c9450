"""Which runs may stand in one table: the same data, binarization, likelihood and evaluated test rows.

What is compared is about test data; other training or validation rows are said beside the table (:func:`other_rows`).
Runs without test data go by the rows that they have. Those that differ in ``data.max_train`` alone are compared: their
test rows are the same whatever it is (:func:`vem.data.prepare.prepare`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vem.report.files import Evaluated
from vem.report.groups import TRAIN_SIZE, x_of
from vem.report.kin import agree, by, differing, filled, told_once, values_of
from vem.report.prose import worded
from vem.report.runs import DONE, RunRecord
from vem.storage.records import SPLITS

NAMED = ("data", "binarize", "likelihood")  # facts of run.json that name the data
TEST = "test"
UNSAID = ("data._target_", *(f"{split}_x" for split in SPLITS))  # which runs from before may not say


# --- the data


def data_settings(run: RunRecord) -> dict[str, str]:
    """Which data a run's numbers are about: name, binarization, likelihood, the config's data group, and x itself.

    Numbers of runs that differ in one of them are not comparable. Of x the digest of the test data (``test_x``) counts,
    where there are none that of the others.
    """
    shown = {name: str(run.facts[name]) for name in NAMED if run.facts.get(name) is not None}
    own = {k: v for k, v in run.settings.items() if k.startswith("data.") and k not in ("data.binarize", TRAIN_SIZE)}
    x = x_of(run)
    return shown | own | {f"{split}_x": x[split] for split in ((TEST,) if TEST in x else x)}


def _completed(runs: Sequence[RunRecord]) -> list[dict[str, str]]:
    """The data settings of each run; of one that ended before it knew them all, those of a run that it agrees with.

    One that fails while it is built has not resolved its likelihood: that sets it apart from no other.
    """
    settings = _from_kin([data_settings(run) for run in runs])
    told = [run.status == DONE or "likelihood" in own for run, own in zip(runs, settings, strict=True)]
    finished_first = sorted(range(len(runs)), key=lambda i: runs[i].status != DONE)
    known = [settings[i] for i in finished_first if told[i]]
    return [own if said else next((other for other in known if agree(own, other)), own)
            for own, said in zip(settings, told, strict=True)]  # fmt: skip


def _from_kin(settings: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The settings; what a run from before does not say is as in those that agree in all else, if it is one thing.

    >>> one, other = {"data": "mine", "test_x": "1a"}, {"data": "mine", "test_x": "2b"}
    >>> _from_kin([{"data": "mine"}, one])[0], _from_kin([{"data": "mine"}, one, other])[0]
    ({'data': 'mine', 'test_x': '1a'}, {'data': 'mine'})
    """
    for i, key in enumerate(UNSAID):
        kin = [frozenset((k, v) for k, v in own.items() if k not in UNSAID[i:]) for own in settings]
        values = filled([own.get(key) for own in settings], kin)
        settings = [own if v is None else {**own, key: v} for own, v in zip(settings, values, strict=True)]
    return list(settings)


def data_names(runs: Sequence[RunRecord]) -> list[str]:
    """What the data of each run are called: their name, and what differs between runs on data of that name."""
    settings = _completed(runs)
    base = [tuple((k, s[k]) for k in NAMED if k in s) for s in settings]
    further = [{k: v for k, v in s.items() if k.startswith("data.") or k in UNSAID} for s in settings]
    varying = told_once(base, differing(base, further), ())
    return [", ".join([b[0][1], *(f"{k}={v}" for k, v in (*b[1:], *more.items()))])
            for b, more in zip(base, varying, strict=True)]  # fmt: skip


def apart(runs: Sequence[RunRecord], tables: Sequence[str]) -> tuple[str, ...]:
    """Sentences: which tables are not compared with which, and what differs by name."""
    placed = sorted(zip(tables, runs, _completed(runs), strict=True), key=lambda found: found[1].status != DONE)
    first = {table: (run, settings) for table, run, settings in reversed(placed)}  # a finished one where there is one
    kept = [first[table] for table in dict.fromkeys(tables)]
    by_data = by((settings["data"] for _, settings in kept), kept)
    out = [f"Numbers on different data are not compared: {', '.join(by_data)}."] if len(by_data) > 1 else []
    words = {"binarize": "data.binarize", **{f"{split}_x": f"the {split} data themselves" for split in SPLITS}}
    for data, several in by_data.items():
        values = {
            key: dict.fromkeys(own.get(key, "not set") for run, own in several
                               if run.status == DONE or key not in NAMED or key in own)  # else it never came to know it
            for key in values_of([own for _, own in several])
        }  # fmt: skip
        reasons = [f"{words.get(key, key)} ({' | '.join(own)})" for key, own in values.items() if len(own) > 1]
        if len({frozenset(own.items()) for _, own in several}) < len(several):
            reasons.append("the evaluated test rows")
        if len(several) > 1:
            out.append(worded("remarks", "tables_apart", data=data, tables=len(several), reasons=reasons))
    return tuple(out)


# --- the evaluated rows


def evaluated_sets(names: Sequence[str], runs: Sequence[RunRecord], found: Sequence[Evaluated]) -> list[int]:
    """Which set of rows, of those met on these data, each run was evaluated on.

    A run whose rows are not known goes by their number; one that is not evaluated yet by ``evaluation.num_data``.
    """
    counts = [tuple(rows.counts.get(split) or None for split in _compared(rows)) for rows in found]
    asked = [run.settings.get("evaluation.num_data") for run in runs]
    keys: list[Any] = [tuple(map(rows.digests.get, _compared(rows))) if rows.digests else None for rows in found]
    keys = filled(keys, list(zip(names, counts, strict=True)), first=True)
    keys = [key or (count if rows.counts else None) for key, count, rows in zip(keys, counts, found, strict=True)]
    keys = filled(keys, list(zip(names, asked, strict=True)), first=True)
    keys = filled(keys, names, first=True)
    met = {name: list(dict.fromkeys(own)) for name, own in by(names, keys).items()}
    return [met[name].index(key) for name, key in zip(names, keys, strict=True)]


def _compared(rows: Evaluated) -> tuple[str, ...]:
    """The splits whose rows have to be the same."""
    return (TEST,) if rows.digests.get(TEST) or rows.counts.get(TEST) else SPLITS


def headings(
    names: Sequence[str], tables: Sequence[int], places: Sequence[int], found: Sequence[Evaluated]
) -> list[str]:
    """The name of the table that each run belongs to: its data, and what tells it from others on data of that name.

    names: of the data; tables: which set of rows the table is about; places: which set the run was evaluated on.
    """
    rows = {(name, place): own for name, place, own in reversed([*zip(names, places, found, strict=True)])
            if own.counts or own.digests}  # fmt: skip
    texts: dict[tuple[str, int], str] = {}
    for name, own in by(names, tables).items():
        sets = {place: rows.get((name, place), Evaluated()) for place in dict.fromkeys(own)}
        texts |= {(name, place): text for place, text in zip(sets, _row_texts(list(sets.values())), strict=True)}
    return [", ".join(filter(None, (name, texts[name, place]))) for name, place in zip(names, tables, strict=True)]


def _row_texts(sets: Sequence[Evaluated]) -> list[str]:
    """What tells the tables on one data set apart: how many their rows are, or a number."""
    splits = dict.fromkeys(split for own in sets if own.counts or own.digests for split in _compared(own))
    telling = [split for split in splits if len({own.counts.get(split) for own in sets}) > 1]
    texts = [", ".join(f"{own.counts.get(split, 'no')} {split} rows" for split in telling) for own in sets]
    numbers = [f"set {texts[:i].count(text) + 1} of evaluated test rows" if texts.count(text) > 1 else ""
               for i, text in enumerate(texts)]  # fmt: skip
    return [", ".join(filter(None, both)) for both in zip(texts, numbers, strict=True)]


def other_rows(found: Sequence[Evaluated]) -> list[str]:
    """Sentences: which splits of one table are not evaluated on the same rows in all of its runs."""
    out = []
    for split, word in ((s, "training" if s == SPLITS[0] else "validation") for s in SPLITS if s != TEST):
        said = [{own[split] for own in of if own.get(split)}
                for of in ([rows.digests for rows in found], [rows.counts for rows in found])]  # fmt: skip
        if max(map(len, said)) > 1:
            out.append(worded("remarks", "rows_differ", word=word))
    return out
