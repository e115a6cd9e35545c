"""Words that a generated type cannot use as they are, by language.

Sources: "The Go Programming Language Specification" (Keywords), "The Rust Reference" (Keywords, strict and reserved),
"The Python Language Reference" (Keywords).
"""

from __future__ import annotations

import keyword
from typing import Final

_GO: Final = """
    break case chan const continue default defer else fallthrough for func go goto if import interface map package range
    return select struct switch type var
"""
_RUST: Final = """
    abstract as async await become box break const continue crate do dyn else enum extern false final fn for gen if impl
    in let loop macro match mod move mut override priv pub ref return self Self static struct super trait true try type
    typeof unsafe unsized use virtual where while yield
"""
_RESERVED: Final = {
    "Go": frozenset(_GO.split()),
    "Rust": frozenset(_RUST.split()),
    "Python": frozenset(keyword.kwlist),
}


def languages_that_reserve(word: str) -> list[str]:
    """Languages in which the word is no name."""
    return [language for language, words in _RESERVED.items() if word in words]
