//! A model in training: the loss of a batch and its gradients, on any device.
//!
//! Memory is planned once, from the largest batch; a step only launches.

use super::batch::Batch;
use super::block::{Block, Saved, Shape, Work, clear};
use super::parameters::ParameterView;
use crate::Result;
use crate::device::kernels::Kernels;
use crate::device::{Buffer, Matrix, Queue, View};
use crate::model::Config;
use crate::model::layout::Layout;
use crate::ops::attention::{Attention, Tiles};
use crate::ops::cross_entropy::{ChunkWork, CrossEntropy, HeadGradient};
use crate::ops::embedding::{Runs, embed_backward_on, embed_on};
use crate::ops::norm::{Norm, NormGradient};
use crate::ops::rope::Rotary;

/// Bytes of logits that exist at a time, unless a few rows have more.
const LOGITS_BYTES: usize = 32 << 20;
/// Rows that are worth the reading and writing of the head's gradient.
const LEAST_ROWS: usize = 128;

/// Rows whose logits exist at a time.
fn chunk_rows(vocabulary: usize, tokens: usize) -> usize {
    (LOGITS_BYTES / size_of::<f32>() / vocabulary).max(LEAST_ROWS).min(tokens)
}

/// The largest batch of a model, and how much of its activations is kept.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Tokens of a batch.
    pub tokens: usize,
    /// Tokens of a sequence.
    pub sequence: usize,
    /// Whether each block's activations are computed again in backward instead of being kept.
    pub recompute: bool,
}

/// The work memory of a model, and what its passes share.
pub struct Transformer<E: Kernels> {
    queue: Queue,
    config: Config,
    attention: Attention,
    layout: Layout,
    rotary: Option<Rotary<Buffer<f32>>>,
    inputs: Inputs,
    /// The residual stream ahead of each block, and behind the last `[T, C]`.
    streams: Vec<Matrix<f32>>,
    /// What each block left; one for all where they are computed again.
    saved: Vec<Saved<E>>,
    work: Work<E>,
    /// What the head reads `[T, C]`, and its gradient.
    hidden: Matrix<E>,
    dhidden: Matrix<E>,
    logits: ChunkWork<E>,
    losses: Buffer<f32>,
}

/// What a batch sends to the device.
struct Inputs {
    ids: Buffer<u32>,
    positions: Buffer<u32>,
    targets: Buffer<u32>,
    tiles: Tiles,
    /// Rows of equal ids, and of equal positions.
    by_id: Runs,
    by_position: Runs,
    tokens: usize,
}

impl<E: Kernels> Transformer<E> {
    /// Plans the memory.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn new(queue: &Queue, config: &Config, extent: Extent) -> Result<Self> {
        let (layers, c) = (config.num_hidden_layers, config.hidden_size);
        let attention = config.attention();
        let shape = Shape { queue, config, attention };
        let rows = queue.capacity(extent.tokens);
        // Whole blocks of rows, as a library's products take them, exceed the bytes above.
        let chunk = queue.capacity(chunk_rows(config.vocab_size, extent.tokens));
        let rotary = config.rope.as_ref().map(|rope| Rotary::new(rope, extent.sequence).upload(queue));
        let kept = if extent.recompute { layers.min(1) } else { layers };
        Ok(Self {
            rotary: rotary.transpose()?,
            inputs: Inputs::new(queue, extent.tokens)?,
            streams: (0..=layers).map(|_| Matrix::new(queue, rows, c)).collect::<Result<_>>()?,
            saved: (0..kept).map(|_| Saved::new(&shape, rows)).collect::<Result<_>>()?,
            work: Work::new(&shape, rows)?,
            hidden: Matrix::new(queue, rows, c)?,
            dhidden: Matrix::new(queue, rows, c)?,
            logits: ChunkWork::new(queue, chunk, config.vocab_size)?,
            losses: queue.alloc(extent.tokens)?,
            queue: queue.clone(),
            layout: Layout::new(config),
            config: config.clone(),
            attention,
        })
    }

    /// Where the parameters lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// −log p of each target in nats, 0 where it carries no loss.
    ///
    /// # Errors
    /// What went wrong on the device.
    ///
    /// # Panics
    /// If the batch exceeds the plan.
    pub fn evaluate(
        &mut self,
        parameters: ParameterView<'_, E>,
        loss: &CrossEntropy,
        batch: &Batch,
    ) -> Result<Vec<f32>> {
        self.inputs.upload::<E>(&self.queue, &self.config, batch)?;
        let pass = Pass { model: self, parameters, frozen: true };
        pass.forward()?;
        pass.head(loss, None)?;
        self.losses()
    }

    /// The same, and adds the gradients of `loss.scale` times their sum to those of the parameters: of all, or, `frozen`,
    /// of the products' weights inside the blocks.
    ///
    /// # Errors
    /// What went wrong on the device.
    ///
    /// # Panics
    /// If the batch exceeds the plan.
    pub fn learn(
        &mut self,
        parameters: ParameterView<'_, E>,
        loss: &CrossEntropy,
        batch: &Batch,
        frozen: bool,
    ) -> Result<Vec<f32>> {
        self.inputs.upload::<E>(&self.queue, &self.config, batch)?;
        let pass = Pass { model: self, parameters, frozen };
        pass.forward()?;
        pass.backward(loss)?;
        self.losses()
    }

    fn losses(&self) -> Result<Vec<f32>> {
        self.queue.download(self.losses.view().slice(0..self.inputs.tokens))
    }
}

impl Inputs {
    fn new(queue: &Queue, tokens: usize) -> Result<Self> {
        Ok(Self {
            ids: queue.alloc(tokens)?,
            positions: queue.alloc(tokens)?,
            targets: queue.alloc(tokens)?,
            tiles: Tiles::new(queue, tokens)?,
            by_id: Runs::new(queue, tokens)?,
            by_position: Runs::new(queue, tokens)?,
            tokens: 0,
        })
    }

    fn upload<E: Kernels>(&mut self, queue: &Queue, config: &Config, batch: &Batch) -> Result<()> {
        let positions = batch.positions();
        self.tokens = batch.ids.len();
        queue.write(self.ids.view(), &batch.ids)?;
        queue.write(self.positions.view(), &positions)?;
        queue.write(self.targets.view(), &batch.targets)?;
        // The row of the padding token learns nothing as an embedding; ids past the table have no gradient.
        let learns = |id: &u32| if Some(*id) == config.padding_row { u32::MAX } else { *id };
        self.by_id.write(queue, &batch.ids.iter().map(learns).collect::<Vec<_>>())?;
        self.by_position.write(queue, &positions)?;
        self.tiles.write::<E>(queue, &config.attention(), &batch.cu_seqlens)
    }

    fn view<'a>(&self, buffer: &'a Buffer<u32>) -> View<'a, u32> {
        buffer.view().slice(0..self.tokens)
    }
}

/// One pass over a batch.
struct Pass<'a, E: Kernels> {
    model: &'a Transformer<E>,
    parameters: ParameterView<'a, E>,
    frozen: bool,
}

impl<'a, E: Kernels> Pass<'a, E> {
    fn shape(&self) -> Shape<'a> {
        let Transformer { queue, config, attention, .. } = self.model;
        Shape { queue, config, attention: *attention }
    }

    fn tokens(&self) -> usize {
        self.model.inputs.tokens
    }

    fn block<'b>(&'b self, shape: &'b Shape<'b>, layer: usize) -> Block<'b, E> {
        let Transformer { layout, inputs, rotary, work, .. } = self.model;
        Block {
            shape,
            parameters: self.parameters,
            layer: &layout.layers[layer],
            tiles: &inputs.tiles,
            rotary: rotary.as_ref(),
            positions: inputs.view(&inputs.positions),
            work,
            frozen: self.frozen,
        }
    }

    fn saved(&self, layer: usize) -> &'a Saved<E> {
        let saved = &self.model.saved;
        saved.get(layer).unwrap_or_else(|| &saved[0])
    }

    /// From the ids to what the head reads.
    fn forward(&self) -> Result<()> {
        let Transformer { queue, layout, inputs, streams, hidden, .. } = self.model;
        let (ids, positions) = (inputs.view(&inputs.ids), inputs.view(&inputs.positions));
        let learned = layout.positions.map(|slot| self.parameters.exact(slot));
        let embedding = self.parameters.matrix(layout.embedding);
        embed_on(queue, embedding, learned, ids, positions, streams[0].first(self.tokens()))?;
        let shape = self.shape();
        for (layer, streams) in streams.windows(2).enumerate() {
            let [x, y] = [0, 1].map(|at| streams[at].first(self.tokens()));
            self.block(&shape, layer).forward(x, self.saved(layer), y)?;
        }
        let last = streams[layout.layers.len()].first(self.tokens());
        self.norm().forward_on(queue, last, None, hidden.first(self.tokens()))
    }

    /// The losses, and the gradients of everything.
    fn backward(&self, loss: &CrossEntropy) -> Result<()> {
        let Transformer { queue, layout, streams, work, dhidden, saved, .. } = self.model;
        let (dx, dhidden) = (work.dx.first(self.tokens()), dhidden.first(self.tokens()));
        let dweight = (!self.frozen).then(|| self.parameters.gradient(layout.head()));
        self.head(loss, Some(HeadGradient { dhidden, dweight }))?;
        clear(queue, dx)?;
        let layers = layout.layers.len();
        self.norm().backward_on(
            queue,
            streams[layers].first(self.tokens()),
            dhidden,
            dx,
            self.norm_gradient(),
        )?;
        let shape = self.shape();
        for layer in (0..layers).rev() {
            let [x, y] = [layer, layer + 1].map(|at| streams[at].first(self.tokens()));
            let (block, kept) = (self.block(&shape, layer), saved.len() == layers || layer + 1 == layers);
            if !kept {
                block.forward(x, self.saved(layer), y)?;
            }
            block.backward(x, self.saved(layer))?;
        }
        if self.frozen { Ok(()) } else { self.embedding_backward() }
    }

    fn embedding_backward(&self) -> Result<()> {
        let Transformer { queue, layout, inputs, work, .. } = self.model;
        let dx = work.dx.first(self.tokens());
        embed_backward_on(queue, &inputs.by_id, dx, self.parameters.gradient(layout.embedding))?;
        layout.positions.map_or(Ok(()), |slot| {
            embed_backward_on(queue, &inputs.by_position, dx, self.parameters.gradient(slot))
        })
    }

    fn head(&self, loss: &CrossEntropy, gradient: Option<HeadGradient<'a, E>>) -> Result<()> {
        let Transformer { queue, layout, inputs, hidden, logits, losses, .. } = self.model;
        let (hidden, weight) = (hidden.first(self.tokens()), self.parameters.matrix(layout.head()));
        let losses = losses.view().slice(0..self.tokens());
        loss.head_on(queue, logits, hidden, weight, inputs.view(&inputs.targets), losses, gradient)
    }

    fn norm(&self) -> Norm<View<'a, f32>> {
        let Config { norm: kind, norm_eps: eps, .. } = self.model.config;
        let [weight, bias] = self.parameters.norm(self.model.layout.final_norm);
        Norm { kind, eps, weight, bias }
    }

    fn norm_gradient(&self) -> NormGradient<'a> {
        let gradient = self.parameters.norm_gradient(self.model.layout.final_norm);
        let [weight, bias] = if self.frozen { [None; 2] } else { gradient };
        NormGradient { weight, bias, scratch: self.model.work.scratch() }
    }
}
