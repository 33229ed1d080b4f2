"""Measures of generated text against worked examples of the papers, sacrebleu and the COCO caption
server's own code."""

import math
import pathlib
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from advdl import metrics
from advdl.errors import UserError

WORDS = [
    "a",
    "man",
    "woman",
    "dog",
    "cat",
    "runs",
    "sits",
    "on",
    "in",
    "the",
    "park",
    "street",
    "with",
    "red",
    "blue",
    "ball",
    "and",
    "bench",
    "near",
    "tree",
]
RANDOM = np.random.default_rng(0)


def caption(low=5, high=14):
    return [str(word) for word in RANDOM.choice(WORDS, RANDOM.integers(low, high))]


def near(tokens):
    """The same caption with some words left out, and some others."""
    return [
        str(RANDOM.choice(WORDS)) if RANDOM.random() < 0.2 else word
        for word in tokens
        if RANDOM.random() < 0.9
    ]


REFERENCES = [[own, *(near(own) for _ in range(4))] for own in (caption() for _ in range(30))]
CANDIDATES = [near(own[0]) for own in REFERENCES]
CANDIDATES[3], CANDIDATES[4], CANDIDATES[5] = (
    [],
    ["man"],
    ["dog", "dog", "dog", "dog", "dog", "dog", "dog", "dog", "dog", "dog", "dog", "dog"],
)


def figures(candidates, references):
    return (
        *metrics.bleu(candidates, references),
        metrics.rouge_l(candidates, references),
        metrics.cider_d(candidates, references),
    )


def split(*captions):
    return [text.split() for text in captions]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A man's T-shirt.", "a man 's t-shirt"),
        ("Isn't it? They've gone; he can't, cannot!", "is n't it they 've gone he ca n't can not"),
        ("A sign says \"STOP\" and 'go' (twice)", "a sign says stop and go twice"),
        ("the boys\u2019 ball \u2013 it\u2019s \u201cred\u201d", "the boys ball it 's red"),
        ("$5.50 or 50% of 3,000 at 3:30", "$ 5.50 or 50 % of 3,000 at 3:30"),
        ("Mr. O'Brien of the U.S. at 5 p.m., etc.", "mr. o'brien of the u.s. at 5 p.m. etc."),
        ("and/or mid-air - fly -- first,second", "and/or mid-air fly first second"),
        ("Caf\u00e9 in Z\u00fcrich & co", "caf\u00e9 in z\u00fcrich & co"),
        ("wait... what?", "wait what"),
        (" .\n", ""),
    ],
)
def test_captions_become_words(text, tokens):
    assert metrics.tokenize(text) == tokens.split()


def test_words_are_those_of_the_caption_servers_tokenizer(tmp_path):
    """Stanford's Java program with the options and the list of marks of the server."""
    ptb = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer")
    if not shutil.which("java"):
        pytest.skip("needs Java")
    captions = [
        "A man's black-and-white dog, isn't it? Yes!",
        "He doesn't know; she'll go, they've been, I'm, you're, he'd.",
        "I cannot, gonna, wanna, gotta, lemme, gimme, can't won't",
        "A sign that says \"STOP\" and 'go' here.",
        "Mr. Smith at 5 p.m. in the U.S. on St. Mary's street.",
        "the boys' ball and a dog/cat and/or bird & horse",
        "wait... what -- no - yes",
        "3:30 10am 5'10\" tall, 10:30am and 12,345.67 for $5.50 or 50%",
        "the 1980s, '80s rock 'n' roll, 'tis 'twas o'clock O'Brien",
        "no. 5, etc. two dogs.A cat, first,second",
        "#1 @home a_b x*y ___",
        "Salt &amp; pepper in one's w/o b/w jackets",
    ]
    path = tmp_path / "captions.txt"
    path.write_text("\n".join(captions), "utf-8")
    jar = pathlib.Path(ptb.__file__).with_name(ptb.STANFORD_CORENLP_3_4_1_JAR)
    java = [
        "java",
        "-cp",
        jar,
        "edu.stanford.nlp.process.PTBTokenizer",
        "-preserveLines",
        "-lowerCase",
        path,
    ]
    lines = subprocess.run(
        java, capture_output=True, check=True, encoding="utf-8"
    ).stdout.splitlines()
    expected = [[word for word in line.split() if word not in ptb.PUNCTUATIONS] for line in lines]
    assert [metrics.tokenize(text) for text in captions] == expected


def test_bleu_clips_a_word_at_its_largest_count_in_one_reference():
    """Papineni et al. 2002, section 2.1, example 2: 2 of 7."""
    found = metrics.bleu(
        split("the the the the the the the"),
        [split("the cat is on the mat", "there is a cat on the mat")],
    )
    assert found[0] == pytest.approx(2 / 7) and max(found[1:]) < 1e-4
    long = [["a"] * 20 for _ in REFERENCES]
    clipped = sum(max(reference.count("a") for reference in own) for own in REFERENCES)
    assert metrics.bleu(long, REFERENCES)[0] == pytest.approx(clipped / (20 * len(REFERENCES)))


def test_bleu_is_the_geometric_mean_of_precisions():
    """5 of 6 words, 3 of 5 pairs, 2 of 4 triples, 1 of 3 quadruples."""
    found = metrics.bleu(split("the cat sat on the mat"), [split("the cat sat on a mat")])
    precisions = [5 / 6, 3 / 5, 2 / 4, 1 / 3]
    assert found == pytest.approx([math.prod(precisions[:n]) ** (1 / n) for n in range(1, 5)])


def test_bleu_sums_over_the_corpus():
    """1 of 1 and 0 of 3 words are 1 of 4, not a half."""
    assert metrics.bleu(split("a", "x y z"), [split("a"), split("a b c")])[0] == pytest.approx(
        1 / 4
    )


@pytest.mark.parametrize(
    ("lengths", "r"),
    [([5], 5), ([5, 9], 5), ([4, 9], 4), ([4, 2], 2), ([2, 4], 2), ([3, 4], 3), ([1], 1)],
)
def test_brevity_penalty_is_of_the_nearest_reference_and_of_two_as_near_the_shorter(lengths, r):
    """Three words, all of them in each reference or as many as it has."""
    own = [["a", "b", "c", "d", "e", "f", "g", "h", "i"][:length] for length in lengths]
    precision = min(3, max(lengths)) / 3
    assert metrics.bleu(split("a b c"), [own])[0] == pytest.approx(
        precision * (math.exp(1 - r / 3) if r > 3 else 1)
    )


def test_brevity_penalty_is_of_the_corpus():
    """A long candidate makes up for a short one: c = 1 + 5, r = 3 + 3."""
    assert metrics.bleu(split("a", "a b c d e"), [split("a b c"), split("a b c")])[
        0
    ] == pytest.approx(4 / 6)


def test_rouge_l_of_the_papers_examples():
    """Lin 2004, section 3.1: 3 of 4 in order, 2 of 4 in order."""
    police = [split("police killed the gunman")]
    assert metrics.rouge_l(split("police kill the gunman"), police) == pytest.approx(3 / 4)
    assert metrics.rouge_l(split("the gunman kill police"), police) == pytest.approx(2 / 4)


def test_rouge_l_takes_precision_and_recall_of_different_references():
    """P = 3/4 of the second, R = 2/2 of the first; F = 2.44 · 0.75 / (1 + 1.44 · 0.75)."""
    found = metrics.rouge_l(split("a b c d"), [split("a b", "a b c x y z")])
    assert found == pytest.approx(2.44 * 0.75 / (1 + 1.44 * 0.75))


def test_cider_d_by_hand():
    """Two images: "x" is in both and weighs 0, the rest weighs log 2. "a a" has min(2, 1) · 1 / (2
    · 1) of the words, no pair: 10 · (1/2 + 0) / 4. "x b" has all words and pairs, and no longer
    n-grams: 10 · (1 + 1) / 4."""
    found = metrics.cider_d(split("a a", "x b"), [split("x a"), split("x b")])
    assert found == pytest.approx((10 * 0.5 / 4 + 10 * 2 / 4) / 2)


def test_cider_d_takes_words_of_no_reference_for_rare_ones():
    """Of "a q" and "x a" the words' cosine is 1 / √2: "q", in no reference, weighs log 2 as "a"
    does."""
    assert metrics.cider_d(split("a q", "zero"), [split("x a"), split("x b")]) == pytest.approx(
        10 / 4 / math.sqrt(2) / 2
    )


@pytest.mark.parametrize("sigma", [6.0, 1.0])
def test_cider_d_of_another_length_is_less_by_a_gaussian(sigma):
    """ "b" has the words' cosine of 1 alone, and a word less than "x b"."""
    found = metrics.cider_d(split("zero", "b"), [split("x a"), split("x b")], sigma)
    assert found == pytest.approx(10 / 4 * math.exp(-1 / (2 * sigma**2)) / 2)


def test_cider_d_is_a_mean_over_references():
    """Against "x b" 5 as above; against "y c", which shares nothing, 0."""
    assert metrics.cider_d(
        split("zero", "x b"), [split("x a"), split("x b", "y c")]
    ) == pytest.approx((0 + 5 / 2) / 2)


def test_cider_d_of_one_image_is_0():
    """All n-grams are in all images."""
    assert metrics.cider_d(CANDIDATES[:1], REFERENCES[:1]) == 0
    assert metrics.cider_d([REFERENCES[0][0]], [REFERENCES[0]]) == 0


def test_a_perfect_match_is_1_and_10():
    own = [[str(word) for word in words] for words in RANDOM.integers(0, 50, (8, 9))]
    same = figures(own, [[tokens] * 3 for tokens in own])
    assert same == pytest.approx((1, 1, 1, 1, 1, 10))
    assert max(figures(split("n n n n n", "m m"), [split("a b c d"), split("e f g")])) < 1e-5


def test_order_of_images_and_of_references_does_not_matter():
    order = RANDOM.permutation(len(CANDIDATES))
    turned = figures([CANDIDATES[n] for n in order], [REFERENCES[n][::-1] for n in order])
    assert turned == pytest.approx(figures(CANDIDATES, REFERENCES), rel=1e-12)


def test_captions_of_other_images_score_less():
    wrong = figures([own[0] for own in REFERENCES[1:] + REFERENCES[:1]], REFERENCES)
    right = figures([own[0] for own in REFERENCES], REFERENCES)
    assert all(low < high for low, high in zip(wrong, right, strict=True))
    assert wrong[-1] < 0.2 * right[-1]


def test_one_repeated_word_is_worth_little():
    repeated = metrics.cider_d([["a"] * 10] * len(REFERENCES), REFERENCES)
    assert repeated < 0.1 * metrics.cider_d(CANDIDATES, REFERENCES)


def test_figures_are_the_caption_servers():
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    theirs = {image: [" ".join(tokens) for tokens in own] for image, own in enumerate(REFERENCES)}
    mine = {image: [" ".join(tokens)] for image, tokens in enumerate(CANDIDATES)}
    expected = (
        *Bleu(4).compute_score(theirs, mine)[0],
        Rouge().compute_score(theirs, mine)[0],
        Cider().compute_score(theirs, mine)[0],
    )
    found = figures(CANDIDATES, REFERENCES)
    assert min(found) > 0.05
    assert found == pytest.approx(expected, rel=1e-12)


def test_bleu_of_tokens_is_sacrebleus():
    from sacrebleu.metrics import BLEU

    mine = [" ".join(tokens) for tokens in CANDIDATES]
    theirs = [[" ".join(own[n]) for own in REFERENCES] for n in range(5)]
    for n in range(1, 5):
        score = BLEU(tokenize="none", max_ngram_order=n).corpus_score(mine, theirs).score
        assert 100 * metrics.bleu(CANDIDATES, REFERENCES)[n - 1] == pytest.approx(score, rel=1e-8)


def test_figures_of_captions_as_text_by_their_names():
    candidates = ["A man's dog runs.", "Two cats sit on a bench"]
    references = [["a man 's dog runs", "The dog!"], ["two cats, on a bench"]]
    found = metrics.caption_figures(candidates, references)
    names = ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d", "exact_match"]
    assert list(found) == names
    tokens = [[metrics.tokenize(text) for text in own] for own in references]
    mine = [metrics.tokenize(text) for text in candidates]
    assert tuple(found.values()) == (*figures(mine, tokens), 0.5)
    assert "cider_d" not in metrics.caption_figures(candidates[:1], references[:1])


def test_bleu_of_translations_comes_with_its_signature():
    """The tokenizer "13a" parts the period, which is a word: 6/7, 4/6, 2/5, 1/4."""
    score, signature = metrics.corpus_bleu(["The cat sat on the mat."], ["The cat sat on a mat."])
    assert score == pytest.approx(100 * math.prod([6 / 7, 4 / 6, 2 / 5, 1 / 4]) ** (1 / 4))
    assert "tok:13a" in signature and "case:mixed" in signature and "version:" in signature
    assert metrics.corpus_bleu(["The cat sat on a mat."], ["The cat sat on a mat."])[
        0
    ] == pytest.approx(100)


def test_chrf_is_the_papers_f_score_of_characters():
    """Of two sentences, from the counts of both; spaces are no characters. Precision and recall
    are means over the lengths of n-grams (section 2)."""
    pairs = [("the cats sat", "the cat sat"), ("on mats there", "on the mats")]
    found = []
    for n in range(1, 7):
        grams = [
            [Counter(text[i : i + n] for i in range(len(text) - n + 1)) for text in each]
            for each in [[text.replace(" ", "") for text in pair] for pair in pairs]
        ]
        common = sum((own & other).total() for own, other in grams)
        found.append([common / sum(g[side].total() for g in grams) for side in (0, 1)])
    precision, recall = np.mean(found, axis=0)
    wanted = 100 * 5 * precision * recall / (4 * precision + recall)
    score, signature = metrics.corpus_chrf(*(list(side) for side in zip(*pairs, strict=True)))
    assert score == pytest.approx(wanted) and 50 < score < 100
    assert "nc:6" in signature and "nw:0" in signature and "version:" in signature
    assert metrics.corpus_chrf(["ein Satz"], ["ein Satz"])[0] == pytest.approx(100)


def test_word_error_rate_counts_over_the_corpus():
    """One substitution and one deletion of 4 words, nothing of 1: 2 of 5."""
    assert metrics.word_error_rate(["a b c d", "e"], ["a x c", "e"]) == pytest.approx(2 / 5)
    assert metrics.word_error_rate(["a b", "c"], ["", " "]) == 1
    assert metrics.word_error_rate([" a\tb\n"], ["a  b"]) == 0


def test_words_said_into_silence_are_insertions():
    assert metrics.word_error_rate(["", "a b"], ["x y z", "a b"]) == pytest.approx(3 / 2)
    assert metrics.word_error_rate(["", "a b"], ["", "a b"]) == 0


@pytest.mark.parametrize(
    ("library", "measure"),
    [
        ("sacrebleu.metrics.bleu", metrics.corpus_bleu),
        ("sacrebleu.metrics.chrf", metrics.corpus_chrf),
        ("jiwer", metrics.word_error_rate),
    ],
)
def test_a_missing_library_is_named_with_what_installs_it(monkeypatch, library, measure):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=r"pip install 'advdl\[text\]'"):
        measure(["a"], ["a"])


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (lambda: metrics.bleu([], []), "no candidates"),
        (lambda: metrics.rouge_l(CANDIDATES, REFERENCES[:-1]), "30 candidates and 29 references"),
        (lambda: metrics.cider_d(split("a", "b"), [split("a"), []]), "image 1 has no references"),
        (lambda: metrics.cider_d(CANDIDATES, REFERENCES, sigma=0), "sigma of 0"),
        (lambda: metrics.caption_figures([], []), "no candidates"),
        (lambda: metrics.caption_figures(["a"], [["a"], ["b"]]), "1 candidates and 2 references"),
        (lambda: metrics.caption_figures(["a"], [[]]), "image 0 has no references"),
        (lambda: metrics.caption_figures(["a"], ["a"]), "image 0 are one string"),
        (lambda: metrics.corpus_bleu("a", "a"), "candidates are one string"),
        (lambda: metrics.corpus_bleu(["a"], []), "1 candidates and 0 references"),
        (lambda: metrics.word_error_rate([], []), "no candidates"),
        (lambda: metrics.word_error_rate(["", " "], ["a", "b"]), "no reference has a word"),
        (lambda: metrics.word_error_rate(["a"], ["a", "b"]), "2 candidates and 1 references"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, text):
    with pytest.raises(ValueError, match=text):
        wrong()


def test_counts_of_tokens_foresee_what_they_have_seen():
    known, wanted = np.array([0, 1, 0, 1, 0, 2, 0, 1]), np.array([0, 1, 0, 1])
    found = metrics.counted_nats(known, wanted, 4)
    single = (np.array([4, 3, 1, 0]) + 1) / 12
    assert found["counts of single tokens"] == pytest.approx(-np.log(single[[1, 0, 1]]).mean())
    # After 0: 1 three times, 2 once, two kinds; after 1: 0 twice, one kind.
    after = [4 / 6 * 3 / 4 + 2 / 6 * single[1], 2 / 3 * 1 + 1 / 3 * single[0]]
    wanted_nats = -np.log([after[0], after[1], after[0]]).mean()
    assert found["counts of pairs"] == pytest.approx(wanted_nats)
    never = metrics.counted_nats(known, np.array([3, 1]), 4)
    assert never["counts of pairs"] == never["counts of single tokens"]


def test_compressors_pay_little_for_what_they_have_seen():
    rng = np.random.default_rng(0)
    text = "".join(map(chr, rng.integers(97, 123, 4000)))
    again, new = metrics.compressed_bits(text, text), metrics.compressed_bits("", text)
    assert new.keys() == {"bz2", "lzma"} and all(4 < bits < 7 for bits in new.values())
    assert again["lzma"] < 1 < again["bz2"] < new["bz2"]


def test_places_of_a_text_are_told_up_to_their_character():
    found = metrics.place_features('a "b"\n c"d')
    column, quoted, indented = found.values()
    assert column.tolist() == [1, 2, 3, 4, 5, 0, 1, 2, 3, 4]
    assert quoted.tolist() == [0, 0, 1, 1, 0, 0, 0, 0, 1, 1]
    assert indented.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_the_constant_answer_is_the_commonest_and_among_equals_the_best():
    assert metrics.constant_answer(["a", "b", "b"], lambda text: -1 / 0) == "b"
    texts = [str(number) for number in range(1000)]
    assert metrics.constant_answer(texts, float) == "980"
    assert metrics.constant_answer([*texts[:7], *texts[:5]], float) == "4"
