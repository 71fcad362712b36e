//! Naive loops in f64: what every op should give.

use toedit::model::config::{Activation, NormKind};
use toedit::ops::attention::Attention;

/// An output, and the size of what was added up to it, against which its error counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    pub value: f64,
    pub scale: f64,
}

impl Expected {
    /// Σ a·b with the scale Σ |a·b|.
    fn dot(pairs: impl Iterator<Item = (f64, f64)>) -> Self {
        pairs.fold(Self::default(), |sum, (a, b)| Self {
            value: sum.value + a * b,
            scale: sum.scale + (a * b).abs(),
        })
    }
}

fn dot(a: &[f32], b: &[f32]) -> Expected {
    Expected::dot(a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b))))
}

/// `out[r, j] = Σ_k a[r, k] · w[j, k]`
pub fn matmul(a: &[f32], w: &[f32], k: usize) -> Vec<Expected> {
    a.chunks_exact(k).flat_map(|a| w.chunks_exact(k).map(|w| dot(a, w))).collect()
}

/// One row, `(x − mean) · rstd · weight + bias`; the mean is 0 for RMS.
pub fn norm(
    kind: NormKind,
    eps: f32,
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    x: &[f32],
) -> Vec<Expected> {
    let mean = |f: &dyn Fn(f64) -> f64| x.iter().map(|x| f(f64::from(*x))).sum::<f64>() / x.len() as f64;
    let (shift, size) = match kind {
        NormKind::Layer => (mean(&|x| x), mean(&f64::abs)),
        NormKind::Rms => (0.0, 0.0),
    };
    let rstd = 1.0 / (mean(&|x| (x - shift).powi(2)) + f64::from(eps)).sqrt();
    let parameter = |values: Option<&[f32]>, index: usize| values.map(|values| f64::from(values[index]));
    let output = |(index, x): (usize, &f32)| {
        let x = f64::from(*x);
        let factor = rstd * parameter(weight, index).unwrap_or(1.0);
        let bias = parameter(bias, index).unwrap_or(0.0);
        Expected { value: (x - shift) * factor + bias, scale: (x.abs() + size) * factor.abs() + bias.abs() }
    };
    x.iter().enumerate().map(output).collect()
}

/// One head at one position: pairs `(i, i + half)` rotated by `position · frequencies[i]`, the angle rounded to f32.
pub fn rotate(head: &[f32], frequencies: &[f32], position: usize) -> Vec<Expected> {
    let half = frequencies.len();
    let x = |i: usize| f64::from(head[i]);
    let output = |i: usize| {
        if i >= 2 * half {
            return Expected { value: x(i), scale: 0.0 };
        }
        let (sin, cos) = f64::from(position as f32 * frequencies[i % half]).sin_cos();
        let (other, sin) = if i < half { (x(i + half), -sin) } else { (x(i - half), sin) };
        Expected { value: x(i) * cos + other * sin, scale: x(i).abs() + other.abs() }
    };
    (0..head.len()).map(output).collect()
}

/// `act(x) · up`
pub fn activate(activation: Activation, x: f32, up: f32) -> Expected {
    let (x, up) = (f64::from(x), f64::from(up));
    let share = match activation {
        Activation::Gelu => 0.5 * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * (1.0 + inner.tanh())
        }
        Activation::Silu => 1.0 / (1.0 + (-x).exp()),
    };
    Expected { value: x * share * up, scale: (x * up).abs() }
}

/// The error function by its series of positive terms, `2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1) / (2n+1)!!`.
pub fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, 0.0);
    for n in 0..300 {
        sum += term;
        term *= 2.0 * x * x / f64::from(2 * n + 3);
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

/// Attention of one document: `q` is `[T, H, D]`, `kv` `[T, 2, KV, D]`, the output `[T, H, D]`.
///
/// An error δ of a score changes a weight by a factor e^δ, so scores count in the scale of the output.
pub fn attention(attention: &Attention, q: &[f32], kv: &[f32]) -> Vec<Expected> {
    let mut out = Vec::with_capacity(q.len());
    each_head(attention, q, kv, |scores, slack, values| {
        let weights = softmax(&scores);
        for column in 0..attention.head_dim {
            let values = values.iter().map(|value| f64::from(value[column]));
            let sum = Expected::dot(weights.iter().copied().zip(values));
            out.push(Expected { scale: sum.scale * slack, ..sum });
        }
    });
    out
}

/// ln Σ e^(scaled score) of every row and head, `[T, H]`.
pub fn attention_lse(attention: &Attention, q: &[f32], kv: &[f32]) -> Vec<Expected> {
    let mut out = Vec::new();
    each_head(attention, q, kv, |scores, slack, _| {
        let value = scores[0] - log_softmax(&scores)[0];
        out.push(Expected { value, scale: slack + value.abs() });
    });
    out
}

/// Calls `f` for every row and head of a document with its scaled scores, one more than twice the size of what was added
/// up to the largest, and the values that it sees.
fn each_head(attention: &Attention, q: &[f32], kv: &[f32], mut f: impl FnMut(Vec<f64>, f64, Vec<&[f32]>)) {
    let Attention { heads, kv_heads, head_dim, .. } = *attention;
    let factor = f64::from(attention.scale);
    for (row, q) in q.chunks_exact(heads * head_dim).enumerate() {
        for (head, q) in q.chunks_exact(head_dim).enumerate() {
            let at = |key: usize, half: usize| {
                let start = (2 * key + half) * kv_heads + head / (heads / kv_heads);
                &kv[start * head_dim..][..head_dim]
            };
            let scores: Vec<Expected> = (0..=row).map(|key| dot(q, at(key, 0))).collect();
            let size = scores.iter().map(|score| score.scale).fold(0.0, f64::max);
            let scores = scores.iter().map(|score| score.value * factor).collect();
            f(scores, 1.0 + 2.0 * size * factor, (0..=row).map(|key| at(key, 1)).collect());
        }
    }
}

/// log p of a row's target and the row's entropy. An error δ of the logits moves log p by up to 2δ, and the entropy by as
/// much for each nat.
pub fn head(logits: &[Expected], target: usize) -> [Expected; 2] {
    let values: Vec<f64> = logits.iter().map(|logit| logit.value).collect();
    let size = 1.0 + 2.0 * logits.iter().map(|logit| logit.scale).fold(0.0, f64::max);
    let (log, entropy) = (log_softmax(&values)[target], entropy(&values));
    [(log, size - log), (entropy, size * (1.0 + entropy))].map(|(value, scale)| Expected { value, scale })
}

/// e^(x − ln Σ e^x)
pub fn softmax(x: &[f64]) -> Vec<f64> {
    log_softmax(x).into_iter().map(f64::exp).collect()
}

/// x − ln Σ e^x
pub fn log_softmax(x: &[f64]) -> Vec<f64> {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = x.iter().map(|x| (x - max).exp()).sum();
    x.iter().map(|x| x - max - sum.ln()).collect()
}

/// −Σ p ln p
pub fn entropy(logits: &[f64]) -> f64 {
    -log_softmax(logits).into_iter().filter(|p| p.is_finite()).map(|p| p.exp() * p).sum::<f64>()
}
