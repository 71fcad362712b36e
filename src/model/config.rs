//! `config.json` as typed data: one structure for all families.

use std::path::Path;

use serde_json::Value;

use super::folder::read_small;
use crate::ops::attention::Attention;
use crate::{Error, Result};

mod family;
mod fields;
mod rope;

pub use family::Family;
use family::{FAMILIES, HeadDim, KeyValueHeads, Switch, Traits, Window};
use fields::Fields;
pub use rope::{Rope, RopeScaling};

/// A configuration is a few kilobytes; a larger file is something else.
pub(crate) const FILE_LIMIT: u64 = 1 << 20;

/// The largest head that the attention kernels are built for.
const HEAD_DIM_LIMIT: usize = 256;

/// What a norm subtracts and divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Mean and standard deviation.
    Layer,
    /// Root mean square.
    Rms,
}

/// Norms of queries and keys ahead of the rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    None,
    /// Each head on its own, with weights `[head_dim]` shared by the heads.
    Head,
    /// All heads of a token together.
    Whole,
}

/// The nonlinearity of the MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x·Φ(x), by the error function.
    Gelu,
    /// Its approximation by tanh.
    GeluTanh,
    /// x·σ(x).
    Silu,
}

/// A decoder-only transformer. Fields that `config.json` has too keep their names.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The family, which also names the tensors.
    pub family: Family,
    /// Rows of the embedding; may exceed the tokenizer's size.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Blocks of attention and MLP.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head; even, at most 256.
    pub head_dim: usize,
    /// The longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// The kind of all norms.
    pub norm: NormKind,
    /// Added to the variance or the mean square.
    pub norm_eps: f32,
    /// Whether norms scale by a weight; OLMo's do not.
    pub norm_weight: bool,
    /// Whether norms add a bias.
    pub norm_bias: bool,
    /// Norms on the outputs of attention and MLP instead of their inputs (OLMo-2).
    pub norm_after: bool,
    /// Norms of queries and keys.
    pub qk_norm: QkNorm,
    /// Rotary positions; none where positions are learned (GPT-2).
    pub rope: Option<Rope>,
    /// The MLP's nonlinearity.
    pub activation: Activation,
    /// Whether the MLP is down(act(gate(x)) · up(x)) instead of down(act(up(x))).
    pub gated: bool,
    /// Attention and MLP both read the block's input (GPT-NeoX).
    pub parallel_residual: bool,
    /// Queries, keys and values are clamped to ± this (OLMo).
    pub clip_qkv: Option<f32>,
    /// Factor on q·k: 1/√`head_dim`, or 1 where the configuration says so.
    pub attention_scale: f32,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether the attention's output has a bias.
    pub output_bias: bool,
    /// Whether the MLP's products have biases.
    pub mlp_bias: bool,
    /// Positions that a token attends to, itself included, where some layer limits them. Longer sequences than this
    /// are not supported.
    pub sliding_window: Option<usize>,
    /// Beginning, end and padding tokens, ascending, each once.
    pub special_ids: Vec<u32>,
    /// The token that begins a sequence.
    pub bos_token_id: Option<u32>,
    /// The token that ends one: the first where there are several.
    pub eos_token_id: Option<u32>,
    /// The embedding's row that starts as 0 and gets no gradient through the embedding (only as a row of the head where
    /// that is the same matrix): the padding token's, in families that tell PyTorch its `padding_idx`.
    pub padding_row: Option<u32>,
    /// Standard deviation of a new model's matrices.
    pub initializer_range: f32,
}

impl Config {
    /// The longest sequence that the model takes, and the field of `config.json` that says so.
    pub fn context(&self) -> (&'static str, usize) {
        let positions = ("max_position_embeddings", self.max_position_embeddings);
        match self.sliding_window.filter(|window| *window < self.max_position_embeddings) {
            Some(window) => ("sliding_window", window),
            None => positions,
        }
    }

    /// Reads a model's `config.json`.
    ///
    /// # Errors
    /// [`Error::Config`] for each field that is missing, malformed, out of range, inconsistent with another or asks for
    /// something that is not supported; nothing is approximated.
    pub fn from_file(path: &Path) -> Result<Self> {
        Self::from_slice(&read_small(path, FILE_LIMIT)?, path)
    }

    /// As [`Self::from_file`] for the file's bytes; `path` is for messages.
    pub fn from_slice(json: &[u8], path: &Path) -> Result<Self> {
        let value: Value =
            serde_json::from_slice(json).map_err(|error| Error::file(path, format!("not JSON: {error}")))?;
        let Value::Object(object) = value else {
            return Err(Error::file(path, "expected a JSON object"));
        };
        let fields = Fields::new(path, &object);
        let traits = traits(&fields)?;
        refuse_unsupported(&fields)?;
        let sizes = Sizes::from_fields(&fields, traits)?;
        Self::assemble(&fields, traits, sizes)
    }

    /// The sizes of its attention.
    pub(crate) fn attention(&self) -> Attention {
        Attention {
            heads: self.num_attention_heads,
            kv_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            scale: self.attention_scale,
        }
    }

    fn assemble(fields: &Fields, traits: &Traits, sizes: Sizes) -> Result<Self> {
        let rope = traits
            .rotary
            .then(|| Rope::from_fields(fields, traits, sizes.head_dim, sizes.max_positions))
            .transpose()?;
        let SpecialIds { bos, eos, all } = special_ids(fields, traits)?;
        let vocab_size = fields.size("vocab_size")?;
        Ok(Self {
            family: traits.family,
            vocab_size,
            hidden_size: sizes.hidden,
            intermediate_size: intermediate_size(fields, traits, sizes.hidden)?,
            num_hidden_layers: sizes.layers,
            num_attention_heads: sizes.heads,
            num_key_value_heads: key_value_heads(fields, traits, sizes.heads)?,
            head_dim: sizes.head_dim,
            max_position_embeddings: sizes.max_positions,
            norm: traits.norm,
            norm_eps: norm_eps(fields, traits)?,
            norm_weight: traits.norm_weight,
            norm_bias: traits.norm_bias,
            norm_after: traits.norm_after,
            qk_norm: traits.qk_norm,
            rope,
            activation: activation(fields, traits)?,
            gated: traits.gated,
            parallel_residual: switch(fields, traits.parallel_residual)?,
            clip_qkv: clip_qkv(fields, traits)?,
            attention_scale: attention_scale(fields, sizes.head_dim)?,
            tie_word_embeddings: fields.flag("tie_word_embeddings", traits.tie_word_embeddings)?,
            qkv_bias: switch(fields, traits.qkv_bias)?,
            output_bias: switch(fields, traits.output_bias)?,
            mlp_bias: switch(fields, traits.mlp_bias)?,
            sliding_window: sliding_window(fields, traits, sizes.layers)?,
            special_ids: all,
            bos_token_id: bos,
            eos_token_id: eos,
            padding_row: padding_row(fields, traits, vocab_size)?,
            initializer_range: initializer_range(fields)?,
        })
    }
}

/// The sizes that others depend on.
struct Sizes {
    hidden: usize,
    layers: usize,
    heads: usize,
    head_dim: usize,
    max_positions: usize,
}

impl Sizes {
    fn from_fields(fields: &Fields, traits: &Traits) -> Result<Self> {
        let names = &traits.sizes;
        let hidden = fields.size(names.hidden_size)?;
        let heads = fields.size(names.num_attention_heads)?;
        Ok(Self {
            hidden,
            layers: fields.size(names.num_hidden_layers)?,
            heads,
            head_dim: head_dim(fields, traits, hidden, heads)?,
            max_positions: fields.size(names.max_position_embeddings)?,
        })
    }
}

/// The tokens that end a text by a file of a model, `generation_config.json` or `config.json`; none where there is no such
/// file, or it names none.
pub(crate) fn listed_eos(path: &Path) -> Result<Vec<u32>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let value: Value = serde_json::from_slice(&read_small(path, FILE_LIMIT)?)
        .map_err(|error| Error::file(path, format!("not JSON: {error}")))?;
    match &value {
        Value::Object(object) => Fields::new(path, object).ids("eos_token_id", None),
        _ => Err(Error::file(path, "expected a JSON object")),
    }
}

/// The family that `model_type` names, or `architectures` where that is missing.
fn traits(fields: &Fields) -> Result<&'static Traits> {
    let named = match fields.text("model_type")? {
        Some(model_type) => vec![model_type],
        None => fields.texts("architectures")?.unwrap_or_default(),
    };
    let known =
        |name: &&str| FAMILIES.iter().find(|traits| [traits.model_type, traits.architecture].contains(name));
    named.iter().find_map(known).ok_or_else(|| {
        let supported: Vec<_> = FAMILIES.iter().map(|traits| traits.model_type).collect();
        fields.unsupported("model_type", &named.join(", "), &supported.join(", "))
    })
}

/// Options that change the computation and that no family here implements.
fn refuse_unsupported(fields: &Fields) -> Result<()> {
    fields.refuse(
        "quantization_config",
        "quantised weights are not supported, use the model they were made from",
    )?;
    fields.refuse("scale_attn_by_inverse_layer_idx", "scaling by layer is not supported")?;
    fields.refuse("add_cross_attention", "cross attention is not supported")
}

fn head_dim(fields: &Fields, traits: &Traits, hidden: usize, heads: usize) -> Result<usize> {
    let given = match traits.head_dim {
        HeadDim::Derived => None,
        HeadDim::Field => fields.optional_size("head_dim")?,
        HeadDim::FieldOr(default) => Some(fields.optional_size("head_dim")?.unwrap_or(default)),
    };
    // Llama's own check, even where `head_dim` is given.
    if !hidden.is_multiple_of(heads) && (given.is_none() || traits.family == Family::Llama) {
        let name = traits.sizes.hidden_size;
        let reason = format!("found {heads}, which does not divide {name} {hidden}");
        return Err(fields.error(traits.sizes.num_attention_heads, reason));
    }
    let head_dim = given.unwrap_or(hidden / heads);
    if head_dim % 2 == 1 || head_dim > HEAD_DIM_LIMIT {
        let reason = format!("heads of size {head_dim}, expected an even size up to {HEAD_DIM_LIMIT}");
        return Err(fields.error("head_dim", reason));
    }
    Ok(head_dim)
}

fn key_value_heads(fields: &Fields, traits: &Traits, heads: usize) -> Result<usize> {
    const NAME: &str = "num_key_value_heads";
    let KeyValueHeads::Field(default) = traits.key_value_heads else { return Ok(heads) };
    let found = fields.nullable_size(NAME, default)?.unwrap_or(heads);
    if !heads.is_multiple_of(found) {
        let reason = format!("found {found}, which does not divide num_attention_heads {heads}");
        return Err(fields.error(NAME, reason));
    }
    Ok(found)
}

/// GPT-2 may leave it out: four times the width.
fn intermediate_size(fields: &Fields, traits: &Traits, hidden: usize) -> Result<usize> {
    let name = traits.sizes.intermediate_size;
    match traits.family {
        Family::Gpt2 => Ok(fields.optional_size(name)?.unwrap_or(4 * hidden)),
        _ => fields.size(name),
    }
}

fn norm_eps(fields: &Fields, traits: &Traits) -> Result<f32> {
    let (field, default) = traits.norm_eps;
    let found = field.map(|name| fields.number(name, 1.0)).transpose()?.flatten();
    Ok(found.unwrap_or(default) as f32)
}

fn activation(fields: &Fields, traits: &Traits) -> Result<Activation> {
    let (field, default) = traits.activation;
    match fields.text(field)?.unwrap_or(default) {
        "gelu" | "gelu_python" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        "silu" | "swish" => Ok(Activation::Silu),
        other => Err(fields.unsupported(
            field,
            other,
            "gelu, gelu_python, gelu_new, gelu_fast, gelu_pytorch_tanh, silu, swish",
        )),
    }
}

fn clip_qkv(fields: &Fields, traits: &Traits) -> Result<Option<f32>> {
    if !traits.clip_qkv {
        return Ok(None);
    }
    Ok(fields.number("clip_qkv", f64::from(f32::MAX))?.map(|clip| clip as f32))
}

fn attention_scale(fields: &Fields, head_dim: usize) -> Result<f32> {
    let scaled = fields.flag("scale_attn_weights", true)?;
    Ok(if scaled { (head_dim as f64).sqrt().recip() as f32 } else { 1.0 })
}

fn switch(fields: &Fields, switch: Switch) -> Result<bool> {
    match switch {
        Switch::Fixed(value) => Ok(value),
        Switch::Field(name, default) => fields.flag(name, default),
    }
}

fn sliding_window(fields: &Fields, traits: &Traits, layers: usize) -> Result<Option<usize>> {
    const NAME: &str = "sliding_window";
    let sliding_layers = sliding_layers(fields, layers)?;
    let window = match traits.window {
        Window::Never => None,
        Window::Always(default) => fields.nullable_size(NAME, Some(default))?,
        Window::Switched(..) if !fields.flag("use_sliding_window", false)? => None,
        Window::Switched(default, _) => fields.nullable_size(NAME, Some(default))?,
    };
    if window.is_none() && sliding_layers == Some(true) {
        return Err(fields.error("layer_types", "names sliding_attention, but no sliding_window is in use"));
    }
    let limits = match traits.window {
        Window::Switched(_, first) => match sliding_layers {
            Some(any) => any,
            None => fields.optional_size("max_window_layers")?.unwrap_or(first) < layers,
        },
        _ => true,
    };
    Ok(window.filter(|_| limits))
}

/// Whether `layer_types`, if there, names a sliding layer.
fn sliding_layers(fields: &Fields, layers: usize) -> Result<Option<bool>> {
    const NAME: &str = "layer_types";
    const KNOWN: [&str; 2] = ["full_attention", "sliding_attention"];
    let Some(types) = fields.texts(NAME)? else { return Ok(None) };
    if let Some(other) = types.iter().find(|name| !KNOWN.contains(name)) {
        return Err(fields.unsupported(NAME, other, &KNOWN.join(", ")));
    }
    if types.len() != layers {
        return Err(fields.error(NAME, format!("found {} entries for {layers} layers", types.len())));
    }
    Ok(Some(types.contains(&"sliding_attention")))
}

fn padding_row(fields: &Fields, traits: &Traits, vocab_size: usize) -> Result<Option<u32>> {
    let ids = fields.ids("pad_token_id", traits.special_ids[2])?;
    Ok(ids.first().copied().filter(|id| traits.padding_row && (*id as usize) < vocab_size))
}

/// transformers takes 0 for the default too.
fn initializer_range(fields: &Fields) -> Result<f32> {
    const NAME: &str = "initializer_range";
    let found = fields.number_from_zero(NAME, 1.0)?.filter(|range| *range > 0.0);
    Ok(found.unwrap_or(0.02) as f32)
}

/// Special ids: the first that begins a sequence, the first that ends one, and all.
struct SpecialIds {
    bos: Option<u32>,
    eos: Option<u32>,
    all: Vec<u32>,
}

fn special_ids(fields: &Fields, traits: &Traits) -> Result<SpecialIds> {
    let [bos, eos, pad] = traits.special_ids;
    let bos = fields.ids("bos_token_id", bos)?;
    let eos = fields.ids("eos_token_id", eos)?;
    let pad = fields.ids("pad_token_id", pad)?;
    let mut all = [bos.as_slice(), &eos, &pad].concat();
    all.sort_unstable();
    all.dedup();
    Ok(SpecialIds { bos: bos.first().copied(), eos: eos.first().copied(), all })
}
