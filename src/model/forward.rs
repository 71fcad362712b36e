//! The forward pass over a pack of documents: ids in, the rows that the head needs out.
//!
//! A document of a pack is a text of its own, or goes on where a [`Cache`] holds what came before. Rows are cut into
//! blocks, and threads take blocks; where there are few rows, threads share out columns instead (`columns.rs`). A
//! layer is three parallel steps, since attention reads what other blocks wrote: queries, keys and values; packing keys
//! and values; attention and everything after it. Work memory is planned from the budget, once; a pack only uses it.

use std::sync::Mutex;

use rayon::prelude::*;

use super::block::{Scratch, Shape, stride};
use super::cache::Cache;
use super::columns::{self, Columns};
use super::config::Config;
use super::weights::Weights;
use crate::ops::attention::Attention;
use crate::ops::embedding::embed;
use crate::ops::matmul::Rows;
use crate::ops::rope::Rotary;
use crate::tensor::{Buffer, Element, Matrix, PANEL};

/// Rows of a block: whole tiles of the micro-kernel, and inputs of one product that stay in the second-level cache.
const BLOCK: usize = 120;

/// Documents (or windows of them) laid one after the other.
#[derive(Clone, Debug, Default)]
pub struct Pack {
    /// Token ids of all documents.
    pub ids: Vec<u32>,
    /// Where each document starts in `ids`, and the end of the last.
    pub cu_seqlens: Vec<usize>,
    /// Rows of `ids` whose next token is to be scored, ascending.
    pub rows: Vec<usize>,
    /// The token after each of these rows.
    pub targets: Vec<u32>,
}

impl Pack {
    /// Each document begins anew, in the blocks of keys behind those of the one before.
    fn places(&self) -> Vec<Place> {
        let mut block = 0;
        let place = |ends: &[usize]| {
            let place = Place { past: 0, block };
            block += (ends[1] - ends[0]).div_ceil(PANEL);
            place
        };
        self.cu_seqlens.windows(2).map(place).collect()
    }

    /// The position of each token in its document.
    pub(super) fn positions(&self) -> Vec<u32> {
        self.cu_seqlens.windows(2).flat_map(|ends| 0..(ends[1] - ends[0]) as u32).collect()
    }
}

/// Where a document of a pack goes on.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Its tokens before those of the pack.
    pub past: usize,
    /// Its first block of keys.
    pub block: usize,
}

/// Positions of rows, and how heads are rotated by them.
pub(super) type Rotated<'a> = (&'a [u32], Option<&'a Rotary>);

/// Packed keys and values of a layer, and whose they are.
pub(super) struct Keys<'a, E> {
    cu_seqlens: &'a [usize],
    places: &'a [Place],
    blocks: &'a [E],
    block_len: usize,
    pub threads: &'a [Mutex<Scratch<E>>],
}

impl<'a, E> Keys<'a, E> {
    /// The keys of a document of the pack.
    fn of_document(&self, document: usize) -> &'a [E] {
        &self.blocks[self.places[document].block * self.block_len..]
    }

    /// The document that a row of the pack belongs to.
    fn document(&self, row: usize) -> usize {
        self.cu_seqlens.partition_point(|first| *first <= row) - 1
    }

    /// A row's position in its document, and the document's keys.
    pub fn of_row(&self, row: usize) -> (usize, &'a [E]) {
        let document = self.document(row);
        (self.places[document].past + row - self.cu_seqlens[document], self.of_document(document))
    }
}

/// Work memory of one pass at a time.
pub struct Workspace<E> {
    /// The residual stream `[T, C]`.
    x: Buffer<f32>,
    /// Queries, then the heads' outputs `[T, Q]`.
    q: Buffer<E>,
    /// Keys and values `[T, 2K]`.
    kv: Buffer<E>,
    /// The same of a layer packed for attention, where no cache takes them.
    blocks: Buffer<E>,
    /// The rows that the head needs, last norm applied.
    hidden: Buffer<E>,
    threads: Vec<Mutex<Scratch<E>>>,
    columns: Columns<E>,
    rotary: Option<Rotary>,
    tokens: usize,
}

impl<E: Element> Workspace<E> {
    /// The rows of the last pass, in `pack.rows`' order.
    pub fn hidden(&self, config: &Config, rows: usize) -> Rows<'_, E> {
        Rows { data: &self.hidden, stride: stride::<E>(config.hidden_size), rows }
    }
}

/// A model's configuration and weights.
pub struct Transformer<E: Element> {
    config: Config,
    weights: Weights<E>,
    attention: Attention,
}

impl<E: Element> Transformer<E> {
    /// Puts a configuration and its weights together.
    pub fn new(config: Config, weights: Weights<E>) -> Self {
        let attention = config.attention();
        Self { config, weights, attention }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The matrix of the head `[V, C]`: the embedding where they are tied.
    pub fn head(&self) -> &Matrix<E> {
        self.weights.head.as_ref().unwrap_or(&self.weights.embedding)
    }

    fn shape(&self) -> Shape<'_> {
        Shape { config: &self.config, attention: self.attention }
    }

    /// Memory for packs of up to `tokens` tokens in documents of up to `max_length`, on the current thread pool.
    pub fn workspace(&self, tokens: usize, max_length: usize) -> Workspace<E> {
        let scratch = || Mutex::new(Scratch::new(&self.shape(), BLOCK, max_length));
        Workspace {
            x: Buffer::zeroed(tokens * self.config.hidden_size),
            q: Buffer::zeroed(tokens * self.attention.q_len()),
            kv: Buffer::zeroed(tokens * 2 * self.attention.kv_len()),
            // Pages are touched only when written: with a cache, never.
            blocks: Buffer::zeroed(Self::key_block_budget(tokens) * self.attention.block_len()),
            hidden: Buffer::zeroed(tokens * stride::<E>(self.config.hidden_size)),
            threads: (0..rayon::current_num_threads()).map(|_| scratch()).collect(),
            columns: Columns::new(&self.shape()),
            rotary: self.config.rope.as_ref().map(|rope| Rotary::new(rope, max_length)),
            tokens,
        }
    }

    /// Blocks of keys that a workspace of `tokens` tokens has room for: documents of half a block on average.
    pub fn key_block_budget(tokens: usize) -> usize {
        tokens.div_ceil(PANEL / 2)
    }

    /// Runs `pack` and leaves the rows for the head in `workspace`.
    ///
    /// # Panics
    /// If the pack exceeds the workspace, or an id the vocabulary.
    pub fn forward(&self, pack: &Pack, workspace: &mut Workspace<E>) {
        let mut blocks = [std::mem::replace(&mut workspace.blocks, Buffer::zeroed(0))];
        self.run(pack, &pack.places(), &mut blocks, workspace);
        [workspace.blocks] = blocks;
    }

    /// Runs `pack`, whose documents go on behind the sequences in `slots`, and adds their tokens to these. Slots ascend.
    ///
    /// # Panics
    /// As [`Transformer::forward`]; if a sequence exceeds the cache or the workspace's longest document, or slots do not
    /// ascend.
    pub fn extend(&self, pack: &Pack, slots: &[usize], cache: &mut Cache<E>, workspace: &mut Workspace<E>) {
        assert!(slots.is_sorted_by(|a, b| a < b) && slots.len() + 1 == pack.cu_seqlens.len());
        let places = cache.places(slots);
        for ((ends, place), slot) in pack.cu_seqlens.windows(2).zip(&places).zip(slots) {
            let length = place.past + ends[1] - ends[0];
            assert!(length <= cache.capacity(), "{length} tokens in slot {slot}");
        }
        self.run(pack, &places, &mut cache.layers, workspace);
        pack.cu_seqlens
            .windows(2)
            .zip(slots)
            .for_each(|(ends, slot)| cache.advance(*slot, ends[1] - ends[0]));
    }

    /// Runs `pack` with the keys of layer l in `blocks[l]`, or of each layer in turn in the only ones.
    fn run(&self, pack: &Pack, places: &[Place], blocks: &mut [Buffer<E>], workspace: &mut Workspace<E>) {
        let tokens = pack.ids.len();
        assert!(tokens <= workspace.tokens, "{tokens} tokens, planned for {}", workspace.tokens);
        let mut positions = pack.positions();
        for (ends, place) in pack.cu_seqlens.windows(2).zip(places) {
            positions[ends[0]..ends[1]].iter_mut().for_each(|position| *position += place.past as u32);
        }
        // From outside of the pool, every step would be a way in and out.
        rayon::scope(|_| {
            self.embed(pack, &positions, &mut workspace.x);
            let rows = if tokens <= columns::ROWS { tokens } else { block_rows(tokens) };
            for layer in 0..self.weights.layers.len() {
                let blocks = &mut blocks[layer % blocks.len()];
                self.project(layer, &positions, rows, workspace);
                self.pack(pack, places, &workspace.kv, blocks);
                self.finish(layer, (pack, places), rows, blocks, workspace);
            }
            self.gather(pack, workspace);
        });
    }

    fn embed(&self, pack: &Pack, positions: &[u32], x: &mut [f32]) {
        let d = self.config.hidden_size;
        let rows =
            pack.ids.par_chunks(BLOCK).zip(positions.par_chunks(BLOCK)).zip(x.par_chunks_mut(BLOCK * d));
        rows.for_each(|((ids, positions), x)| {
            embed(&self.weights.embedding, self.weights.positions.as_deref(), ids, positions, x);
        });
    }

    fn project(&self, layer: usize, positions: &[u32], rows: usize, workspace: &mut Workspace<E>) {
        let (d, q_len, kv_len) =
            (self.config.hidden_size, self.attention.q_len(), 2 * self.attention.kv_len());
        let Workspace { x, q, kv, threads, columns, rotary, .. } = workspace;
        let (rotary, layer, tokens) = (rotary.as_ref(), &self.weights.layers[layer], positions.len());
        if tokens <= columns::ROWS {
            return columns.project(&self.shape(), layer, &x[..tokens * d], (positions, rotary), (q, kv));
        }
        let outputs = q[..tokens * q_len].par_chunks_mut(rows * q_len).zip(kv.par_chunks_mut(rows * kv_len));
        let inputs = x[..tokens * d].par_chunks(rows * d).zip(positions.par_chunks(rows));
        inputs.zip(outputs).for_each(|((x, positions), (q, kv))| {
            let scratch = &mut *lock(threads);
            self.shape().project(layer, x, (positions, rotary), (q, kv), scratch);
        });
    }

    /// Adds the pack's keys and values to the blocks of their documents, which lie in the order of the pack.
    fn pack(&self, pack: &Pack, places: &[Place], kv: &[E], mut blocks: &mut [E]) {
        let (kv_len, block_len) = (2 * self.attention.kv_len(), self.attention.block_len());
        let (mut parts, mut done) = (Vec::new(), 0);
        for (ends, place) in pack.cu_seqlens.windows(2).zip(places) {
            let (mut row, mut position) = (ends[0], place.past);
            while row < ends[1] {
                let end = ends[1].min(row + PANEL - position % PANEL);
                let index = place.block + position / PANEL;
                let (block, rest) = blocks[(index - done) * block_len..].split_at_mut(block_len);
                parts.push((&kv[row * kv_len..end * kv_len], position % PANEL, block));
                (blocks, done) = (rest, index + 1);
                (position, row) = (position + end - row, end);
            }
        }
        parts.into_par_iter().for_each(|(rows, first, block)| self.attention.pack(rows, first, block));
    }

    fn finish(
        &self,
        layer: usize,
        (pack, places): (&Pack, &[Place]),
        rows: usize,
        blocks: &[E],
        workspace: &mut Workspace<E>,
    ) {
        let (d, q_len, tokens) = (self.config.hidden_size, self.attention.q_len(), pack.ids.len());
        let Workspace { x, q, threads, columns, .. } = workspace;
        let (layer, q, x) = (&self.weights.layers[layer], &mut q[..tokens * q_len], &mut x[..tokens * d]);
        let block_len = self.attention.block_len();
        let keys = Keys { cu_seqlens: &pack.cu_seqlens, places, blocks, block_len, threads };
        if tokens <= columns::ROWS {
            return columns.finish(&self.shape(), layer, q, x, &keys);
        }
        let parts = q.par_chunks_mut(rows * q_len).zip(x.par_chunks_mut(rows * d));
        // The last rows of a long document attend to the most keys: start with them.
        parts.enumerate().rev().for_each(|(index, (q, x))| {
            let scratch = &mut *lock(threads);
            self.attend(&keys, index * rows, q, scratch);
            self.shape().finish(layer, q, x, scratch);
        });
    }

    /// Attention of the rows from `row` on, document by document.
    fn attend(&self, keys: &Keys<E>, mut row: usize, mut q: &mut [E], scratch: &mut Scratch<E>) {
        let q_len = self.attention.q_len();
        while !q.is_empty() {
            let document = keys.document(row);
            let [first, end] = [keys.cu_seqlens[document], keys.cu_seqlens[document + 1]];
            let rows = (end - row).min(q.len() / q_len);
            let (head, tail) = q.split_at_mut(rows * q_len);
            let position = keys.places[document].past + row - first;
            self.shape().attend(head, position..position + rows, keys.of_document(document), scratch);
            (q, row) = (tail, row + rows);
        }
    }

    /// The last norm, on the rows that the head needs.
    fn gather(&self, pack: &Pack, workspace: &mut Workspace<E>) {
        let d = self.config.hidden_size;
        let Workspace { x, hidden, .. } = workspace;
        let shape = self.shape();
        let norm = shape.norm(&self.weights.final_norm);
        let x = &x[..];
        hidden.par_chunks_exact_mut(stride::<E>(d)).zip(&pack.rows).for_each(|(out, row)| {
            norm.forward(&x[row * d..][..d], d, out, stride::<E>(d));
        });
    }
}

/// Rows of a block such that every thread has the same number of blocks, in whole tiles of twelve.
fn block_rows(tokens: usize) -> usize {
    let threads = rayon::current_num_threads();
    let blocks = threads * tokens.div_ceil(threads * BLOCK);
    tokens.div_ceil(blocks.max(1)).next_multiple_of(12).min(BLOCK)
}

/// This thread's work memory; never contended, since a thread runs one block at a time.
pub(super) fn lock<T>(threads: &[Mutex<T>]) -> std::sync::MutexGuard<'_, T> {
    let index = rayon::current_thread_index().unwrap_or(0) % threads.len();
    threads[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
