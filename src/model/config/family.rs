//! What each family fixes, and what its `config.json` may leave out: data, no code.
//!
//! The defaults are those of the families' configuration classes in transformers.

use super::{NormKind, QkNorm};

/// A model family: the layout that `model_type` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// GPT-2 and its relatives (DistilGPT-2).
    Gpt2,
    /// Llama 1 to 3.3, SmolLM, TinyLlama.
    Llama,
    /// Mistral.
    Mistral,
    /// Qwen 1.5, 2 and 2.5.
    Qwen2,
    /// Qwen 3, dense.
    Qwen3,
    /// OLMo 1.
    Olmo,
    /// OLMo 2.
    Olmo2,
    /// GPT-NeoX (Pythia).
    GptNeox,
}

impl Family {
    /// What `model_type` calls it.
    pub fn model_type(self) -> &'static str {
        self.traits().model_type
    }

    /// What `architectures` calls its language model.
    pub fn architecture(self) -> &'static str {
        self.traits().architecture
    }

    fn traits(self) -> &'static Traits {
        FAMILIES.iter().find(|traits| traits.family == self).expect("every family is listed")
    }
}

/// A switch that a family fixes or that a field of `config.json` sets.
#[derive(Clone, Copy)]
pub(super) enum Switch {
    /// The same for every model of the family.
    Fixed(bool),
    /// The field's name and its default.
    Field(&'static str, bool),
}

/// Where the number of key and value heads comes from.
#[derive(Clone, Copy)]
pub(super) enum KeyValueHeads {
    /// As many as query heads, always.
    AllHeads,
    /// The field; `null` means as many as query heads, absence the default (none: as for `null`).
    Field(Option<usize>),
}

/// Where the size of a head comes from.
#[derive(Clone, Copy)]
pub(super) enum HeadDim {
    /// `hidden_size / num_attention_heads`, always.
    Derived,
    /// The field `head_dim`, else the quotient.
    Field,
    /// The field, else a constant.
    FieldOr(usize),
}

/// How a family limits attention to a window.
#[derive(Clone, Copy)]
pub(super) enum Window {
    /// It does not.
    Never,
    /// Wherever `sliding_window` (with this default) is not `null`.
    Always(usize),
    /// Only with `use_sliding_window`: that window, in the layers that `layer_types` names, else in those from
    /// `max_window_layers` (with this default) on.
    Switched(usize, usize),
}

/// The names of a family's size fields where they differ.
pub(super) struct Sizes {
    pub hidden_size: &'static str,
    pub intermediate_size: &'static str,
    pub num_hidden_layers: &'static str,
    pub num_attention_heads: &'static str,
    pub max_position_embeddings: &'static str,
}

/// Everything that distinguishes one family's configuration from another's.
pub(super) struct Traits {
    pub family: Family,
    pub model_type: &'static str,
    pub architecture: &'static str,
    pub sizes: Sizes,
    pub norm: NormKind,
    /// Field and default; OLMo has no field.
    pub norm_eps: (Option<&'static str>, f64),
    pub norm_weight: bool,
    pub norm_bias: bool,
    pub norm_after: bool,
    pub qk_norm: QkNorm,
    pub rotary: bool,
    /// Share of a head that is rotated; all but GPT-NeoX rotate whole heads.
    pub partial_rotary: bool,
    pub activation: (&'static str, &'static str),
    pub gated: bool,
    pub parallel_residual: Switch,
    pub clip_qkv: bool,
    pub tie_word_embeddings: bool,
    pub qkv_bias: Switch,
    pub output_bias: Switch,
    pub mlp_bias: Switch,
    pub key_value_heads: KeyValueHeads,
    pub head_dim: HeadDim,
    pub window: Window,
    /// Whether the embedding's row of the padding token is 0 and is not trained through the embedding.
    pub padding_row: bool,
    /// Defaults of `bos_token_id`, `eos_token_id`, `pad_token_id`.
    pub special_ids: [Option<u32>; 3],
}

const LLAMA: Traits = Traits {
    family: Family::Llama,
    model_type: "llama",
    architecture: "LlamaForCausalLM",
    sizes: Sizes {
        hidden_size: "hidden_size",
        intermediate_size: "intermediate_size",
        num_hidden_layers: "num_hidden_layers",
        num_attention_heads: "num_attention_heads",
        max_position_embeddings: "max_position_embeddings",
    },
    norm: NormKind::Rms,
    norm_eps: (Some("rms_norm_eps"), 1e-6),
    norm_weight: true,
    norm_bias: false,
    norm_after: false,
    qk_norm: QkNorm::None,
    rotary: true,
    partial_rotary: false,
    activation: ("hidden_act", "silu"),
    gated: true,
    parallel_residual: Switch::Fixed(false),
    clip_qkv: false,
    tie_word_embeddings: false,
    qkv_bias: Switch::Field("attention_bias", false),
    output_bias: Switch::Field("attention_bias", false),
    mlp_bias: Switch::Field("mlp_bias", false),
    key_value_heads: KeyValueHeads::Field(None),
    head_dim: HeadDim::Field,
    window: Window::Never,
    padding_row: true,
    special_ids: [Some(1), Some(2), None],
};

const MISTRAL: Traits = Traits {
    family: Family::Mistral,
    model_type: "mistral",
    architecture: "MistralForCausalLM",
    qkv_bias: Switch::Fixed(false),
    output_bias: Switch::Fixed(false),
    mlp_bias: Switch::Fixed(false),
    key_value_heads: KeyValueHeads::Field(Some(8)),
    window: Window::Always(4096),
    ..LLAMA
};

const QWEN2: Traits = Traits {
    family: Family::Qwen2,
    model_type: "qwen2",
    architecture: "Qwen2ForCausalLM",
    qkv_bias: Switch::Fixed(true),
    output_bias: Switch::Fixed(false),
    mlp_bias: Switch::Fixed(false),
    key_value_heads: KeyValueHeads::Field(Some(32)),
    window: Window::Switched(4096, 28),
    special_ids: [None; 3],
    ..LLAMA
};

const QWEN3: Traits = Traits {
    family: Family::Qwen3,
    model_type: "qwen3",
    architecture: "Qwen3ForCausalLM",
    qk_norm: QkNorm::Head,
    qkv_bias: Switch::Field("attention_bias", false),
    output_bias: Switch::Field("attention_bias", false),
    head_dim: HeadDim::FieldOr(128),
    ..QWEN2
};

const OLMO: Traits = Traits {
    family: Family::Olmo,
    model_type: "olmo",
    architecture: "OlmoForCausalLM",
    norm: NormKind::Layer,
    norm_eps: (None, 1e-5),
    norm_weight: false,
    clip_qkv: true,
    mlp_bias: Switch::Fixed(false),
    special_ids: [None, Some(50279), Some(1)],
    ..LLAMA
};

const OLMO2: Traits = Traits {
    family: Family::Olmo2,
    model_type: "olmo2",
    architecture: "Olmo2ForCausalLM",
    norm: NormKind::Rms,
    norm_eps: (Some("rms_norm_eps"), 1e-5),
    norm_weight: true,
    norm_after: true,
    qk_norm: QkNorm::Whole,
    clip_qkv: false,
    ..OLMO
};

const GPT_NEOX: Traits = Traits {
    family: Family::GptNeox,
    model_type: "gpt_neox",
    architecture: "GPTNeoXForCausalLM",
    norm: NormKind::Layer,
    norm_eps: (Some("layer_norm_eps"), 1e-5),
    norm_bias: true,
    partial_rotary: true,
    activation: ("hidden_act", "gelu"),
    gated: false,
    parallel_residual: Switch::Field("use_parallel_residual", true),
    qkv_bias: Switch::Field("attention_bias", true),
    output_bias: Switch::Field("attention_bias", true),
    mlp_bias: Switch::Fixed(true),
    key_value_heads: KeyValueHeads::AllHeads,
    head_dim: HeadDim::Derived,
    padding_row: false,
    special_ids: [Some(0), Some(2), None],
    ..LLAMA
};

const GPT2: Traits = Traits {
    family: Family::Gpt2,
    model_type: "gpt2",
    architecture: "GPT2LMHeadModel",
    sizes: Sizes {
        hidden_size: "n_embd",
        intermediate_size: "n_inner",
        num_hidden_layers: "n_layer",
        num_attention_heads: "n_head",
        max_position_embeddings: "n_positions",
    },
    norm_eps: (Some("layer_norm_epsilon"), 1e-5),
    rotary: false,
    activation: ("activation_function", "gelu_new"),
    parallel_residual: Switch::Fixed(false),
    tie_word_embeddings: true,
    qkv_bias: Switch::Fixed(true),
    output_bias: Switch::Fixed(true),
    special_ids: [Some(50256), Some(50256), None],
    ..GPT_NEOX
};

/// All families.
pub(super) static FAMILIES: [Traits; 8] = [GPT2, LLAMA, MISTRAL, QWEN2, QWEN3, OLMO, OLMO2, GPT_NEOX];
