"""A package that is only here: what ``modules.py`` runs elsewhere."""

import pkgutil

from .circles import area

UNIT = "cm2"


def describe(radius):
    return f"{area(radius):.1f} {UNIT}"


def title():
    return pkgutil.get_data(__name__, "title.txt").decode().strip()
