"""Words of captions, as the COCO caption server has them."""

import re

_PLAIN = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "–": " -- ", "—": " -- ", "…": " ... "}
)
_TOKEN = re.compile(
    r"""
    (?<![\w.'])(?:[^\W\d_]\.){2,}(?!\w)                           # u.s., p.m.
    | (?<!\w)(?:(?:mr|mrs|ms|dr|st|jr|sr|vs|etc|inc|ltd|co)\.(?!\w) | no\.(?=\s*\d))
    | (?<!\w)(?:'\d\ds | 'n' | '(?:em|til|cause|tis|twas)(?!\w))  # '80s, rock 'n' roll
    | n't(?!\w) | '(?:s|m|d|re|ve|ll)(?!\w)                       # what is left of don't, man's
    | [#@][^\W\d_]\w*
    | \d+(?:[.,:]\d+)+(?:[-/][^\W_]+)*                            # 3,000, 5.50, 3:30
    | [^\W_]+(?:(?:[-./_]|(?<!\d)')[^\W_]+)*                      # t-shirt, and/or, o'clock
    | _+
    | [-.?!,:;'"`()\[\]{}]+                                       # dropped
    | \S
    """,
    re.VERBOSE,
)
_CLITIC = re.compile(r"(.+?)(n't|'(?:s|m|d|re|ve|ll))$")
_TWO = {
    "cannot": ("can", "not"),
    "gimme": ("gim", "me"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "lemme": ("lem", "me"),
    "wanna": ("wan", "na"),
    "'tis": ("'t", "is"),
    "'twas": ("'t", "was"),
}
_DROPPED = frozenset("-.?!,:;'\"`()[]{}")


def tokenize(caption: str) -> list[str]:
    """Words of a caption in lower case without punctuation, as the COCO caption server's tokenizer
    has them (Stanford's, of the Penn Treebank, in Java): clitics are tokens ("man 's", "do n't",
    "can not"); words with an inner hyphen, slash, period or apostrophe are one ("t-shirt",
    "and/or", "o'clock"), and so are numbers and abbreviations ("3,000", "3:30", "u.s.", "etc.").
    Other symbols are tokens ("$", "&").

    It differs in rare cases: the server keeps brackets (as "-lrb-") and runs of marks ("!!!"),
    which are dropped here, renders "£" and "€" as "#" and "$", knows many more abbreviations, and
    joins web and mail addresses, smileys and names like "AT&T". Of the 31,014 English captions of
    Multi30k 29 come out otherwise, most of them for brackets.
    """
    found = []
    for token in _TOKEN.findall(caption.lower().replace("&amp;", "&").translate(_PLAIN)):
        if _DROPPED.issuperset(token):
            continue
        if token in _TWO:
            found.extend(_TWO[token])
        elif parts := _CLITIC.match(token):
            found.extend(parts.groups())
        else:
            found.append(token)
    return found
