//! A transformer on a device: the forward pass as kernel launches, in the order of [`super::block`]'s formula.
//!
//! The residual stream is f32; what products read is `T`. Work memory is planned once, and a pass only launches: ids go
//! up, everything else stays on the device.

mod cache;

use bytemuck::Pod;

use super::Checkpoint;
use super::config::{Config, QkNorm};
use super::forward::Pack;
use super::weights::{self, Linear, Weights};
use crate::device::kernels::Kernels;
use crate::device::{BiasBuffers, Buffer, Matrix, Queue, Rows, View, stride};
use crate::ops::activation::activate_on;
use crate::ops::attention::{Attention, Tiles};
use crate::ops::decode::{append_on, attend_on};
use crate::ops::elementwise::{clamp_on, convert_on};
use crate::ops::embedding::embed_on;
use crate::ops::matmul::{Layout, product, product_add};
use crate::ops::norm::Norm;
use crate::ops::rope::Rotary;
use crate::{Error, Result};
pub(crate) use cache::Cache;

/// A model's configuration, and its weights on a device.
pub(crate) struct Transformer<T: Kernels> {
    queue: Queue,
    config: Config,
    weights: Weights<T, Queue>,
    attention: Attention,
}

type Layer<T> = weights::Layer<T, Queue>;

/// Work memory of one pass at a time.
pub(crate) struct Workspace<T> {
    inputs: Inputs,
    /// The residual stream `[T, C]`.
    x: Matrix<f32>,
    /// Inputs of a product `[T, C]`.
    input: Matrix<T>,
    /// Queries, keys and values `[T, Q + 2K]`.
    qkv: Matrix<T>,
    /// The heads' outputs `[T, Q]`.
    heads: Matrix<T>,
    /// `[T, I]`, each; the gate where the MLP has one.
    gate: Option<Matrix<T>>,
    up: Matrix<T>,
    /// Outputs that are normalised before they are added `[T, C]`; none where norms come before.
    output: Option<Matrix<f32>>,
    /// The rows that the head needs, last norm applied `[T, C]`.
    hidden: Matrix<T>,
    rotary: Option<Rotary<Buffer<f32>>>,
}

/// What a pack sends to the device.
struct Inputs {
    ids: Buffer<u32>,
    positions: Buffer<u32>,
    rows: Buffer<u32>,
    targets: Buffer<u32>,
    tiles: Tiles,
}

impl<T: Kernels> Transformer<T> {
    /// Reads the weights onto the queue's device.
    ///
    /// # Errors
    /// As [`Weights::load_into`].
    pub fn load(queue: Queue, config: Config, checkpoint: &Checkpoint) -> Result<Self> {
        let weights = Weights::load_into(&queue, &config, checkpoint).map_err(|error| match error {
            Error::OutOfMemory { .. } => queue.device().error(
                "no room for the model's weights: use --dtype bf16, a GPU with more memory, or --device cpu",
            ),
            other => other,
        })?;
        queue.synchronize()?;
        let attention = config.attention();
        Ok(Self { queue, config, weights, attention })
    }

    /// Where it lies.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The matrix of the head `[V, C]`: the embedding where they are tied.
    pub fn head(&self) -> Rows<'_, T> {
        self.weights.head.as_ref().unwrap_or(&self.weights.embedding).view()
    }

    /// Memory for packs of up to `tokens` tokens in documents of up to `max_length`.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn workspace(&self, tokens: usize, max_length: usize) -> Result<Workspace<T>> {
        let Config { hidden_size: c, intermediate_size: i, .. } = self.config;
        let (queue, q) = (&self.queue, self.attention.q_len());
        let rotary = self.config.rope.as_ref().map(|rope| Rotary::new(rope, max_length).upload(queue));
        let rows = queue.capacity(tokens);
        Ok(Workspace {
            inputs: Inputs::new(queue, tokens)?,
            x: Matrix::new(queue, rows, c)?,
            input: Matrix::new(queue, rows, c)?,
            qkv: Matrix::new(queue, rows, q + 2 * self.attention.kv_len())?,
            heads: Matrix::new(queue, rows, q)?,
            gate: self.config.gated.then(|| Matrix::new(queue, rows, i)).transpose()?,
            up: Matrix::new(queue, rows, i)?,
            output: self.config.norm_after.then(|| Matrix::new(queue, rows, c)).transpose()?,
            hidden: Matrix::new(queue, tokens, c)?,
            rotary: rotary.transpose()?,
        })
    }

    /// Starts the pass of `pack`, which leaves the rows for the head in `workspace`.
    ///
    /// # Errors
    /// What went wrong on the device.
    ///
    /// # Panics
    /// If the pack exceeds the workspace.
    pub fn forward(&self, pack: &Pack, workspace: &mut Workspace<T>) -> Result<()> {
        workspace.inputs.upload(&self.queue, pack, &pack.positions())?;
        workspace.inputs.tiles.write::<T>(&self.queue, &self.attention, &pack.cu_seqlens)?;
        self.run(pack, workspace, None)
    }

    /// Starts the pass of `pack`, whose documents go on behind the sequences in `slots`, and adds their tokens to these.
    /// Slots ascend.
    ///
    /// # Errors
    /// What went wrong on the device.
    ///
    /// # Panics
    /// As [`Transformer::forward`]; if a sequence exceeds the cache, or slots do not ascend.
    pub fn extend(
        &self,
        pack: &Pack,
        slots: &[usize],
        cache: &mut Cache<T>,
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        let positions = cache.advance(slots, &pack.cu_seqlens)?;
        workspace.inputs.upload(&self.queue, pack, &positions)?;
        self.run(pack, workspace, Some(cache))
    }

    fn run(&self, pack: &Pack, workspace: &Workspace<T>, cache: Option<&Cache<T>>) -> Result<()> {
        let pass = Pass { model: self, workspace, cache, tokens: pack.ids.len() };
        pass.embed()?;
        (0..self.weights.layers.len()).try_for_each(|layer| pass.layer(layer))?;
        pass.gather(pack.rows.len())
    }
}

impl<T: Pod> Workspace<T> {
    /// The rows of the last pass, in `pack.rows`' order.
    pub fn hidden(&self, rows: usize) -> Rows<'_, T> {
        self.hidden.first(rows)
    }

    /// Replaces the targets of the last pass's rows.
    ///
    /// # Errors
    /// What went wrong on the device before.
    pub fn set_targets(&self, queue: &Queue, targets: &[u32]) -> Result<()> {
        queue.write(self.inputs.targets.view(), targets)
    }

    /// The token after each of these rows.
    pub fn targets(&self, rows: usize) -> View<'_, u32> {
        self.inputs.targets.view().slice(0..rows)
    }
}

impl Inputs {
    fn new(queue: &Queue, tokens: usize) -> Result<Self> {
        Ok(Self {
            ids: queue.alloc(tokens)?,
            positions: queue.alloc(tokens)?,
            rows: queue.alloc(tokens)?,
            targets: queue.alloc(tokens)?,
            tiles: Tiles::new(queue, tokens)?,
        })
    }

    fn upload(&self, queue: &Queue, pack: &Pack, positions: &[u32]) -> Result<()> {
        let rows: Vec<u32> = pack.rows.iter().map(|row| *row as u32).collect();
        queue.write(self.ids.view(), &pack.ids)?;
        queue.write(self.positions.view(), positions)?;
        queue.write(self.rows.view(), &rows)?;
        queue.write(self.targets.view(), &pack.targets)
    }
}

/// One pass over a pack.
struct Pass<'a, T: Kernels> {
    model: &'a Transformer<T>,
    workspace: &'a Workspace<T>,
    /// What the documents go on from.
    cache: Option<&'a Cache<T>>,
    tokens: usize,
}

impl<'a, T: Kernels> Pass<'a, T> {
    fn first<U: Pod>(&self, matrix: &'a Matrix<U>) -> Rows<'a, U> {
        matrix.first(self.tokens)
    }

    fn x(&self) -> Rows<'a, f32> {
        self.first(&self.workspace.x)
    }

    fn embed(&self) -> Result<()> {
        let Transformer { queue, weights, .. } = self.model;
        let Inputs { ids, positions, .. } = &self.workspace.inputs;
        let (ids, positions) = (ids.view().slice(0..self.tokens), positions.view().slice(0..self.tokens));
        let learned = weights.positions.as_ref().map(|learned| {
            let (width, stride) = (self.x().width, stride(self.x().width));
            Rows { data: learned.view(), rows: learned.len() / stride, width, stride }
        });
        embed_on(queue, weights.embedding.view(), learned, ids, positions, self.x())
    }

    fn layer(&self, index: usize) -> Result<()> {
        let Transformer { queue, config, weights, .. } = self.model;
        let (layer, Workspace { qkv, heads, .. }) = (&weights.layers[index], self.workspace);
        let input = self.input(&layer.attention_norm)?;
        let (qkv, heads) = (self.first(qkv), self.first(heads));
        linear(queue, &layer.qkv, input, qkv)?;
        self.prepare(layer, qkv)?;
        self.attend(index, qkv, heads)?;
        // The MLP of a parallel block reads what the attention read.
        let parallel = config.parallel_residual.then(|| self.input(&layer.mlp_norm)).transpose()?;
        self.add(&layer.output, heads, &layer.attention_norm)?;
        let input = parallel.map_or_else(|| self.input(&layer.mlp_norm), Ok)?;
        self.mlp(layer, input)
    }

    /// The heads' outputs, over the pack's documents or what the cache has of them.
    fn attend(&self, layer: usize, qkv: Rows<T>, heads: Rows<T>) -> Result<()> {
        let Transformer { queue, attention, .. } = self.model;
        match self.cache {
            None => attention.forward_on(queue, heads, View::none(), qkv, &self.workspace.inputs.tiles),
            Some(cache) => {
                let (keys, places) = (cache.layer(layer), &cache.places);
                append_on(queue, keys, qkv.columns(attention.q_len()..qkv.width), places)?;
                attend_on(queue, attention, heads, qkv, keys, places)
            }
        }
    }

    /// What a product reads: the residual stream, normalised where norms come before.
    fn input(&self, norm: &weights::Norm<Buffer<f32>>) -> Result<Rows<'a, T>> {
        let input = self.first(&self.workspace.input);
        if self.model.config.norm_after {
            convert_on(&self.model.queue, self.x(), input)?;
        } else {
            self.norm(norm).forward_on(&self.model.queue, self.x(), None, input)?;
        }
        Ok(input)
    }

    fn norm<'n>(&self, norm: &'n weights::Norm<Buffer<f32>>) -> Norm<View<'n, f32>> {
        let Config { norm: kind, norm_eps: eps, .. } = self.model.config;
        let [weight, bias] = [&norm.weight, &norm.bias].map(|values| values.as_ref().map(Buffer::view));
        Norm { kind, eps, weight, bias }
    }

    /// Queries, keys and values as the attention reads them: clamped, normalised, rotated.
    fn prepare(&self, layer: &Layer<T>, qkv: Rows<T>) -> Result<()> {
        let Transformer { queue, config, attention, .. } = self.model;
        if let Some(limit) = config.clip_qkv {
            clamp_on(queue, qkv, limit)?;
        }
        let (q, k) = (attention.q_len(), attention.kv_len());
        if config.qk_norm != QkNorm::None {
            for (weight, columns) in [(&layer.q_norm, 0..q), (&layer.k_norm, q..q + k)] {
                let width = if config.qk_norm == QkNorm::Head { config.head_dim } else { columns.len() };
                let Config { norm: kind, norm_eps: eps, .. } = *config;
                let norm = Norm { kind, eps, weight: weight.as_ref().map(Buffer::view), bias: None };
                norm.heads_on(queue, qkv, columns, width)?;
            }
        }
        match &self.workspace.rotary {
            Some(rotary) => {
                let positions = self.workspace.inputs.positions.view().slice(0..self.tokens);
                rotary.apply_on(queue, qkv.columns(0..q + k), config.head_dim, positions)
            }
            None => Ok(()),
        }
    }

    /// `x += input · Wᵀ + bias`, normalised first where norms come after.
    fn add(
        &self,
        linear: &Linear<T, Queue>,
        input: Rows<T>,
        norm: &weights::Norm<Buffer<f32>>,
    ) -> Result<()> {
        let queue = &self.model.queue;
        let (weight, bias) = (linear.weight.view(), linear.bias.as_ref().map(BiasBuffers::view));
        match &self.workspace.output {
            None => product_add(queue, Layout::Nt, input, weight, bias, self.x()),
            Some(output) => {
                let output = self.first(output);
                queue.fill(output.data.slice(0..output.rows * output.stride), 0)?;
                product_add(queue, Layout::Nt, input, weight, bias, output)?;
                self.norm(norm).add_on(queue, self.x(), output)
            }
        }
    }

    fn mlp(&self, layer: &Layer<T>, input: Rows<T>) -> Result<()> {
        let queue = &self.model.queue;
        let Workspace { gate, up, .. } = self.workspace;
        let activation = self.model.config.activation;
        let up = self.first(up);
        linear(queue, &layer.up, input, up)?;
        match (&layer.gate, gate) {
            (Some(weights), Some(gate)) => {
                let gate = self.first(gate);
                linear(queue, weights, input, gate)?;
                activate_on(queue, activation, gate, Some(up), up)?;
            }
            _ => activate_on(queue, activation, up, None, up)?,
        }
        self.add(&layer.down, up, &layer.mlp_norm)
    }

    /// The last norm, on the rows that the head needs.
    fn gather(&self, rows: usize) -> Result<()> {
        let Workspace { inputs, hidden, x, .. } = self.workspace;
        let norm = self.norm(&self.model.weights.final_norm);
        let chosen = inputs.rows.view().slice(0..rows);
        norm.forward_on(&self.model.queue, x.view(), Some(chosen), hidden.first(rows))
    }
}

/// `out = input · Wᵀ + bias`
fn linear<T: Kernels>(
    queue: &Queue,
    linear: &Linear<T, Queue>,
    input: Rows<'_, T>,
    out: Rows<'_, T>,
) -> Result<()> {
    let bias = linear.bias.as_ref().map(BiasBuffers::view);
    product(queue, Layout::Nt, input, linear.weight.view(), bias, out)
}
