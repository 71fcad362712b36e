//! Naive loops in f64 for the gradients of attention.

use toedit::ops::attention::Attention;

use super::oracle::{self, Expected};
use super::oracle_rows::add;

/// The gradients of one document: of `q` `[T, H, D]`, and of `kv` `[T, 2, KV, D]`.
pub struct AttentionGradients {
    pub dq: Vec<Expected>,
    pub dkv: Vec<Expected>,
}

/// From that of the outputs, `dout` `[T, H, D]`.
///
/// As in the forward pass, scores count in the scale of a weight; a weight's gradient is a difference of the products
/// with values, so it counts by their size.
pub fn attention_backward(attention: &Attention, q: &[f32], kv: &[f32], dout: &[f32]) -> AttentionGradients {
    let Attention { heads, kv_heads, head_dim, scale } = *attention;
    let factor = f64::from(scale);
    let mut out = AttentionGradients {
        dq: vec![Expected::default(); q.len()],
        dkv: vec![Expected::default(); kv.len()],
    };
    let at = |key: usize, half: usize, head: usize| ((2 * key + half) * kv_heads + head) * head_dim;
    let dot = |a: &[f32], b: &[f32]| {
        let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.fold((0.0, 0.0), |(sum, size): (f64, f64), x| (sum + x, size + x.abs()))
    };
    for query in 0..q.len() / (heads * head_dim) {
        for head in 0..heads {
            let (own, shared) = ((query * heads + head) * head_dim, head / (heads / kv_heads));
            let (q, dout) = (&q[own..][..head_dim], &dout[own..][..head_dim]);
            let part = |key: usize, half: usize| &kv[at(key, half, shared)..][..head_dim];
            let scores: Vec<_> = (0..=query).map(|key| dot(q, part(key, 0))).collect();
            let products: Vec<_> = (0..=query).map(|key| dot(dout, part(key, 1))).collect();
            let slack = 1.0 + 2.0 * factor * scores.iter().map(|score| score.1).fold(0.0, f64::max);
            let weights = oracle::softmax(&scores.iter().map(|score| score.0 * factor).collect::<Vec<_>>());
            let mean = |f: fn(&(f64, f64)) -> f64| -> f64 {
                weights.iter().zip(&products).map(|(p, x)| p * f(x)).sum()
            };
            let (delta, size) = (mean(|x| x.0), mean(|x| x.1));
            for (key, (p, product)) in weights.iter().zip(&products).enumerate() {
                let ds = p * (product.0 - delta) * factor;
                let spread = p * (product.1 + size) * factor * slack;
                for d in 0..head_dim {
                    let (k, v) = (at(key, 0, shared) + d, at(key, 1, shared) + d);
                    let (x, y, dy) = (f64::from(kv[k]), f64::from(q[d]), f64::from(dout[d]));
                    add(&mut out.dq[own + d], ds * x, spread * x.abs());
                    add(&mut out.dkv[k], ds * y, spread * y.abs());
                    add(&mut out.dkv[v], p * dy, p * dy.abs() * slack);
                }
            }
        }
    }
    out
}
