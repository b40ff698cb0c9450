"""Runs of one table that different code of the user's made: which modules changed in between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vem.report.groups import code_of
from vem.report.labels import whole
from vem.report.runs import RunRecord
from vem.report.words import listed, name

AGAIN = "rerun=stale runs the old ones again."


def about_code(groups: Mapping[str, Sequence[RunRecord]]) -> list[str]:
    """A sentence for each group, by label, whose seeds different code made, and one on what differs between groups."""
    out: list[str] = []
    told: set[str] = set()
    for label, runs in groups.items():
        found = differing_code(runs)
        told |= set(found)
        if found:
            versions = next(iter(found.values())).values()
            seeds = [", ".join(str(whole(run.facts.get("seed"))) for run in made) for made in versions]
            out.append(f"The seeds of {name(label)} were made by different code ({' | '.join(seeds)}): "
                       f"{listed(list(found))} changed in between. Their mean is over all of it; {AGAIN}")  # fmt: skip
    rest = [what for what in differing_code(run for runs in groups.values() for run in runs) if what not in told]
    if rest:
        out.append(f"The groups of this table were made by different code: {listed(rest)} changed in between, so that "
                   f"a lead may be the code's; {AGAIN}")  # fmt: skip
    return out


def differing_code(runs: Iterable[RunRecord]) -> dict[str, dict[str, list[RunRecord]]]:
    """The modules and packages that runs have in different versions: by name and version those runs."""
    found: dict[str, dict[str, list[RunRecord]]] = {}
    for run in runs:
        for what, version in code_of(run).items():
            found.setdefault(what, {}).setdefault(version, []).append(run)
    return {what: versions for what, versions in found.items() if len(versions) > 1}
