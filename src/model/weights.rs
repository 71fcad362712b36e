//! A model's weights, read from a checkpoint into the layout that the products use.
//!
//! Everything is first looked up, which checks names, shapes and dtypes against the configuration; only then are the
//! matrices allocated and read. So a configuration that does not fit the file costs nothing.

use super::{
    checkpoint::{Checkpoint, Tensor},
    config::{Config, QkNorm},
    names::{Names, Qkv},
};
use crate::{Result, tensor::Element};

mod rows;
mod store;

use rows::Rows;
pub use store::{Packed, Store};

/// A product with a weight matrix, and a bias where the model has one.
pub struct Linear<E, S: Store<E> = Packed> {
    /// `[outputs, inputs]`.
    pub weight: S::Matrix,
    /// `[outputs]`.
    pub bias: Option<S::Bias>,
}

/// A norm's parameters `[width]`; none where the model has none.
pub struct Norm<V = Vec<f32>> {
    /// The factors.
    pub weight: Option<V>,
    /// The summands.
    pub bias: Option<V>,
}

/// One block of attention and MLP. Q = `num_attention_heads · head_dim`, K = `num_key_value_heads · head_dim`,
/// C = `hidden_size`, I = `intermediate_size`.
pub struct Layer<E, S: Store<E> = Packed> {
    /// Ahead of the attention, or after it (`norm_after`).
    pub attention_norm: Norm<S::Vector>,
    /// `[Q + 2K, C]`: queries, keys, values.
    pub qkv: Linear<E, S>,
    /// `[head_dim]` or `[Q]`, as `qk_norm` says.
    pub q_norm: Option<S::Vector>,
    /// `[head_dim]` or `[K]`, as `qk_norm` says.
    pub k_norm: Option<S::Vector>,
    /// `[C, Q]`.
    pub output: Linear<E, S>,
    /// Ahead of the MLP, or after it (`norm_after`).
    pub mlp_norm: Norm<S::Vector>,
    /// `[I, C]`; none where the MLP is not gated.
    pub gate: Option<Linear<E, S>>,
    /// `[I, C]`.
    pub up: Linear<E, S>,
    /// `[C, I]`.
    pub down: Linear<E, S>,
}

/// All weights of a model; matrices in `E`, vectors in f32.
pub struct Weights<E, S: Store<E> = Packed> {
    /// `[vocab_size, hidden_size]`.
    pub embedding: S::Matrix,
    /// Learned positions `[max_position_embeddings, hidden_size]`.
    pub positions: Option<S::Vector>,
    /// The blocks.
    pub layers: Vec<Layer<E, S>>,
    /// Ahead of the head.
    pub final_norm: Norm<S::Vector>,
    /// `[vocab_size, hidden_size]`; none where the head is the embedding.
    pub head: Option<S::Matrix>,
}

impl<E: Element> Weights<E> {
    /// Reads all weights for the CPU, in parallel on the current pool.
    ///
    /// # Errors
    /// As [`Weights::load_into`].
    pub fn load(config: &Config, checkpoint: &Checkpoint) -> Result<Self> {
        Self::load_into(&Packed, config, checkpoint)
    }
}

impl<E: Element, S: Store<E>> Weights<E, S> {
    /// Reads all weights into `store`.
    ///
    /// # Errors
    /// A tensor that is missing, of another shape than `config` implies or of an unsupported dtype, before any matrix
    /// is allocated; NaN or infinity among the weights; no room in the store.
    pub fn load_into(store: &S, config: &Config, checkpoint: &Checkpoint) -> Result<Self> {
        let source = Source { config, checkpoint, names: Names::of(config.family) };
        let (embedding, head) = source.embedding_and_head()?;
        let final_norm = source.norm(source.names.final_norm, 0)?;
        let layers: Vec<_> = (0..config.num_hidden_layers).map(|i| source.layer(i)).collect::<Result<_>>()?;
        Ok(Self {
            embedding: embedding.store(store)?,
            positions: source.positions()?.map(|rows| store.rows(config.hidden_size, rows)).transpose()?,
            layers: layers.into_iter().map(|layer| layer.store(store)).collect::<Result<_>>()?,
            final_norm: final_norm.store(store)?,
            head: head.map(|head| head.store(store)).transpose()?,
        })
    }
}

/// Where tensors come from and what they are called.
struct Source<'a> {
    config: &'a Config,
    checkpoint: &'a Checkpoint,
    names: &'static Names,
}

impl<'a> Source<'a> {
    fn layer(&self, layer: usize) -> Result<LayerSource<'a>> {
        let (config, names) = (self.config, self.names);
        let (c, i) = (config.hidden_size, config.intermediate_size);
        let q = config.num_attention_heads * config.head_dim;
        let [q_norm, k_norm] = self.qk_norm(layer)?;
        let wide = |name| self.linear(&[(name, i)], c, config.mlp_bias, layer);
        Ok(LayerSource {
            attention_norm: self.norm(names.attention_norm, layer)?,
            qkv: self.qkv(layer)?,
            q_norm,
            k_norm,
            output: self.linear(&[(names.output, c)], q, config.output_bias, layer)?,
            mlp_norm: self.norm(names.mlp_norm, layer)?,
            gate: names.gate.map(wide).transpose()?,
            up: wide(names.up)?,
            down: self.linear(&[(names.down, c)], i, config.mlp_bias, layer)?,
        })
    }

    fn qkv(&self, layer: usize) -> Result<LinearSource<'a>> {
        let config = self.config;
        let q = config.num_attention_heads * config.head_dim;
        let k = config.num_key_value_heads * config.head_dim;
        let linear = |parts: &[_]| self.linear(parts, config.hidden_size, config.qkv_bias, layer);
        match self.names.qkv {
            Qkv::Separate([query, key, value]) => linear(&[(query, q), (key, k), (value, k)]),
            Qkv::Fused(name) => linear(&[(name, q + 2 * k)]),
            Qkv::HeadWise(name) => Ok(linear(&[(name, 3 * q)])?.gather_heads(config.head_dim)),
        }
    }

    fn qk_norm(&self, layer: usize) -> Result<[Option<Vec<f32>>; 2]> {
        let config = self.config;
        let heads = match config.qk_norm {
            QkNorm::None => return Ok([None, None]),
            QkNorm::Head => [1, 1],
            QkNorm::Whole => [config.num_attention_heads, config.num_key_value_heads],
        };
        let [q, k] = self.names.qk_norm.expect("a family with such norms names them");
        let vector = |name, heads| self.tensor(name, "weight", layer, &[heads * config.head_dim])?.to_vec();
        Ok([Some(vector(q, heads[0])?), Some(vector(k, heads[1])?)])
    }

    fn norm(&self, name: &str, layer: usize) -> Result<Norm> {
        let vector = |wanted: bool, ending| {
            wanted.then(|| self.tensor(name, ending, layer, &[self.config.hidden_size])?.to_vec()).transpose()
        };
        Ok(Norm {
            weight: vector(self.config.norm_weight, "weight")?,
            bias: vector(self.config.norm_bias, "bias")?,
        })
    }

    /// A product whose outputs are those of `parts` (name, outputs) one after the other, each with `k` inputs.
    fn linear(
        &self,
        parts: &[(&str, usize)],
        k: usize,
        bias: bool,
        layer: usize,
    ) -> Result<LinearSource<'a>> {
        let rows = |ending, width: Option<usize>| {
            let part = |&(name, n): &(&str, usize)| {
                let shape: Vec<usize> = match width {
                    Some(k) if self.names.transposed => vec![k, n],
                    Some(k) => vec![n, k],
                    None => vec![n],
                };
                Ok((self.tensor(name, ending, layer, &shape)?, n))
            };
            let tensors: Vec<_> = parts.iter().map(part).collect::<Result<_>>()?;
            Ok(Rows::new(width.unwrap_or(1), tensors))
        };
        Ok(LinearSource {
            weight: rows("weight", Some(k))?,
            transposed: self.names.transposed,
            bias: bias.then(|| rows("bias", None)).transpose()?,
        })
    }

    fn positions(&self) -> Result<Option<Vec<f32>>> {
        let shape = [self.config.max_position_embeddings, self.config.hidden_size];
        self.names.positions.map(|name| self.tensor(name, "weight", 0, &shape)?.to_vec()).transpose()
    }

    /// The embedding, and the head where it is another matrix, by transformers' rules: where they are tied and the file
    /// has only one of them, it is both; where it has both and they differ, each is itself.
    fn embedding_and_head(&self) -> Result<(Rows<'a>, Option<Rows<'a>>)> {
        let head = self.names.head.iter().find(|name| self.checkpoint.contains(&format!("{name}.weight")));
        let embedding = self.names.embedding;
        if !self.config.tie_word_embeddings {
            let head = head.unwrap_or(&self.names.head[0]);
            return Ok((self.table(embedding)?, Some(self.table(head)?)));
        }
        let Some(head) = head else { return Ok((self.table(embedding)?, None)) };
        let head = self.table(head)?;
        if !self.checkpoint.contains(&format!("{embedding}.weight")) {
            return Ok((head, None));
        }
        let embedding = self.table(embedding)?;
        let same = embedding.equals(&head)?;
        Ok((embedding, (!same).then_some(head)))
    }

    /// A matrix `[vocab_size, hidden_size]`.
    fn table(&self, name: &str) -> Result<Rows<'a>> {
        let (len, width) = (self.config.vocab_size, self.config.hidden_size);
        let tensor = self.tensor(name, "weight", 0, &[len, width])?;
        Ok(Rows::new(width, [(tensor, len)]))
    }

    fn tensor(&self, name: &str, ending: &str, layer: usize, shape: &[usize]) -> Result<Tensor<'a>> {
        let name = name.replace("{}", &layer.to_string());
        self.checkpoint.tensor(&format!("{name}.{ending}"), shape)
    }
}

/// A [`Layer`] whose matrices are found but not read.
struct LayerSource<'a> {
    attention_norm: Norm,
    qkv: LinearSource<'a>,
    q_norm: Option<Vec<f32>>,
    k_norm: Option<Vec<f32>>,
    output: LinearSource<'a>,
    mlp_norm: Norm,
    gate: Option<LinearSource<'a>>,
    up: LinearSource<'a>,
    down: LinearSource<'a>,
}

impl LayerSource<'_> {
    fn store<E: Element, S: Store<E>>(self, store: &S) -> Result<Layer<E, S>> {
        let vector = |values| store.vector(values);
        Ok(Layer {
            attention_norm: self.attention_norm.store(store)?,
            qkv: self.qkv.store(store)?,
            q_norm: self.q_norm.map(vector).transpose()?,
            k_norm: self.k_norm.map(vector).transpose()?,
            output: self.output.store(store)?,
            mlp_norm: self.mlp_norm.store(store)?,
            gate: self.gate.map(|gate| gate.store(store)).transpose()?,
            up: self.up.store(store)?,
            down: self.down.store(store)?,
        })
    }
}

impl Norm {
    fn store<E, S: Store<E>>(self, store: &S) -> Result<Norm<S::Vector>> {
        let vector = |values| store.vector(values);
        Ok(Norm { weight: self.weight.map(vector).transpose()?, bias: self.bias.map(vector).transpose()? })
    }
}

/// A [`Linear`] that is found but not read.
struct LinearSource<'a> {
    weight: Rows<'a>,
    /// Whether the weight lies in the file as `[inputs, outputs]`; it is then one tensor.
    transposed: bool,
    bias: Option<Rows<'a>>,
}

impl LinearSource<'_> {
    /// Puts head-wise outputs (a head's query, key and value) in the order queries, keys, values.
    fn gather_heads(self, head_dim: usize) -> Self {
        let bias = self.bias.map(|bias| bias.gather_heads(head_dim));
        Self { weight: self.weight.gather_heads(head_dim), bias, ..self }
    }

    fn store<E, S: Store<E>>(self, store: &S) -> Result<Linear<E, S>> {
        let weight =
            if self.transposed { self.weight.store_transposed(store)? } else { self.weight.store(store)? };
        let bias = self.bias.map(|bias| store.bias(bias.to_vec()?)).transpose()?;
        Ok(Linear { weight, bias })
    }
}
