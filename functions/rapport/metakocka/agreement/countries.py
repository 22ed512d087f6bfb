"""Countries by their names in partners.

Metakocka takes a country's name in any language and answers in the company's language. The table
has the countries that trade with Slovenia, in Slovenian and English. Other names are compared as
text.
"""

from __future__ import annotations

import unicodedata

_NAMES = {
    "AL": "Albanija, Albania",
    "AT": "Avstrija, Austria, Österreich",
    "AU": "Avstralija, Australia",
    "BA": "Bosna in Hercegovina, Bosnia and Herzegovina, BiH",
    "BE": "Belgija, Belgium",
    "BG": "Bolgarija, Bulgaria",
    "CA": "Kanada, Canada",
    "CH": "Švica, Switzerland, Schweiz",
    "CN": "Kitajska, China",
    "CY": "Ciper, Cyprus",
    "CZ": "Češka, Češka republika, Czechia, Czech Republic",
    "DE": "Nemčija, Germany, Deutschland",
    "DK": "Danska, Denmark",
    "EE": "Estonija, Estonia",
    "ES": "Španija, Spain",
    "FI": "Finska, Finland",
    "FR": "Francija, France",
    "GB": "Velika Britanija, Združeno kraljestvo, United Kingdom, Great Britain, UK",
    "GR": "Grčija, Greece",
    "HR": "Hrvaška, Croatia, Hrvatska",
    "HU": "Madžarska, Hungary",
    "IE": "Irska, Ireland",
    "IL": "Izrael, Israel",
    "IN": "Indija, India",
    "IS": "Islandija, Iceland",
    "IT": "Italija, Italy, Italia",
    "JP": "Japonska, Japan",
    "LI": "Lihtenštajn, Liechtenstein",
    "LT": "Litva, Lithuania",
    "LU": "Luksemburg, Luxembourg",
    "LV": "Latvija, Latvia",
    "ME": "Črna gora, Montenegro, Crna Gora",
    "MK": "Severna Makedonija, Makedonija, North Macedonia, Macedonia",
    "MT": "Malta",
    "NL": "Nizozemska, Netherlands, The Netherlands",
    "NO": "Norveška, Norway",
    "PL": "Poljska, Poland",
    "PT": "Portugalska, Portugal",
    "RO": "Romunija, Romania",
    "RS": "Srbija, Serbia",
    "RU": "Rusija, Ruska federacija, Russia, Russian Federation",
    "SE": "Švedska, Sweden",
    "SI": "Slovenija, Slovenia, Republika Slovenija, Republic of Slovenia",
    "SK": "Slovaška, Slovakia",
    "SM": "San Marino",
    "TR": "Turčija, Turkey, Türkiye",
    "UA": "Ukrajina, Ukraine",
    "US": "Združene države Amerike, ZDA, United States, United States of America, USA",
    "XK": "Kosovo",
}


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


_REGIONS = {_folded(code): code for code in _NAMES} | {
    _folded(name): code for code, names in _NAMES.items() for name in names.split(",")
}


def region_of(country: str | None) -> str | None:
    """The country's code (ISO 3166, two letters), or None where the name is not known."""
    return _REGIONS.get(_folded(country)) if country else None
