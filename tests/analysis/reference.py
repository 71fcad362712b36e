#!/usr/bin/env python3
"""Writes reference.json: words, buckets and importance weights as Python itself computes them, by DSIR's definitions.

usage: reference.py SAMPLE.jsonl > reference.json (the standard library alone; the sample gives ordinary text)
"""

import hashlib
import json
import math
import re
import sys
import unicodedata

BUCKETS = 10_000
EPSILON = 1e-8
WORDS = re.compile(r"\w+|[^\w\s]+")
TRICKY = [
    "",
    " \t\n\x1c\x1d\x1e\x1f\x85\u00a0\u2003\u3000",
    "Don't STOP... me_2 now!? (a-b) --- c",
    "ΟΔΟΣ ΑΣ.Β Σ ΣΑΣ ΑΣΑ\u0301Σ",
    "İstanbul IŞIK ıi Ǆ ẞ ſ \u212a\u212b",
    "naïve cafe\u0301 re\u0301sume\u0301 \u0301x",
    "हिन्दी में लिखा हुआ पाठ, தமிழ் \u0e44\u0e17\u0e22",
    "日本語のテキスト。中文、한국어 글",
    "①② ⅷ Ⅷ Ⓐ ½ ² ٣٤ १२ 𝟘𝟙 𝒜𝐁 🅰 ",
    "emoji 👩\u200d👩\u200d👧 😀!! ☂\ufe0f",
    "\ufeffbom \u200bzero\u200cwidth\u2060 a\u00adb",
    "עברית عربي\u0651 \u202eright\u202c",
    "$9.99 50% a+b=c x² http://a.b/c?d=e&f #tag @me",
    "one",
    "a a a a",
]


def ranges(holds):
    """The code points that hold, as [first, last] pairs, surrogates left out."""
    found = []
    for code in range(0x110000):
        if 0xD800 <= code < 0xE000 or not holds(chr(code)):
            continue
        if found and found[-1][1] == code - 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return found


def is_assigned(character):
    return unicodedata.category(character) != "Cn"


def bucket(ngram):
    return int(hashlib.sha256(ngram.encode("utf-8")).hexdigest(), 16) % BUCKETS


def counts(words):
    found = {}
    for ngram in words + [" ".join(pair) for pair in zip(words, words[1:])]:
        found[bucket(ngram)] = found.get(bucket(ngram), 0) + 1
    return found


def distribution(documents):
    sums = [0] * BUCKETS
    for document in documents:
        for number, count in document["buckets"].items():
            sums[number] += count
    return [count / sum(sums) for count in sums]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q) if a > 0)


def describe(text):
    words = WORDS.findall(text.lower())
    return {"text": text, "words": words, "buckets": counts(words)}


def main():
    with open(sys.argv[1], encoding="utf-8") as sample:
        texts = [json.loads(line)["text"][:600] for line in sample][:24]
    raw = [describe(text) for text in TRICKY + texts[:16]]
    target = [describe(text) for text in texts[16:]]
    p_raw, p_target = distribution(raw), distribution(target)
    ratios = [math.log(t + EPSILON) - math.log(r + EPSILON) for t, r in zip(p_target, p_raw)]
    weights = [sum(count * ratios[number] for number, count in document["buckets"].items()) for document in raw]
    middle = [(t + r) / 2 for t, r in zip(p_target, p_raw)]
    lower = "".join(chr(code).lower() for first, last in ranges(is_assigned) for code in range(first, last + 1))
    json.dump(
        {
            "python": sys.version.split()[0],
            "unicode": unicodedata.unidata_version,
            "word": ranges(lambda character: re.match(r"\w", character)),
            "space": ranges(lambda character: re.match(r"\s", character)),
            "unassigned": ranges(lambda character: not is_assigned(character)),
            "lower_sha256": hashlib.sha256(lower.encode("utf-8")).hexdigest(),
            "raw": raw,
            "target": target,
            "weights": weights,
            "entropy": -sum(p * math.log(p) for p in p_raw if p > 0),
            "js": (kl(p_raw, middle) + kl(p_target, middle)) / 2,
            "smoothed_kl": sum(r * (math.log(r + EPSILON) - math.log(t + EPSILON)) for t, r in zip(p_target, p_raw)),
        },
        sys.stdout,
        ensure_ascii=True,
    )
    print()


main()
