"""The templates of the report: its pages, and the sentences that are made from data alone."""

from __future__ import annotations

from functools import cache

import jinja2

from vem.report.words import listed, name, named, number, plural


@cache
def environment() -> jinja2.Environment:
    """Where templates come from; those of HTML escape what they are given, and what is not given is an error."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("vem.report"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"listed": listed, "name": name, "named": named, "number": number, "plural": plural}
    return made


def worded(file: str, kind: str, *about: object, **facts: object) -> str:
    """The macro of this kind in ``templates/FILE.txt`` on one line."""
    return " ".join(str(getattr(_sentences(file), kind)(*about, **facts)).split())


@cache
def _sentences(file: str) -> object:
    own = environment().overlay(trim_blocks=False)  # a line break between two sentences is a space
    return own.get_template(f"{file}.txt").module
