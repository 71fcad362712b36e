//! Where each parameter of a configuration lies, and what files call it.

use super::{Layer, Layout, Linear, Norm, Parameter, Role, Slot, Tensor};
use crate::model::config::{Config, QkNorm};
use crate::model::names::{Names, Qkv};

/// Hands out places. Vectors begin at a base that is known only once all matrices have theirs.
pub(super) struct Builder<'a> {
    config: &'a Config,
    names: &'static Names,
    matrices: usize,
    vectors: usize,
    tensors: Vec<Tensor>,
}

impl<'a> Builder<'a> {
    /// `base`: where vectors begin.
    pub fn new(config: &'a Config, base: usize) -> Self {
        Self { config, names: Names::of(config.family), matrices: 0, vectors: base, tensors: Vec::new() }
    }

    /// The layout.
    pub fn build(mut self) -> Layout {
        let Config { vocab_size: v, hidden_size: c, max_position_embeddings: t, .. } = *self.config;
        let embedding = self.table(self.names.embedding, [v, c], Role::Embedding);
        let positions = self.names.positions.map(|name| self.table(name, [t, c], Role::Positions));
        let layers = (0..self.config.num_hidden_layers).map(|layer| self.layer(layer)).collect();
        let final_norm = self.norm(self.names.final_norm.to_owned());
        let head = (!self.config.tie_word_embeddings).then(|| self.head());
        Layout {
            embedding,
            positions,
            layers,
            final_norm,
            head,
            tensors: self.tensors,
            decayed: self.matrices,
            len: self.vectors,
        }
    }

    fn layer(&mut self, layer: usize) -> Layer {
        let (config, names) = (self.config, self.names);
        let (c, i) = (config.hidden_size, config.intermediate_size);
        let name = |name: &str| name.replace("{}", &layer.to_string());
        let (q, k) =
            (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
        let [q_norm, k_norm] = match names.qk_norm {
            Some([q_name, k_name]) if config.qk_norm == QkNorm::Head => {
                [q_name, k_name].map(|part| self.scale(name(part), config.head_dim))
            }
            Some([q_name, k_name]) => [(q_name, q), (k_name, k)].map(|(part, n)| self.scale(name(part), n)),
            None => [Norm::default(); 2],
        };
        Layer {
            attention_norm: self.norm(name(names.attention_norm)),
            qkv: self.qkv(layer, [q, k, k]),
            q_norm,
            k_norm,
            output: self.linear(name(names.output), [c, q], config.output_bias, Role::Residual),
            mlp_norm: self.norm(name(names.mlp_norm)),
            gate: names.gate.map(|part| self.linear(name(part), [i, c], config.mlp_bias, Role::Linear)),
            up: self.linear(name(names.up), [i, c], config.mlp_bias, Role::Linear),
            down: self.linear(name(names.down), [c, i], config.mlp_bias, Role::Residual),
        }
    }

    /// Queries, keys and values of these widths in one matrix.
    fn qkv(&mut self, layer: usize, widths: [usize; 3]) -> Linear {
        let (n, c) = (widths.iter().sum(), self.config.hidden_size);
        let linear = Linear { weight: self.matrix(n, c), bias: self.config.qkv_bias.then(|| self.vector(n)) };
        let [q, k, _] = widths;
        let name = |name: &str| name.replace("{}", &layer.to_string());
        match self.names.qkv {
            Qkv::Separate(names) => {
                for (part, run) in names.into_iter().zip([0..q, q..q + k, q + k..n]) {
                    let bias = linear.bias.map(|bias| bias.values(&run));
                    let linear = Linear { weight: linear.weight.rows(&run), bias };
                    self.name_linear(&name(part), linear, None, Role::Linear);
                }
            }
            Qkv::Fused(part) => self.name_linear(&name(part), linear, None, Role::Linear),
            Qkv::HeadWise(part) => {
                self.name_linear(&name(part), linear, Some(self.config.head_dim), Role::Linear);
            }
        }
        linear
    }

    fn linear(&mut self, name: String, [n, k]: [usize; 2], bias: bool, role: Role) -> Linear {
        let linear = Linear { weight: self.matrix(n, k), bias: bias.then(|| self.vector(n)) };
        self.name_linear(&name, linear, None, role);
        linear
    }

    /// Gives a product's parameters their names.
    fn name_linear(&mut self, name: &str, linear: Linear, head_wise: Option<usize>, role: Role) {
        let Slot { rows: n, width: k, .. } = linear.weight;
        let transposed = self.names.transposed;
        let shape = if transposed { vec![k, n] } else { vec![n, k] };
        if let Some(slot) = linear.bias {
            let parameter = Parameter { name: format!("{name}.bias"), shape: vec![n], role: Role::Bias };
            self.tensors.push(Tensor { parameter, slot, transposed: false, head_wise });
        }
        let parameter = Parameter { name: format!("{name}.weight"), shape, role };
        self.tensors.push(Tensor { parameter, slot: linear.weight, transposed, head_wise });
    }

    fn norm(&mut self, name: String) -> Norm {
        let d = self.config.hidden_size;
        let weight = if self.config.norm_weight { self.scale(name.clone(), d).weight } else { None };
        let bias = self.config.norm_bias.then(|| self.named_vector(format!("{name}.bias"), d, Role::Bias));
        Norm { weight, bias }
    }

    /// A norm of `d` values without a bias.
    fn scale(&mut self, name: String, d: usize) -> Norm {
        Norm { weight: Some(self.named_vector(format!("{name}.weight"), d, Role::NormWeight)), bias: None }
    }

    fn named_vector(&mut self, name: String, len: usize, role: Role) -> Slot {
        let slot = self.vector(len);
        self.add(Parameter { name, shape: vec![len], role }, slot);
        slot
    }

    fn table(&mut self, name: &str, [rows, width]: [usize; 2], role: Role) -> Slot {
        let (name, slot) = (format!("{name}.weight"), self.matrix(rows, width));
        self.add(Parameter { name, shape: vec![rows, width], role }, slot);
        slot
    }

    fn head(&mut self) -> Slot {
        self.table(self.names.head[0], [self.config.vocab_size, self.config.hidden_size], Role::Head)
    }

    fn add(&mut self, parameter: Parameter, slot: Slot) {
        self.tensors.push(Tensor { parameter, slot, transposed: false, head_wise: None });
    }

    fn matrix(&mut self, rows: usize, width: usize) -> Slot {
        Slot::after(&mut self.matrices, rows, width)
    }

    fn vector(&mut self, width: usize) -> Slot {
        Slot::after(&mut self.vectors, 1, width)
    }
}
