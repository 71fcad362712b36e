//! Words, buckets and measures as Python computes them.

use std::ops::RangeInclusive;

use serde_json::Value;
use sha2::{Digest, Sha256};
use toedit::analysis::{
    BUCKETS, NgramStatistics, bucket, distribution, entropy, js_divergence, smoothed_kl_divergence, words,
};

use crate::{reference, texts};

/// Whether a code point is in sorted ranges.
fn is_in(ranges: &[RangeInclusive<u32>], code: u32) -> bool {
    let after = ranges.partition_point(|range| *range.start() <= code);
    after > 0 && ranges[after - 1].contains(&code)
}

fn ranges(values: &Value) -> Vec<RangeInclusive<u32>> {
    let range = |pair: &Value| pair[0].as_u64().unwrap() as u32..=pair[1].as_u64().unwrap() as u32;
    values.as_array().unwrap().iter().map(range).collect()
}

fn buckets(texts: &[String]) -> Vec<u64> {
    let mut statistics = NgramStatistics::default();
    statistics.add(NgramStatistics::count(texts.iter().map(String::as_str)));
    statistics.buckets().to_vec()
}

#[test]
fn words_are_those_of_pythons_expression() {
    let reference = reference();
    for document in ["raw", "target"].iter().flat_map(|name| reference[name].as_array().unwrap()) {
        let expected: Vec<&str> =
            document["words"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        assert_eq!(words(document["text"].as_str().unwrap()), expected);
    }
}

/// Every character of Python's version of Unicode that is its own lower case: alone between two letters it joins them, parts
/// them, or stands for itself.
#[test]
fn every_character_is_of_pythons_kind() {
    let reference = reference();
    let [word, space, unassigned] = ["word", "space", "unassigned"].map(|name| ranges(&reference[name]));
    let mut checked = 0;
    for character in ('\0'..=char::MAX).filter(|character| !is_in(&unassigned, u32::from(*character))) {
        if !character.to_lowercase().eq([character]) {
            continue;
        }
        let text = format!("a{character}b");
        let expected = match u32::from(character) {
            code if is_in(&word, code) => vec![text.clone()],
            code if is_in(&space, code) => vec!["a".into(), "b".into()],
            _ => vec!["a".into(), character.to_string(), "b".into()],
        };
        assert_eq!(words(&text), expected, "{character:?}");
        checked += 1;
    }
    assert!(checked > 140_000, "{checked}");
}

#[test]
fn lower_case_is_pythons() {
    let reference = reference();
    let unassigned = ranges(&reference["unassigned"]);
    let assigned = ('\0'..=char::MAX).filter(|character| !is_in(&unassigned, u32::from(*character)));
    let lower: String = assigned.map(|character| character.to_string().to_lowercase()).collect();
    let hash: String = Sha256::digest(&lower).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash, reference["lower_sha256"].as_str().unwrap());
}

#[test]
fn buckets_are_those_of_an_independent_computation() {
    let reference = reference();
    for document in ["raw", "target"].iter().flat_map(|name| reference[name].as_array().unwrap()) {
        let mut expected = vec![0; BUCKETS];
        for (number, count) in document["buckets"].as_object().unwrap() {
            expected[number.parse::<usize>().unwrap()] = count.as_u64().unwrap();
        }
        assert_eq!(buckets(&[document["text"].as_str().unwrap().to_owned()]), expected);
    }
    assert_eq!((bucket("the"), bucket("")), (8288, 6549));
}

#[test]
fn measures_are_those_of_an_independent_computation() {
    let reference = reference();
    let [raw, target] = ["raw", "target"].map(|name| distribution(&buckets(&texts(&reference, name))));
    for (name, found) in [
        ("entropy", entropy(&raw)),
        ("js", js_divergence(&raw, &target)),
        ("smoothed_kl", smoothed_kl_divergence(&raw, &target)),
    ] {
        let expected = reference[name].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-10 * expected, "{name}: {found} {expected}");
    }
}
