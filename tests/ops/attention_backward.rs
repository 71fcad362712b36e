//! Attention backward, over packs of documents.

use half::bf16;
use proptest::prelude::*;
use toedit::device::Queue;
use toedit::ops::attention::Attention;

use super::attention::device::Pack;
use super::attention::{Document, attention, pack};
use crate::common::arms::{self, Scalar};
use crate::common::oracle::{self, Expected};
use crate::common::oracle_attention::attention_backward;
use crate::common::oracle_rows::{assert_differentiates, numeric};
use crate::common::{samples, tolerance};

/// The gradient of a document's outputs.
fn dout<E: Scalar>(document: &Document) -> Vec<f32> {
    samples::values::<E>(document.q.len() as u32, document.q.len())
}

/// The gradients of a pack's queries, keys and values, row by row.
fn backward<E: Scalar>(queue: &Queue, documents: &[Document]) -> Vec<f32> {
    let Pack { attention, tiles, qkv, out, lse } = Pack::<E>::new(queue, documents);
    attention.forward_on(queue, out.view(), lse.view(), qkv.view(), &tiles).unwrap();
    let dout: Vec<f32> = documents.iter().flat_map(dout::<E>).collect();
    let dout = arms::upload::<E>(queue, attention.q_len(), &dout);
    let tokens = out.view().rows;
    let dqkv = arms::output::<E>(queue, tokens, attention.q_len() + 2 * attention.kv_len());
    let delta = queue.upload(&vec![f32::NAN; tokens * attention.heads]).unwrap();
    let (dout, out, lse, delta) = (dout.view(), out.view(), lse.view(), delta.view());
    attention.backward_on(queue, dqkv.view(), dout, out, lse, qkv.view(), delta, &tiles).unwrap();
    arms::read(queue, &dqkv)
}

/// What [`backward`] should give for one document.
fn expected<E: Scalar>(document: &Document) -> Vec<Expected> {
    let Document { attention, q, kv } = document;
    let gradients = attention_backward(attention, q, kv, &dout::<E>(document));
    let rows = gradients.dq.chunks_exact(attention.q_len());
    rows.zip(gradients.dkv.chunks_exact(2 * attention.kv_len()))
        .flat_map(|(q, kv)| [q, kv].concat())
        .collect()
}

fn check<E: Scalar>(queue: &Queue, documents: &[Document]) {
    let gradients = backward::<E>(queue, documents);
    let mut first = 0;
    for document in documents {
        let Attention { heads, kv_heads, head_dim, .. } = document.attention;
        let (expected, tokens) = (expected::<E>(document), document.tokens());
        // The outputs, weights or their gradients, and the results are rounded.
        let limit = tolerance::stored::<E>((tokens * heads / kv_heads).max(head_dim), 3);
        let what = format!("{queue:?} {} {:?} of {tokens} tokens", E::NAME, document.attention);
        let ours = gradients[first..][..expected.len()].to_vec();
        tolerance::assert_within(&what, ours, &expected, limit);
        first += expected.len();
    }
}

/// Checks a pack of random documents on every device.
fn check_pack(attention: Attention, tokens: &[usize]) {
    for queue in arms::queues() {
        check::<f32>(&queue, &pack::<f32>(attention, tokens));
        check::<bf16>(&queue, &pack::<bf16>(attention, tokens));
    }
}

#[test]
fn every_head_size_and_grouping_is_the_oracle() {
    for head_dim in [2, 12, 32, 34, 64, 80, 96, 98, 128, 130, 256] {
        for (heads, kv_heads) in [(1, 1), (6, 2), (4, 1)] {
            check_pack(attention(heads, kv_heads, head_dim), &[2, 33, 1]);
        }
    }
}

#[test]
fn every_length_about_a_tile_is_the_oracle() {
    check_pack(attention(4, 2, 12), &[1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 95, 97]);
    for head_dim in [12, 64, 96, 128, 256] {
        check_pack(attention(2, 1, head_dim), &[127, 128, 129, 193]);
    }
}

#[test]
fn a_thousand_documents_pack() {
    let tokens: Vec<usize> = (0..1000).map(|index| index % 7 + 1).collect();
    check_pack(attention(2, 1, 24), &tokens);
}

/// A document has the bits in a pack that it has alone.
fn documents_alone<E: Scalar>(queue: &Queue, head_dim: usize) {
    let documents = pack::<E>(attention(4, 2, head_dim), &[70, 1, 130, 5, 64]);
    let alone = documents.iter().flat_map(|document| backward::<E>(queue, std::slice::from_ref(document)));
    let alone: Vec<f32> = alone.collect();
    tolerance::assert_same_bits(&format!("{queue:?} {}", E::NAME), &backward::<E>(queue, &documents), &alone);
}

#[test]
fn other_documents_change_no_bit() {
    for queue in arms::queues() {
        for head_dim in [12, 64, 128, 256] {
            documents_alone::<f32>(&queue, head_dim);
            documents_alone::<bf16>(&queue, head_dim);
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let documents = pack::<f32>(attention(4, 2, 24), &[200, 3, 97]);
    let [one, four] = [1, 4].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| backward::<f32>(&arms::queues()[0], &documents))
    });
    tolerance::assert_same_bits("threads", &one, &four);
}

/// NaN in one document is in no other's gradients.
fn nan<E: Scalar>(queue: &Queue) {
    let mut documents = pack::<E>(attention(1, 1, 12), &[40, 90, 40]);
    let clean = backward::<E>(queue, &documents);
    documents[1].kv[24 * 50 + 3] = f32::NAN;
    let found = backward::<E>(queue, &documents);
    let (first, last) = (36 * 40, 36 * 130);
    assert!(found[first..last].iter().any(|x| x.is_nan()), "{queue:?}");
    tolerance::assert_same_bits("before", &found[..first], &clean[..first]);
    tolerance::assert_same_bits("after", &found[last..], &clean[last..]);
}

#[test]
fn a_nan_stays_in_its_document() {
    for queue in arms::queues() {
        nan::<f32>(&queue);
        nan::<bf16>(&queue);
    }
}

#[test]
fn the_oracle_is_the_derivative() {
    // Values of bf16, so that steps in f32 are exact.
    let document = Document::new::<bf16>(attention(4, 2, 6), 3, 9);
    let Document { attention, q, kv } = &document;
    let dout = dout::<bf16>(&document);
    let loss = |q: &[f32], kv: &[f32]| -> f64 {
        let outputs = oracle::attention(attention, q, kv);
        outputs.iter().zip(&dout).map(|(out, dout)| out.value * f64::from(*dout)).sum()
    };
    let gradients = attention_backward(attention, q, kv, &dout);
    assert_differentiates("queries", &gradients.dq, &numeric(q, |q| loss(q, kv)));
    assert_differentiates("keys and values", &gradients.dkv, &numeric(kv, |kv| loss(q, kv)));
}

fn random<E: Scalar>(attention: Attention, seed: u32, tokens: &[usize]) -> Vec<Document> {
    let document = |(index, tokens): (usize, &usize)| {
        Document::new::<E>(attention, seed.wrapping_add(index as u32), *tokens)
    };
    tokens.iter().enumerate().map(document).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn random_shapes_are_the_oracle(
        seed: u32, kv_heads in 1..4usize, group in 1..4usize, half in 1..20usize,
        tokens in prop::collection::vec(1..60usize, 1..4),
    ) {
        let attention = attention(kv_heads * group, kv_heads, 2 * half);
        for queue in arms::queues() {
            check::<f32>(&queue, &random::<f32>(attention, seed, &tokens));
            check::<bf16>(&queue, &random::<bf16>(attention, seed, &tokens));
        }
    }
}
