//! Attention over packs of documents.

use half::bf16;
use proptest::prelude::*;
use toedit::ops::attention::{Attention, QUERIES, Scratch};
use toedit::tensor::{Element, PANEL};

use crate::common::arms::{self, Arm, Scalar};
use crate::common::{oracle, samples, tolerance};

pub fn attention(heads: usize, kv_heads: usize, head_dim: usize) -> Attention {
    Attention { heads, kv_heads, head_dim, scale: 1.0 / (head_dim as f32).sqrt() }
}

/// One document's queries `[T, H, D]` and its keys and values `[T, 2, KV, D]`.
#[derive(Clone)]
pub struct Document {
    pub attention: Attention,
    pub q: Vec<f32>,
    pub kv: Vec<f32>,
}

impl Document {
    pub fn new<E: Element>(attention: Attention, seed: u32, tokens: usize) -> Self {
        let q = samples::values::<E>(seed, tokens * attention.q_len());
        let kv = samples::values::<E>(!seed, tokens * 2 * attention.kv_len());
        Self { attention, q, kv }
    }

    pub fn tokens(&self) -> usize {
        self.q.len() / self.attention.q_len()
    }

    /// Its first tokens.
    fn prefix(&self, tokens: usize) -> Self {
        let q = self.q[..tokens * self.attention.q_len()].to_vec();
        let kv = self.kv[..tokens * 2 * self.attention.kv_len()].to_vec();
        Self { q, kv, ..*self }
    }

    /// Keys and values in blocks that were full of NaN.
    fn blocks<E: Element>(&self) -> Vec<E> {
        let block_len = self.attention.block_len();
        let mut blocks = vec![E::from_f32(f32::NAN); self.tokens().div_ceil(PANEL) * block_len];
        let rows = samples::elements::<E>(&self.kv);
        let rows = rows.chunks(PANEL * 2 * self.attention.kv_len());
        for (rows, block) in rows.zip(blocks.chunks_exact_mut(block_len)) {
            self.attention.pack(rows, 0, block);
        }
        blocks
    }

    /// Outputs of all rows on the CPU, `rows` at a time, with work memory for `keys` keys.
    fn forward<E: Element>(&self, rows: usize, keys: usize) -> Vec<f32> {
        let (mut q, blocks) = (samples::elements::<E>(&self.q), self.blocks::<E>());
        let mut scratch = Scratch::new(&self.attention, keys);
        for (index, q) in q.chunks_mut(rows * self.attention.q_len()).enumerate() {
            self.attention.forward(q, index * rows, &blocks, &mut scratch);
        }
        q.into_iter().map(E::to_f32).collect()
    }
}

/// Outputs of a pack of documents, one after the other.
fn forward<E: Scalar>(arm: &Arm, documents: &[Document]) -> Vec<f32> {
    match arm {
        Arm::Cpu => documents.iter().flat_map(|x| x.forward::<E>(QUERIES, x.tokens())).collect(),
        Arm::Device(queue) => device::forward::<E>(queue, documents, false).0,
    }
}

fn check<E: Scalar>(arm: &Arm, documents: &[Document]) {
    let outputs = forward::<E>(arm, documents);
    let mut first = 0;
    for document in documents {
        let Document { attention, q, kv } = document;
        // The weights are rounded, and so is the output.
        let limit = tolerance::stored::<E>(document.tokens().max(attention.head_dim), 2);
        let what = format!("{arm} {} {attention:?} of {} tokens", E::NAME, document.tokens());
        let outputs = outputs[first..][..q.len()].to_vec();
        tolerance::assert_within(&what, outputs, &oracle::attention(attention, q, kv), limit);
        first += q.len();
    }
}

/// Checks a pack of random documents on every arm.
fn check_pack(attention: Attention, tokens: &[usize]) {
    for arm in arms::with_host() {
        check::<f32>(&arm, &pack::<f32>(attention, tokens));
        check::<bf16>(&arm, &pack::<bf16>(attention, tokens));
    }
}

pub fn pack<E: Element>(attention: Attention, tokens: &[usize]) -> Vec<Document> {
    let seed = attention.head_dim * 1000;
    tokens.iter().enumerate().map(|(i, n)| Document::new::<E>(attention, (seed + i) as u32, *n)).collect()
}

#[test]
fn every_head_size_and_grouping_is_the_oracle() {
    for head_dim in [2, 4, 12, 24, 32, 34, 64, 80, 96, 98, 128, 130, 256] {
        for (heads, kv_heads) in [(1, 1), (3, 3), (6, 2), (4, 1)] {
            check_pack(attention(heads, kv_heads, head_dim), &[2, 33, 1]);
        }
    }
}

#[test]
fn every_length_about_a_tile_is_the_oracle() {
    let lengths =
        [1, 2, 11, 12, 13, 15, 16, 17, 23, 24, 25, 31, 32, 33, 47, 48, 49, 63, 64, 65, 119, 120, 121];
    check_pack(attention(4, 2, 12), &lengths);
    for head_dim in [12, 64, 128, 256] {
        check_pack(attention(2, 1, head_dim), &[127, 128, 129, 191, 192, 193, 257]);
    }
}

/// The rows of a tile, the room in the work memory and what an earlier document left there change no bit.
fn rows_alone<E: Element>() {
    let document = Document::new::<E>(attention(2, 1, 24), 5, 70);
    let alone = document.forward::<E>(1, 70);
    for rows in 2..=QUERIES {
        tolerance::assert_same_bits("rows together", &document.forward::<E>(rows, 700), &alone);
    }
    let (mut scratch, blocks) = (Scratch::new(&document.attention, 200), document.blocks::<E>());
    let mut other = samples::elements::<E>(&vec![f32::NAN; document.q.len()]);
    document.attention.forward(&mut other[..48 * QUERIES], 46, &blocks, &mut scratch);
    let mut q = samples::elements::<E>(&document.q[..48]);
    document.attention.forward(&mut q, 0, &blocks, &mut scratch);
    let first: Vec<f32> = q.into_iter().map(E::to_f32).collect();
    tolerance::assert_same_bits("after NaN", &first, &alone[..48]);
}

#[test]
fn a_row_does_not_depend_on_its_tile() {
    rows_alone::<f32>();
    rows_alone::<bf16>();
}

/// A document has the bits in a pack that it has alone.
fn documents_alone<E: Scalar>(arm: &Arm, head_dim: usize) {
    let documents = pack::<E>(attention(2, 1, head_dim), &[70, 1, 130, 5, 64]);
    let alone = documents.iter().flat_map(|document| forward::<E>(arm, std::slice::from_ref(document)));
    let alone: Vec<f32> = alone.collect();
    tolerance::assert_same_bits(&format!("{arm} {}", E::NAME), &forward::<E>(arm, &documents), &alone);
}

/// A prefix of a document gives the bits that it gives within the whole.
fn prefixes<E: Scalar>(arm: &Arm, head_dim: usize) {
    let whole = Document::new::<E>(attention(2, 2, head_dim), 6, 140);
    let outputs = forward::<E>(arm, std::slice::from_ref(&whole));
    for tokens in [1, 16, 31, 32, 33, 64, 127, 139] {
        let prefix = whole.prefix(tokens);
        let expected = &outputs[..prefix.q.len()];
        let what = format!("{arm} {} prefix of {tokens}", E::NAME);
        tolerance::assert_same_bits(&what, &forward::<E>(arm, &[prefix]), expected);
    }
}

#[test]
fn neither_other_documents_nor_later_tokens_change_a_bit() {
    for arm in arms::with_host() {
        for head_dim in [12, 64, 256] {
            documents_alone::<f32>(&arm, head_dim);
            documents_alone::<bf16>(&arm, head_dim);
            prefixes::<f32>(&arm, head_dim);
            prefixes::<bf16>(&arm, head_dim);
        }
    }
}

fn one_token<E: Scalar>(arm: &Arm) {
    let documents = pack::<E>(attention(4, 2, 12), &[1; 1000]);
    let value = |x: &Document, head: usize| x.kv[24 + head * 12..][..12].to_vec();
    let expected: Vec<f32> =
        documents.iter().flat_map(|x| [0, 0, 1, 1].into_iter().flat_map(|head| value(x, head))).collect();
    tolerance::assert_same_bits(&format!("{arm} {}", E::NAME), &forward::<E>(arm, &documents), &expected);
}

#[test]
fn one_token_gives_its_own_value() {
    for arm in arms::with_host() {
        one_token::<f32>(&arm);
        one_token::<bf16>(&arm);
    }
}

/// Scores of 10⁸ and more: the largest decides alone.
fn huge<E: Scalar>(arm: &Arm) {
    let mut document = Document::new::<E>(attention(1, 1, 12), 7, 90);
    document.q.iter_mut().for_each(|x| *x *= 16384.0);
    document.kv.chunks_exact_mut(24).for_each(|kv| kv[..12].iter_mut().for_each(|x| *x *= 16384.0));
    let score = |row: usize, key: usize| {
        let (q, k) = (&document.q[row * 12..][..12], &document.kv[key * 24..][..12]);
        q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>()
    };
    let outputs = forward::<E>(arm, std::slice::from_ref(&document));
    for (row, output) in outputs.chunks_exact(12).enumerate() {
        let best = (0..=row).max_by(|a, b| score(row, *a).total_cmp(&score(row, *b))).unwrap();
        let what = format!("{arm} {} row {row}", E::NAME);
        tolerance::assert_same_bits(&what, output, &document.kv[best * 24 + 12..][..12]);
    }
}

#[test]
fn huge_scores_neither_overflow_nor_vanish() {
    for arm in arms::with_host() {
        huge::<f32>(&arm);
        huge::<bf16>(&arm);
    }
}

/// In a query NaN shows in its row, in a key in the rows that see it; never in another document.
fn nan<E: Scalar>(arm: &Arm) {
    let mut documents = pack::<E>(attention(1, 1, 12), &[40, 90, 40]);
    documents[1].q[77 * 12 + 3] = f32::NAN;
    documents[0].kv[39 * 24 + 3] = f32::NAN;
    let outputs = forward::<E>(arm, &documents);
    for (row, output) in outputs.chunks_exact(12).enumerate() {
        let expected = row == 39 || row == 40 + 77;
        assert!(output.iter().all(|x| x.is_nan() == expected), "{arm} {} row {row}", E::NAME);
    }
}

#[test]
fn a_nan_shows_in_its_own_row() {
    for arm in arms::with_host() {
        nan::<f32>(&arm);
        nan::<bf16>(&arm);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn random_shapes_are_the_oracle(
        seed: u32, kv_heads in 1..4usize, group in 1..4usize, half in 1..20usize, tokens in 1..80usize,
    ) {
        let attention = attention(kv_heads * group, kv_heads, 2 * half);
        for arm in arms::with_host() {
            check::<f32>(&arm, &[Document::new::<f32>(attention, seed, tokens)]);
            check::<bf16>(&arm, &[Document::new::<bf16>(attention, seed, tokens)]);
        }
    }
}

/// What only devices give, and how they are called.
pub mod device {
    use toedit::device::{Buffer, Matrix, Queue, View};
    use toedit::ops::attention::Tiles;

    use super::*;

    /// Outputs of a pack, and the logarithms of the sums if wanted.
    pub fn forward<E: Scalar>(queue: &Queue, documents: &[Document], lse: bool) -> (Vec<f32>, Vec<f32>) {
        let pack = Pack::<E>::new(queue, documents);
        let view = if lse { pack.lse.view() } else { View::none() };
        pack.attention.forward_on(queue, pack.out.view(), view, pack.qkv.view(), &pack.tiles).unwrap();
        (arms::read(queue, &pack.out), queue.download(pack.lse.view()).unwrap())
    }

    /// Documents one behind the other, and room for what comes of them, full of NaN.
    pub struct Pack<E> {
        pub attention: Attention,
        pub tiles: Tiles,
        pub qkv: Matrix<E>,
        pub out: Matrix<E>,
        pub lse: Buffer<f32>,
    }

    impl<E: Scalar> Pack<E> {
        pub fn new(queue: &Queue, documents: &[Document]) -> Self {
            let attention = documents[0].attention;
            let (mut rows, mut cu_seqlens) = (Vec::new(), vec![0]);
            for document in documents {
                let queries = document.q.chunks_exact(attention.q_len());
                for (q, kv) in queries.zip(document.kv.chunks_exact(2 * attention.kv_len())) {
                    rows.extend([q, kv].concat());
                }
                cu_seqlens.push(cu_seqlens[cu_seqlens.len() - 1] + document.tokens());
            }
            let tokens = cu_seqlens[documents.len()];
            let mut tiles = Tiles::new(queue, tokens).unwrap();
            tiles.write::<E>(queue, &attention, &cu_seqlens).unwrap();
            let qkv = arms::upload::<E>(queue, attention.q_len() + 2 * attention.kv_len(), &rows);
            let out = arms::output::<E>(queue, tokens, attention.q_len());
            let lse = queue.upload(&vec![f32::NAN; tokens * attention.heads]).unwrap();
            Self { attention, tiles, qkv, out, lse }
        }
    }

    fn check_lse<E: Scalar>(queue: &Queue, head_dim: usize) {
        let documents = pack::<E>(attention(4, 2, head_dim), &[33, 1, 140]);
        let (outputs, lse) = forward::<E>(queue, &documents, true);
        tolerance::assert_same_bits("outputs", &outputs, &forward::<E>(queue, &documents, false).0);
        let expected = documents.iter().flat_map(|x| oracle::attention_lse(&x.attention, &x.q, &x.kv));
        let limit = tolerance::stored::<E>(140.max(head_dim), 1);
        tolerance::assert_within(E::NAME, lse, &expected.collect::<Vec<_>>(), limit);
    }

    #[test]
    fn sums_are_the_oracle() {
        for queue in arms::queues() {
            for head_dim in [12, 64, 128, 256] {
                check_lse::<f32>(&queue, head_dim);
                check_lse::<bf16>(&queue, head_dim);
            }
        }
    }

    #[test]
    fn a_thousand_documents_pack() {
        for queue in arms::queues() {
            let tokens: Vec<usize> = (0..1000).map(|index| index % 7 + 1).collect();
            check::<f32>(&Arm::Device(queue.clone()), &pack::<f32>(attention(2, 1, 24), &tokens));
            check::<bf16>(&Arm::Device(queue), &pack::<bf16>(attention(2, 1, 24), &tokens));
        }
    }

    #[test]
    fn tiles_are_replaced_and_heads_that_no_kernel_takes_are_refused() {
        let cases = [(3, false), (66, true), (258, false), (256, true)];
        for queue in arms::devices() {
            let mut tiles = Tiles::new(&queue, 400).unwrap();
            for (head_dim, taken) in cases {
                let attention = attention(1, 1, head_dim);
                assert_eq!(
                    tiles.write::<bf16>(&queue, &attention, &[0, 300, 301]).is_ok(),
                    taken,
                    "{head_dim}"
                );
                tiles.write::<f32>(&queue, &super::attention(1, 1, 2), &[0]).unwrap();
                let none = arms::output::<f32>(&queue, 0, 2);
                let qkv = arms::output::<f32>(&queue, 0, 6);
                let two = super::attention(1, 1, 2);
                two.forward_on(&queue, none.view(), View::none(), qkv.view(), &tiles).unwrap();
            }
        }
    }
}
