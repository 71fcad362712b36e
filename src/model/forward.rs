//! The forward pass over a pack of documents: ids in, the rows that the head needs out.
//!
//! Rows are cut into blocks, and threads take blocks. A layer is three parallel steps, since attention reads what other
//! blocks wrote: queries, keys and values; packing keys and values; attention and everything after it. Work memory is
//! planned from the budget, once; a pack only uses it.

use std::sync::Mutex;

use rayon::prelude::*;

use super::block::{Scratch, Shape, stride};
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
    /// Blocks of keys before each document: every document starts a new one.
    fn key_blocks(&self) -> Vec<usize> {
        let mut blocks = vec![0];
        for (document, ends) in self.cu_seqlens.windows(2).enumerate() {
            blocks.push(blocks[document] + (ends[1] - ends[0]).div_ceil(PANEL));
        }
        blocks
    }

    /// The position of each token in its document.
    pub(super) fn positions(&self) -> Vec<u32> {
        self.cu_seqlens.windows(2).flat_map(|ends| 0..(ends[1] - ends[0]) as u32).collect()
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
    /// The same packed for attention.
    blocks: Buffer<E>,
    /// The rows that the head needs, last norm applied.
    hidden: Buffer<E>,
    threads: Vec<Mutex<Scratch<E>>>,
    rotary: Option<Rotary>,
    tokens: usize,
    key_blocks: usize,
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
        let key_blocks = Self::key_block_budget(tokens);
        let scratch = || Mutex::new(Scratch::new(&self.shape(), BLOCK, max_length));
        Workspace {
            x: Buffer::zeroed(tokens * self.config.hidden_size),
            q: Buffer::zeroed(tokens * self.attention.q_len()),
            kv: Buffer::zeroed(tokens * 2 * self.attention.kv_len()),
            blocks: Buffer::zeroed(key_blocks * self.attention.block_len()),
            hidden: Buffer::zeroed(tokens * stride::<E>(self.config.hidden_size)),
            threads: (0..rayon::current_num_threads()).map(|_| scratch()).collect(),
            rotary: self.config.rope.as_ref().map(|rope| Rotary::new(rope, max_length)),
            tokens,
            key_blocks,
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
        let tokens = pack.ids.len();
        let (key_blocks, positions) = (pack.key_blocks(), pack.positions());
        assert!(tokens <= workspace.tokens && key_blocks[key_blocks.len() - 1] <= workspace.key_blocks);
        self.embed(pack, &positions, &mut workspace.x);
        let rows = block_rows(tokens);
        for layer in 0..self.weights.layers.len() {
            self.project(layer, &positions, rows, workspace);
            self.pack(pack, &key_blocks, workspace);
            self.finish(layer, pack, &key_blocks, rows, workspace);
        }
        self.gather(pack, workspace);
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
        let Workspace { x, q, kv, threads, rotary, .. } = workspace;
        let rotary = rotary.as_ref();
        let tokens = positions.len();
        let outputs = q[..tokens * q_len].par_chunks_mut(rows * q_len).zip(kv.par_chunks_mut(rows * kv_len));
        let inputs = x[..tokens * d].par_chunks(rows * d).zip(positions.par_chunks(rows));
        inputs.zip(outputs).for_each(|((x, positions), (q, kv))| {
            let scratch = &mut *lock(threads);
            let rotated = (positions, rotary);
            self.shape().project(&self.weights.layers[layer], x, rotated, (q, kv), scratch);
        });
    }

    fn pack(&self, pack: &Pack, key_blocks: &[usize], workspace: &mut Workspace<E>) {
        let kv_len = 2 * self.attention.kv_len();
        let (block_len, used) = (self.attention.block_len(), key_blocks[key_blocks.len() - 1]);
        let Workspace { kv, blocks, .. } = workspace;
        let kv = &kv[..];
        blocks[..used * block_len].par_chunks_exact_mut(block_len).enumerate().for_each(|(block, out)| {
            let document = key_blocks.partition_point(|first| *first <= block) - 1;
            let start = pack.cu_seqlens[document] + (block - key_blocks[document]) * PANEL;
            let end = pack.cu_seqlens[document + 1].min(start + PANEL);
            self.attention.pack(&kv[start * kv_len..end * kv_len], out);
        });
    }

    fn finish(
        &self,
        layer: usize,
        pack: &Pack,
        key_blocks: &[usize],
        rows: usize,
        workspace: &mut Workspace<E>,
    ) {
        let (d, q_len, tokens) = (self.config.hidden_size, self.attention.q_len(), pack.ids.len());
        let Workspace { x, q, blocks, threads, .. } = workspace;
        let blocks = &blocks[..];
        let parts = q[..tokens * q_len].par_chunks_mut(rows * q_len).zip(x.par_chunks_mut(rows * d));
        // The last rows of a long document attend to the most keys: start with them.
        parts.enumerate().rev().for_each(|(index, (q, x))| {
            let scratch = &mut *lock(threads);
            let end = tokens.min((index + 1) * rows);
            let x = &mut x[..(end - index * rows) * d];
            self.attend(pack, key_blocks, (index * rows, q), blocks, scratch);
            self.shape().finish(&self.weights.layers[layer], q, x, scratch);
        });
    }

    /// Attention of the rows from `start` on, document by document.
    fn attend(
        &self,
        pack: &Pack,
        key_blocks: &[usize],
        (start, mut q): (usize, &mut [E]),
        blocks: &[E],
        scratch: &mut Scratch<E>,
    ) {
        let q_len = self.attention.q_len();
        let mut row = start;
        let mut document = pack.cu_seqlens.partition_point(|first| *first <= row) - 1;
        while !q.is_empty() {
            let [first, last] = [pack.cu_seqlens[document], pack.cu_seqlens[document + 1]];
            let rows = (last - row).min(q.len() / q_len);
            let (head, tail) = q.split_at_mut(rows * q_len);
            let keys = &blocks[key_blocks[document] * self.attention.block_len()..];
            self.shape().attend(head, row - first..row - first + rows, keys, scratch);
            (q, row, document) = (tail, row + rows, document + 1);
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
fn lock<T>(threads: &[Mutex<T>]) -> std::sync::MutexGuard<'_, T> {
    let index = rayon::current_thread_index().unwrap_or(0) % threads.len();
    threads[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
