//! Attention of tokens that come in pieces, behind those that are there.

use std::ops::Range;

use half::bf16;
use toedit::tensor::PANEL;

use crate::attention::{Document, attention, pack};
use crate::common::arms::{self, Arm, Scalar};
use crate::common::{oracle, samples, tolerance};

/// A document of the test, and which of its tokens a pack adds.
type Piece = (usize, Range<usize>);

/// Every document whole, in one pack.
fn whole(documents: &[Document]) -> Vec<Vec<Piece>> {
    vec![documents.iter().enumerate().map(|(index, document)| (index, 0..document.tokens())).collect()]
}

/// The documents side by side, in pieces of these lengths in turn.
fn pieces(documents: &[Document], lengths: &[usize]) -> Vec<Vec<Piece>> {
    let (mut packs, mut read) = (Vec::new(), vec![0; documents.len()]);
    loop {
        let length = lengths[packs.len() % lengths.len()];
        let mut pack = Vec::new();
        for ((index, document), read) in documents.iter().enumerate().zip(&mut read) {
            let end = document.tokens().min(*read + length);
            if *read < end {
                pack.push((index, *read..end));
                *read = end;
            }
        }
        if pack.is_empty() {
            return packs;
        }
        packs.push(pack);
    }
}

/// Outputs of each document.
fn decode<E: Scalar>(arm: &Arm, documents: &[Document], packs: &[Vec<Piece>]) -> Vec<Vec<f32>> {
    match arm {
        Arm::Cpu => {
            let of_document = |(index, document): (usize, &Document)| {
                let own =
                    packs.iter().flatten().filter(|piece| piece.0 == index).map(|piece| piece.1.clone());
                on_cpu::<E>(document, own)
            };
            documents.iter().enumerate().map(of_document).collect()
        }
        #[cfg(kernels)]
        Arm::Device(queue) => device::decode::<E>(queue, documents, packs),
        #[cfg(not(kernels))]
        Arm::Device(_) => unreachable!("no device has kernels"),
    }
}

fn on_cpu<E: Scalar>(document: &Document, pieces: impl Iterator<Item = Range<usize>>) -> Vec<f32> {
    let attention = &document.attention;
    let (width, block_len) = (2 * attention.kv_len(), attention.block_len());
    let (mut q, kv) = (samples::elements::<E>(&document.q), samples::elements::<E>(&document.kv));
    let mut blocks = vec![E::from_f32(f32::NAN); document.tokens().div_ceil(PANEL) * block_len];
    let mut scratch = toedit::ops::attention::Scratch::new(attention, document.tokens());
    let shared = attention.q_len() / attention.kv_heads;
    for row in pieces.flatten() {
        let block = &mut blocks[row / PANEL * block_len..][..block_len];
        attention.pack(&kv[row * width..][..width], row % PANEL, block);
        let heads = q[row * attention.q_len()..][..attention.q_len()].chunks_exact_mut(shared);
        heads.enumerate().for_each(|(head, q)| attention.forward_row(q, row, head, &blocks, &mut scratch));
    }
    q.into_iter().map(E::to_f32).collect()
}

fn check<E: Scalar>(arm: &Arm, documents: &[Document], packs: &[Vec<Piece>]) {
    for (outputs, document) in decode::<E>(arm, documents, packs).into_iter().zip(documents) {
        let Document { attention, q, kv } = document;
        // On the CPU the weights are rounded, and so is the output.
        let limit = tolerance::stored::<E>(document.tokens().max(attention.head_dim), 2);
        let what = format!("{arm} {} {attention:?} of {} tokens", E::NAME, document.tokens());
        tolerance::assert_within(&what, outputs, &oracle::attention(attention, q, kv), limit);
    }
}

#[test]
fn every_head_size_and_grouping_is_the_oracle() {
    for arm in arms::all() {
        for head_dim in [2, 4, 12, 24, 32, 34, 64, 80, 96, 98, 128, 130, 256] {
            for (heads, kv_heads) in [(1, 1), (3, 3), (10, 2), (4, 1)] {
                let sizes = attention(heads, kv_heads, head_dim);
                let (f32s, bf16s) = (pack::<f32>(sizes, &[2, 33, 1]), pack::<bf16>(sizes, &[2, 33, 1]));
                check::<f32>(&arm, &f32s, &whole(&f32s));
                check::<bf16>(&arm, &bf16s, &pieces(&bf16s, &[1, 7]));
            }
        }
    }
}

/// The tiles of all warps, and the first warp's second one.
#[test]
fn every_length_about_a_tile_is_the_oracle() {
    for arm in arms::all() {
        let documents = pack::<f32>(attention(2, 1, 12), &[1, 2, 31, 32, 33, 63, 64, 65, 255, 256, 257, 289]);
        check::<f32>(&arm, &documents, &whole(&documents));
        let documents = pack::<bf16>(attention(2, 1, 12), &[1, 31, 32, 33, 257]);
        check::<bf16>(&arm, &documents, &whole(&documents));
    }
}

/// Neither other sequences nor the pieces in which tokens come change a bit.
fn pieces_alone<E: Scalar>(arm: &Arm, head_dim: usize) {
    let documents = pack::<E>(attention(4, 2, head_dim), &[70, 1, 40, 33]);
    let together = decode::<E>(arm, &documents, &whole(&documents));
    for lengths in [&[1][..], &[32], &[5, 31, 2]] {
        let what = format!("{arm} {} {head_dim} in pieces of {lengths:?}", E::NAME);
        let cut = decode::<E>(arm, &documents, &pieces(&documents, lengths));
        let both = cut.iter().zip(&together);
        both.for_each(|(cut, together)| tolerance::assert_same_bits(&what, cut, together));
    }
    for (document, together) in documents.iter().zip(&together) {
        let alone = [document.clone()];
        tolerance::assert_same_bits("alone", &decode::<E>(arm, &alone, &whole(&alone))[0], together);
    }
}

#[test]
fn neither_neighbours_nor_pieces_change_a_bit() {
    for arm in arms::all() {
        for head_dim in [12, 64] {
            pieces_alone::<f32>(&arm, head_dim);
            pieces_alone::<bf16>(&arm, head_dim);
        }
    }
}

#[cfg(kernels)]
mod device {
    use toedit::device::{Matrix, Queue, Rows};
    use toedit::ops::decode::{Place, Places, append_on, attend_on};

    use super::*;

    /// Sequences lie in a cache of NaN, the first document's last.
    pub fn decode<E: Scalar>(queue: &Queue, documents: &[Document], packs: &[Vec<Piece>]) -> Vec<Vec<f32>> {
        let sizes = documents[0].attention;
        let (q_len, kv_len) = (sizes.q_len(), 2 * sizes.kv_len());
        let capacity = documents.iter().map(Document::tokens).max().unwrap() + 3;
        let cache = arms::output::<E>(queue, documents.len() * capacity, kv_len);
        let first = |index: usize| ((documents.len() - 1 - index) * capacity) as u32;
        let tokens = |pack: &[Piece]| pack.iter().map(|piece| piece.1.len()).sum::<usize>();
        let mut places = Places::new(queue, packs.iter().map(|pack| tokens(pack)).max().unwrap()).unwrap();
        let mut outputs = vec![Vec::new(); documents.len()];
        for pack in packs {
            let rows = || pack.iter().flat_map(|(index, range)| range.clone().map(move |row| (*index, row)));
            let of_row = |(index, row): (usize, usize)| {
                let Document { q, kv, .. } = &documents[index];
                [&q[row * q_len..][..q_len], &kv[row * kv_len..][..kv_len]].concat()
            };
            let values: Vec<f32> = rows().flat_map(of_row).collect();
            let qkv: Matrix<E> = arms::upload(queue, q_len + kv_len, &values);
            let out: Matrix<E> = arms::output(queue, tokens(pack), q_len);
            let place = |(index, row)| Place { first: first(index), position: row as u32 };
            places.write(queue, &rows().map(place).collect::<Vec<_>>()).unwrap();
            let (qkv, cache): (Rows<E>, Rows<E>) = (qkv.view(), cache.view());
            append_on(queue, cache, qkv.columns(q_len..q_len + kv_len), &places).unwrap();
            attend_on(queue, &sizes, out.view(), qkv, cache, &places).unwrap();
            let values = arms::read(queue, &out);
            let found = rows().zip(values.chunks_exact(q_len));
            found.for_each(|((index, _), row)| outputs[index].extend_from_slice(row));
        }
        outputs
    }

    #[test]
    fn heads_that_no_kernel_takes_are_refused() {
        for queue in arms::devices() {
            for head_dim in [3, 258] {
                let sizes = attention(1, 1, head_dim);
                let [out, cache] =
                    [head_dim, 2 * head_dim].map(|width| arms::output::<f32>(&queue, 0, width));
                let qkv = arms::output::<f32>(&queue, 0, 3 * head_dim);
                let places = Places::new(&queue, 0).unwrap();
                let refused = attend_on(&queue, &sizes, out.view(), qkv.view(), cache.view(), &places);
                assert!(refused.unwrap_err().to_string().contains("even numbers up to 256"));
            }
        }
    }
}
