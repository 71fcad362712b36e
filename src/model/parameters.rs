//! Every tensor of a model by name and shape, as transformers writes it.

use super::config::{Config, QkNorm};
use super::names::{Names, Qkv};

/// What a tensor does, as far as its first values depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The token embedding.
    Embedding,
    /// Learned positions.
    Positions,
    /// A norm's factors.
    NormWeight,
    /// A norm's summands.
    NormBias,
    /// The matrix of a product that stays inside the block.
    Linear,
    /// The matrix of a product whose result is added to the residual stream.
    Residual,
    /// A product's bias.
    Bias,
    /// The head.
    Head,
}

/// A tensor of a model's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its full name.
    pub name: String,
    /// Its shape in the file.
    pub shape: Vec<usize>,
    /// What it does.
    pub role: Role,
}

impl Parameter {
    /// Its number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// All tensors of a model, in the order of its forward pass. `separate_head` says whether the head is a matrix of its
/// own; usually where `tie_word_embeddings` is false.
///
/// ```
/// use std::path::Path;
/// use toedit::model::{Config, parameters::parameters};
/// let config = Config::from_file(Path::new("assets/tiny/config.json"))?;
/// let all = parameters(&config, !config.tie_word_embeddings);
/// assert_eq!(all[0].name, "model.embed_tokens.weight");
/// assert_eq!(all[0].shape, [config.vocab_size, config.hidden_size]);
/// # Ok::<(), toedit::Error>(())
/// ```
pub fn parameters(config: &Config, separate_head: bool) -> Vec<Parameter> {
    let mut list = List { config, names: Names::of(config.family), all: Vec::new() };
    let (table, names) = ([config.vocab_size, config.hidden_size], list.names);
    list.add(names.embedding, "weight", 0, &table, Role::Embedding);
    if let Some(positions) = names.positions {
        let shape = [config.max_position_embeddings, config.hidden_size];
        list.add(positions, "weight", 0, &shape, Role::Positions);
    }
    (0..config.num_hidden_layers).for_each(|layer| list.layer(layer));
    list.norm(names.final_norm, 0);
    if separate_head {
        list.add(names.head[0], "weight", 0, &table, Role::Head);
    }
    list.all
}

/// The list in the making.
struct List<'a> {
    config: &'a Config,
    names: &'static Names,
    all: Vec<Parameter>,
}

impl List<'_> {
    fn layer(&mut self, layer: usize) {
        let (config, names) = (self.config, self.names);
        let (c, i) = (config.hidden_size, config.intermediate_size);
        let q = config.num_attention_heads * config.head_dim;
        self.norm(names.attention_norm, layer);
        self.qkv(layer);
        self.qk_norm(layer);
        self.linear(names.output, [c, q], config.output_bias, layer, Role::Residual);
        self.norm(names.mlp_norm, layer);
        for name in names.gate.into_iter().chain([names.up]) {
            self.linear(name, [i, c], config.mlp_bias, layer, Role::Linear);
        }
        self.linear(names.down, [c, i], config.mlp_bias, layer, Role::Residual);
    }

    fn qkv(&mut self, layer: usize) {
        let config = self.config;
        let q = config.num_attention_heads * config.head_dim;
        let k = config.num_key_value_heads * config.head_dim;
        let parts = match self.names.qkv {
            Qkv::Separate([query, key, value]) => vec![(query, q), (key, k), (value, k)],
            Qkv::Fused(name) | Qkv::HeadWise(name) => vec![(name, q + 2 * k)],
        };
        for (name, n) in parts {
            self.linear(name, [n, config.hidden_size], config.qkv_bias, layer, Role::Linear);
        }
    }

    fn qk_norm(&mut self, layer: usize) {
        let config = self.config;
        let heads = match config.qk_norm {
            QkNorm::None => return,
            QkNorm::Head => [1, 1],
            QkNorm::Whole => [config.num_attention_heads, config.num_key_value_heads],
        };
        for (name, heads) in self.names.qk_norm.into_iter().flatten().zip(heads) {
            self.add(name, "weight", layer, &[heads * config.head_dim], Role::NormWeight);
        }
    }

    fn norm(&mut self, name: &str, layer: usize) {
        let shape = [self.config.hidden_size];
        if self.config.norm_weight {
            self.add(name, "weight", layer, &shape, Role::NormWeight);
        }
        if self.config.norm_bias {
            self.add(name, "bias", layer, &shape, Role::NormBias);
        }
    }

    /// A product of `n` outputs and `k` inputs.
    fn linear(&mut self, name: &str, [n, k]: [usize; 2], bias: bool, layer: usize, role: Role) {
        let shape = if self.names.transposed { [k, n] } else { [n, k] };
        self.add(name, "weight", layer, &shape, role);
        if bias {
            self.add(name, "bias", layer, &[n], Role::Bias);
        }
    }

    fn add(&mut self, name: &str, ending: &str, layer: usize, shape: &[usize], role: Role) {
        let name = format!("{}.{ending}", name.replace("{}", &layer.to_string()));
        self.all.push(Parameter { name, shape: shape.to_vec(), role });
    }
}
