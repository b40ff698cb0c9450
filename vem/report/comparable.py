"""Which runs may stand in one table: the same data, binarization, likelihood and evaluated test rows.

What is compared is about test data; that training or validation numbers are about other rows is said beside the
table (:func:`other_rows`). Runs without test data go by the rows that they have.

Runs that differ in the number of training data alone (``data.max_train``) may be compared on held-out data: the
test rows are the same whatever it is (:func:`vem.data.prepare.prepare`). Their training numbers are each about
training data of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vem.report.groups import TRAIN_SIZE, differing, filled, told_once, x_of
from vem.report.rows import Evaluated
from vem.report.runs import DONE, RunRecord
from vem.storage.records import SPLITS

NAMED = ("data", "binarize", "likelihood")  # facts of run.json that name the data
TEST = "test"
UNSAID = ("data._target_", *(f"{split}_x" for split in SPLITS))  # which runs from before may not say
Rows = tuple[Any, ...]


def data_settings(run: RunRecord) -> dict[str, str]:
    """Which data a run's numbers are about: name, binarization, likelihood, the config's data group, and x itself.

    Numbers of runs that differ in one of them are not comparable. Of x the digest of the test data (``test_x``) counts,
    where there are none that of the others.
    """
    shown = {name: str(run.facts[name]) for name in NAMED if run.facts.get(name) is not None}
    further = {k: v for k, v in run.settings.items() if k.startswith("data.")}
    own = {k: v for k, v in further.items() if k not in ("data.binarize", TRAIN_SIZE)}
    x = x_of(run)
    return shown | own | {f"{split}_x": x[split] for split in ((TEST,) if TEST in x else x)}


def headings(
    names: Sequence[str], tables: Sequence[int], places: Sequence[int], found: Sequence[Evaluated]
) -> list[str]:
    """The name of the table that each run belongs to: its data, and what tells it from others on data of that name.

    names: of the data; tables: which set of rows the table is about; places: which set the run was evaluated on.
    """
    texts = _row_texts(list(zip(names, tables, strict=True)), list(zip(names, places, strict=True)), found)
    return [", ".join(filter(None, (both[0], texts[both]))) for both in zip(names, tables, strict=True)]


def data_names(runs: Sequence[RunRecord]) -> list[str]:
    """What the data of each run are called."""
    return _data_names(_completed(runs))


def _completed(runs: Sequence[RunRecord]) -> list[dict[str, str]]:
    """The data settings of each run; of one that ended before it knew them all, those of a run that it agrees with.

    A run that fails while it is built has not resolved its likelihood: that sets it apart from no other. A run from
    before does not say what its data were, nor do some which class made them.
    """
    settings = _from_kin([data_settings(run) for run in runs])
    known = [own for run, own in zip(runs, settings, strict=True) if run.status == DONE]
    known += [own for own in settings if "likelihood" in own]
    return [
        own if run.status == DONE or "likelihood" in own else next((o for o in known if _agree(own, o)), own)
        for run, own in zip(runs, settings, strict=True)
    ]


def _from_kin(settings: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The settings; what is not said of the data is as in those that agree in all else, if it is one and the same.

    >>> one, other = {"data": "mine", "test_x": "1a"}, {"data": "mine", "test_x": "2b"}
    >>> _from_kin([{"data": "mine"}, one])[0], _from_kin([{"data": "mine"}, one, other])[0]
    ({'data': 'mine', 'test_x': '1a'}, {'data': 'mine'})
    """
    for i, key in enumerate(UNSAID):
        later = UNSAID[i:]
        kin = [frozenset((k, v) for k, v in own.items() if k not in later) for own in settings]
        values = filled([own.get(key) for own in settings], kin)
        settings = [own if v is None else {**own, key: str(v)} for own, v in zip(settings, values, strict=True)]
    return list(settings)


def _agree(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether no setting that both have differs.

    >>> _agree({"data": "digits"}, {"data": "digits", "likelihood": "bernoulli"}), _agree({"k": "1"}, {"k": "2"})
    (True, False)
    """
    return all(other[key] == value for key, value in one.items() if key in other)


def _data_names(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """One name for each run: its data, and what differs between runs on data of that name.

    >>> mnist = {"data": "mnist", "likelihood": "bernoulli"}
    >>> _data_names([{**mnist, "data.n": "100"}, {**mnist, "data.n": "200"}, {"data": "blobs", "data.k": "3"}])
    ['mnist, likelihood=bernoulli, data.n=100', 'mnist, likelihood=bernoulli, data.n=200', 'blobs']
    """
    base = [tuple((k, s[k]) for k in NAMED if k in s) for s in settings]
    further = [{k: v for k, v in s.items() if k.startswith("data.") or k in UNSAID} for s in settings]
    varying = told_once(base, differing(base, further), ())
    return [
        ", ".join([b[0][1], *(f"{k}={v}" for k, v in b[1:]), *(f"{k}={v}" for k, v in more.items())])
        for b, more in zip(base, varying, strict=True)
    ]


def evaluated_sets(names: Sequence[str], runs: Sequence[RunRecord], found: Sequence[Evaluated]) -> list[int]:
    """Which set of rows, of those met on these data, each run was evaluated on.

    A run whose rows are not known goes by their number; one that is not evaluated yet by ``evaluation.num_data``.
    """
    keys = [_key(rows) for rows in found]
    counts = [(name, _counts(rows)) for name, rows in zip(names, found, strict=True)]
    asked = [(name, run.settings.get("evaluation.num_data")) for name, run in zip(names, runs, strict=True)]
    keys = _filled(keys, counts)
    keys = [key or (count if rows.counts else None) for key, count, rows in zip(keys, counts, found, strict=True)]
    keys = _filled(_filled(keys, asked), names)
    met: dict[str, list[Rows | None]] = {}
    for name, key in zip(names, keys, strict=True):
        if key not in met.setdefault(name, []):
            met[name].append(key)
    return [met[name].index(key) for name, key in zip(names, keys, strict=True)]


def _filled(keys: Sequence[Rows | None], marks: Sequence[Any]) -> list[Rows | None]:
    """The keys; a missing one is that of the first run with the same mark.

    >>> _filled([None, (1,), (2,), None], ["a", "a", "a", "b"])
    [(1,), (1,), (2,), None]
    """
    first: dict[Any, Rows] = {}
    for key, mark in zip(keys, marks, strict=True):
        if key is not None:
            first.setdefault(mark, key)
    return [first.get(mark) if key is None else key for key, mark in zip(keys, marks, strict=True)]


def _compared(rows: Evaluated) -> tuple[str, ...]:
    """The splits whose rows have to be the same."""
    return (TEST,) if rows.digests.get(TEST) or rows.counts.get(TEST) else SPLITS


def _key(rows: Evaluated) -> Rows | None:
    """The rows of a run, None where they are not known."""
    return tuple(rows.digests.get(split) for split in _compared(rows)) if rows.digests else None


def _counts(rows: Evaluated) -> tuple[int | None, ...]:
    return tuple(rows.counts.get(split) or None for split in _compared(rows))


def other_rows(found: Sequence[Evaluated]) -> list[str]:
    """Sentences: which splits of one table are not evaluated on the same rows in all of its runs."""
    out = []
    for split, word in ((s, "training" if s == SPLITS[0] else "validation") for s in SPLITS if s != TEST):
        digests, counts = ({own[split] for own in each if own.get(split)}
                           for each in ([rows.digests for rows in found], [rows.counts for rows in found]))  # fmt: skip
        if len(digests) > 1 or len(counts) > 1:
            out.append(f"Not all runs were evaluated on the same {word} rows: numbers on {word} data, their gaps "
                       "included, are each about rows of their own.")  # fmt: skip
    return out


def _row_texts(
    tables: Sequence[tuple[str, int]], places: Sequence[tuple[str, int]], found: Sequence[Evaluated]
) -> dict[tuple[str, int], str]:
    """What tells the tables on one data set apart, by its name and their set of rows: how many they are, or a number.

    places: the name of its data and the set of rows that each run was evaluated on.
    """
    rows = {place: own for place, own in reversed(list(zip(places, found, strict=True))) if own.counts or own.digests}
    texts: dict[tuple[str, int], str] = {}
    for name, place in dict.fromkeys(tables):
        others = [p for n, p in dict.fromkeys(tables) if n == name]
        if len(others) == 1:
            texts[name, place] = ""
            continue
        counts = {p: rows[name, p].counts if (name, p) in rows else {} for p in others}
        splits = dict.fromkeys(s for p in others if (name, p) in rows for s in _compared(rows[name, p]))
        telling = [s for s in splits if len({counts[p].get(s) for p in others}) > 1]
        text = ", ".join(f"{counts[place].get(s, 'no')} {s} rows" for s in telling)
        alike = [p for p in others if [counts[p].get(s) for s in telling] == [counts[place].get(s) for s in telling]]
        if len(alike) > 1:
            text = f"{text + ', ' if text else ''}set {alike.index(place) + 1} of evaluated test rows"
        texts[name, place] = text
    return texts


def apart(runs: Sequence[RunRecord], tables: Sequence[str]) -> tuple[str, ...]:
    """Sentences: which tables are not compared with which, and what differs by name."""
    placed = zip(tables, runs, _completed(runs), strict=True)
    finished_first = sorted(placed, key=lambda found: found[1].status != DONE)
    first: dict[str, dict[str, str]] = {}
    unknown: dict[str, tuple[str, ...]] = {}  # what runs without a result have not come to know
    for table, run, settings in finished_first:
        if table not in first:
            first[table] = settings
            unknown[table] = () if run.status == DONE else tuple(key for key in NAMED if key not in first[table])
    by_data: dict[str, list[str]] = {}
    for table in dict.fromkeys(tables):
        by_data.setdefault(first[table]["data"], []).append(table)
    out = []
    if len(by_data) > 1:
        out.append(f"Numbers on different data are not compared: {', '.join(by_data)}.")
    for data, several in by_data.items():
        if len(several) > 1:
            keys = dict.fromkeys(key for table in several for key in first[table])
            found = {
                key: list(dict.fromkeys(first[t].get(key, "not set") for t in several if key not in unknown[t]))
                for key in keys
            }
            reasons = [f"{_key_name(key)} ({' | '.join(values)})" for key, values in found.items() if len(values) > 1]
            if len({frozenset(first[table].items()) for table in several}) < len(several):
                reasons.append("the evaluated test rows")
            out.append(f"The {len(several)} tables on {data} are not compared with each other: they differ in "
                       f"{', '.join(reasons)}.")  # fmt: skip
    return tuple(out)


def _key_name(key: str) -> str:
    words = {f"{split}_x": f"the {split} data themselves" for split in SPLITS}
    return {"binarize": "data.binarize", **words}.get(key, key)
