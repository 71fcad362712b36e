//! The random numbers: published known answers, the counter's layout, uniformity.

use toedit::random::{Purpose, Stream, ids_stream, philox4x32, text_stream, uniform};
use xxhash_rust::xxh3::xxh3_64;

/// Random123's `kat_vectors` for philox4x32, 10 rounds: counter, key, result.
const KNOWN_ANSWERS: [([u32; 4], [u32; 2], [u32; 4]); 3] = [
    ([0; 4], [0; 2], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]),
    ([u32::MAX; 4], [u32::MAX; 2], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]),
    (
        [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
        [0xa4093822, 0x299f31d0],
        [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ),
];

#[test]
fn philox_gives_the_published_answers() {
    for (counter, key, expected) in KNOWN_ANSWERS {
        assert_eq!(philox4x32(counter, key), expected);
    }
}

#[test]
fn a_draw_is_the_block_of_its_counter() -> toedit::Result<()> {
    let (seed, stream) = (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);
    for (purpose, nibble) in
        [(Purpose::Edit, 0), (Purpose::Generate, 1), (Purpose::Shuffle, 2), (Purpose::Mix, 3)]
    {
        let numbers = Stream::new(seed, stream, purpose, 0xabcde)?.draw(77, 0x3f);
        let counter = [0x7654_3210, 0xfedc_ba98, 77, nibble << 28 | 0xabcde << 8 | 0x3f];
        let block = philox4x32(counter, [0x89ab_cdef, 0x0123_4567]);
        assert_eq!((numbers.first, numbers.second), (uniform(block[0]), uniform(block[1])));
    }
    Ok(())
}

#[test]
fn a_generation_past_its_field_is_refused() {
    assert!(Stream::new(0, 0, Purpose::Edit, Stream::MAX_GENERATION).is_ok());
    let error = Stream::new(0, 0, Purpose::Edit, Stream::MAX_GENERATION + 1).unwrap_err();
    assert_eq!(error.to_string(), "generation or sample 1048576: expected at most 1048575");
}

#[test]
fn uniforms_lie_strictly_between_0_and_1() {
    assert_eq!(uniform(0), 0.5f64.powi(33));
    assert_eq!(uniform(u32::MAX), 1.0 - 0.5f64.powi(33));
    assert!(uniform(u32::MAX) < 1.0);
}

/// Both words over 2^20 positions, 256 bins each: the statistic has 255 degrees of freedom and exceeds 347 with
/// probability 1e-4.
#[test]
fn both_words_are_uniform() -> toedit::Result<()> {
    const DRAWS: u32 = 1 << 20;
    let stream = Stream::new(1, 2, Purpose::Edit, 0)?;
    let mut counts = [[0u32; 256]; 2];
    for position in 0..DRAWS {
        let numbers = stream.draw(position, 0);
        counts[0][(numbers.first * 256.0) as usize] += 1;
        counts[1][(numbers.second * 256.0) as usize] += 1;
    }
    let expected = f64::from(DRAWS) / 256.0;
    for word in counts {
        let chi_square: f64 =
            word.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
        assert!(chi_square < 347.0, "{chi_square}");
    }
    Ok(())
}

#[test]
fn streams_hash_the_content_and_the_id() {
    let text = [&[0][..], &2u64.to_le_bytes(), b"ab"].concat();
    assert_eq!(text_stream("ab", None), xxh3_64(&text));
    assert_eq!(text_stream("ab", Some("\"7\"")), xxh3_64(&[&text[..], b"\"7\""].concat()));
    let ids = [&[1][..], &2u64.to_le_bytes(), &5u32.to_le_bytes(), &70_000u32.to_le_bytes(), b"3"].concat();
    assert_eq!(ids_stream(&[5, 70_000], Some("3")), xxh3_64(&ids));
    // The length keeps a text apart from a shorter one with an id.
    assert_ne!(text_stream("ab", None), text_stream("a", Some("b")));
}
