//! Attention over documents packed as the forward pass packs them.

use half::bf16;
use proptest::prelude::*;
use toedit::ops::attention::{Attention, QUERIES, Scratch};
use toedit::tensor::{Element, PANEL};

use crate::common::{oracle, samples, tolerance};

fn attention(heads: usize, kv_heads: usize, head_dim: usize) -> Attention {
    Attention { heads, kv_heads, head_dim, scale: 1.0 / (head_dim as f32).sqrt() }
}

/// One document's queries `[T, H, D]` and its keys and values `[T, 2, KV, D]`.
struct Document<E> {
    attention: Attention,
    q: Vec<f32>,
    kv: Vec<f32>,
    blocks: Vec<E>,
    tokens: usize,
}

impl<E: Element> Document<E> {
    fn new(attention: Attention, seed: u32, tokens: usize) -> Self {
        let q = samples::values::<E>(seed, tokens * attention.q_len());
        let kv = samples::values::<E>(!seed, tokens * 2 * attention.kv_len());
        let mut document = Self { attention, q, kv, blocks: Vec::new(), tokens };
        document.pack();
        document
    }

    /// Packs keys and values into blocks full of NaN.
    fn pack(&mut self) {
        let block_len = self.attention.block_len();
        self.blocks = vec![E::from_f32(f32::NAN); self.tokens.div_ceil(PANEL) * block_len];
        let rows = samples::elements::<E>(&self.kv);
        let rows = rows.chunks(PANEL * 2 * self.attention.kv_len());
        for (rows, block) in rows.zip(self.blocks.chunks_exact_mut(block_len)) {
            self.attention.pack(rows, block);
        }
    }

    /// Outputs of all rows, `rows` at a time, with work memory for `keys` keys.
    fn forward(&self, rows: usize, keys: usize) -> Vec<f32> {
        let mut q = samples::elements::<E>(&self.q);
        let mut scratch = Scratch::new(&self.attention, keys);
        for (index, q) in q.chunks_mut(rows * self.attention.q_len()).enumerate() {
            self.attention.forward(q, index * rows, &self.blocks, &mut scratch);
        }
        q.into_iter().map(E::to_f32).collect()
    }

    fn check(&self) {
        let terms = self.tokens.max(self.attention.head_dim);
        // The weights are rounded, and so is the output.
        let limit = tolerance::stored::<E>(terms, 2);
        let what = format!("{} {:?} of {} tokens", E::NAME, self.attention, self.tokens);
        let expected = oracle::attention(&self.attention, &self.q, &self.kv);
        tolerance::assert_within(&what, self.forward(QUERIES, self.tokens), &expected, limit);
    }
}

fn check(attention: Attention, tokens: usize) {
    let seed = (attention.head_dim * 1000 + tokens) as u32;
    Document::<f32>::new(attention, seed, tokens).check();
    Document::<bf16>::new(attention, seed, tokens).check();
}

#[test]
fn every_head_size_and_grouping_is_the_oracle() {
    for head_dim in [2, 12, 24, 64, 80, 256] {
        for (heads, kv_heads) in [(1, 1), (3, 3), (6, 2), (4, 1)] {
            for tokens in [1, 2, 33] {
                check(attention(heads, kv_heads, head_dim), tokens);
            }
        }
    }
}

#[test]
fn every_length_about_a_block_is_the_oracle() {
    for tokens in [1, 2, 11, 12, 13, 23, 24, 25, 31, 32, 33, 47, 48, 49, 63, 64, 65, 119, 120, 121, 257] {
        check(attention(4, 2, 12), tokens);
    }
}

/// The rows of a tile, the room in the work memory and what an earlier document left there change no bit.
fn rows_alone<E: Element>() {
    let document = Document::<E>::new(attention(2, 1, 24), 5, 70);
    let alone = document.forward(1, 70);
    for rows in 2..=QUERIES {
        tolerance::assert_same_bits("rows together", &document.forward(rows, 700), &alone);
    }
    let mut scratch = Scratch::new(&document.attention, 200);
    let mut other = samples::elements::<E>(&vec![f32::NAN; document.q.len()]);
    document.attention.forward(&mut other[..48 * QUERIES], 46, &document.blocks, &mut scratch);
    let mut q = samples::elements::<E>(&document.q[..48]);
    document.attention.forward(&mut q, 0, &document.blocks, &mut scratch);
    let first: Vec<f32> = q.into_iter().map(E::to_f32).collect();
    tolerance::assert_same_bits("after NaN", &first, &alone[..48]);
}

#[test]
fn a_row_does_not_depend_on_its_tile() {
    rows_alone::<f32>();
    rows_alone::<bf16>();
}

/// A prefix of a document gives the bits that it gives within the whole.
#[test]
fn later_tokens_change_nothing() {
    let whole = Document::<f32>::new(attention(2, 2, 12), 6, 100);
    let outputs = whole.forward(QUERIES, 100);
    for tokens in [1, 31, 32, 33, 64, 99] {
        let prefix = Document::<f32>::new(whole.attention, 6, tokens);
        let kv = whole.kv[..prefix.kv.len()].to_vec();
        let mut prefix = Document { q: whole.q[..prefix.q.len()].to_vec(), kv, ..prefix };
        prefix.pack();
        tolerance::assert_same_bits("prefix", &prefix.forward(QUERIES, 100), &outputs[..prefix.q.len()]);
    }
}

#[test]
fn one_token_gives_its_own_value() {
    for seed in 0..1000 {
        let document = Document::<bf16>::new(attention(4, 2, 12), seed, 1);
        let (_, values) = document.kv.split_at(24);
        let expected: Vec<f32> =
            [0, 0, 1, 1].iter().flat_map(|head| &values[head * 12..][..12]).copied().collect();
        tolerance::assert_same_bits("value", &document.forward(1, 1), &expected);
    }
}

#[test]
fn huge_scores_neither_overflow_nor_vanish() {
    let mut document = Document::<f32>::new(attention(1, 1, 12), 7, 40);
    document.q.iter_mut().for_each(|x| *x *= 1e4);
    document.kv[..].chunks_exact_mut(24).for_each(|kv| kv[..12].iter_mut().for_each(|x| *x *= 1e4));
    document.pack();
    let outputs = document.forward(QUERIES, 40);
    // The largest score decides alone.
    assert!(outputs.iter().all(|x| x.abs() <= 1.0));
}

#[test]
fn a_nan_shows_in_its_own_row() {
    let mut document = Document::<f32>::new(attention(1, 1, 12), 8, 40);
    document.q[17 * 12 + 3] = f32::NAN;
    for (row, output) in document.forward(QUERIES, 40).chunks_exact(12).enumerate() {
        assert!(output.iter().all(|x| x.is_nan() == (row == 17)), "row {row}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn random_shapes_are_the_oracle(
        seed: u32, kv_heads in 1..4usize, group in 1..4usize, half in 1..20usize, tokens in 1..80usize,
    ) {
        let attention = attention(kv_heads * group, kv_heads, 2 * half);
        Document::<f32>::new(attention, seed, tokens).check();
        Document::<bf16>::new(attention, seed, tokens).check();
    }
}
