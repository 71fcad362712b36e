//! Naive loops in f64 for the gradients of ops that work row by row, and for the optimizer.

use toedit::model::config::{Activation, NormKind};

use super::oracle::{self, Expected};

/// Sums up expected values.
pub fn add(sum: &mut Expected, value: f64, scale: f64) {
    sum.value += value;
    sum.scale += scale;
}

/// Central differences of `f`, by steps of 2⁻¹⁰: `x` should hold them exactly.
pub fn numeric(x: &[f32], f: impl Fn(&[f32]) -> f64) -> Vec<f64> {
    let step = 2f32.powi(-10);
    let at = |index: usize, step: f32| {
        let mut x = x.to_vec();
        x[index] += step;
        f(&x)
    };
    (0..x.len()).map(|i| (at(i, step) - at(i, -step)) / (2.0 * f64::from(step))).collect()
}

/// Fails where an analytic gradient is not the numeric one, to the error of the latter.
pub fn assert_differentiates(what: &str, analytic: &[Expected], numeric: &[f64]) {
    assert_eq!(analytic.len(), numeric.len(), "{what}: lengths");
    for (index, (analytic, numeric)) in analytic.iter().zip(numeric).enumerate() {
        let error = (analytic.value - numeric).abs();
        assert!(error <= 1e-4 * (1.0 + analytic.scale), "{what}[{index}]: {analytic:?} against {numeric}");
    }
}

/// The gradients of a norm's inputs and parameters.
pub struct NormGradients {
    pub dx: Vec<Expected>,
    pub dweight: Vec<Expected>,
    pub dbias: Vec<Expected>,
}

/// Of rows of `d` values; the scales count the mean that is taken off.
pub fn norm_backward(
    kind: NormKind,
    eps: f32,
    weight: Option<&[f32]>,
    (x, dy): (&[f32], &[f32]),
    d: usize,
) -> NormGradients {
    let mut out = NormGradients {
        dx: Vec::new(),
        dweight: vec![Expected::default(); d],
        dbias: vec![Expected::default(); d],
    };
    for (x, dy) in x.chunks_exact(d).zip(dy.chunks_exact(d)) {
        let mean = |f: &dyn Fn(usize) -> f64| (0..d).map(f).sum::<f64>() / d as f64;
        let x = |i: usize| f64::from(x[i]);
        let (shift, offset) = match kind {
            NormKind::Layer => (mean(&x), mean(&|i| x(i).abs())),
            NormKind::Rms => (0.0, 0.0),
        };
        let rstd = 1.0 / (mean(&|i| (x(i) - shift).powi(2)) + f64::from(eps)).sqrt();
        let (normal, size) = (|i: usize| (x(i) - shift) * rstd, |i: usize| (x(i).abs() + offset) * rstd);
        let g = |i: usize| f64::from(dy[i]) * weight.map_or(1.0, |weight| f64::from(weight[i]));
        let (along, along_size) = (mean(&|i| g(i) * normal(i)), mean(&|i| g(i).abs() * size(i)));
        let (level, level_size) = match kind {
            NormKind::Layer => (mean(&g), mean(&|i| g(i).abs())),
            NormKind::Rms => (0.0, 0.0),
        };
        for i in 0..d {
            let dy = f64::from(dy[i]);
            let value = rstd * (g(i) - level - normal(i) * along);
            let scale = rstd * (g(i).abs() + level_size + size(i) * along_size);
            out.dx.push(Expected { value, scale });
            add(&mut out.dweight[i], dy * normal(i), dy.abs() * size(i));
            add(&mut out.dbias[i], dy, dy.abs());
        }
    }
    out
}

/// The gradients of `act(x) · up` by x and by up. Where an activation is nearly linear, its slope has the error of its
/// share times x.
pub fn activate_backward(activation: Activation, x: f32, up: f32, dy: f32) -> [Expected; 2] {
    let act = oracle::activate(activation, x, 1.0);
    let (x, up, dy) = (f64::from(x), f64::from(up), f64::from(dy));
    let normal = |x: f64| (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
    let slope = match activation {
        Activation::Gelu => 0.5 * (1.0 + oracle::erf(x / std::f64::consts::SQRT_2)) + x * normal(x),
        Activation::GeluTanh => {
            let scale = (2.0 / std::f64::consts::PI).sqrt();
            let tanh = (scale * (x + 0.044715 * x.powi(3))).tanh();
            let inner = scale * (1.0 + 3.0 * 0.044715 * x * x);
            0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner
        }
        Activation::Silu => {
            let share = 1.0 / (1.0 + (-x).exp());
            share * (1.0 + x * (1.0 - share))
        }
    };
    let scale = (dy * up).abs() * (1.0 + x.abs().min(20.0));
    [
        Expected { value: dy * up * slope, scale },
        Expected { value: dy * act.value, scale: dy.abs() * act.scale },
    ]
}

/// What is in `start`, and the sum of the rows that `chosen` names on top, column by column.
pub fn sum_rows(start: &[f32], rows: &[f32], chosen: impl Iterator<Item = usize>) -> Vec<Expected> {
    let first = |x: &f32| Expected { value: f64::from(*x), scale: f64::from(x.abs()) };
    let mut sums: Vec<Expected> = start.iter().map(first).collect();
    for row in chosen {
        let row = &rows[row * start.len()..][..start.len()];
        sums.iter_mut().zip(row).for_each(|(sum, x)| add(sum, f64::from(*x), f64::from(x.abs())));
    }
    sums
}

/// One element of a step of AdamW as PyTorch's documentation writes it: weight, m and v.
pub fn adamw(step: &toedit::ops::optimizer::AdamW, decays: bool, state: [f64; 3], gradient: f64) -> [f64; 3] {
    let [learning_rate, beta1, beta2] = [step.learning_rate, step.beta1, step.beta2].map(f64::from);
    let [mut weight, mut m, mut v] = state;
    if decays {
        weight -= learning_rate * f64::from(step.weight_decay) * weight;
    }
    m = beta1 * m + (1.0 - beta1) * gradient;
    v = beta2 * v + (1.0 - beta2) * gradient * gradient;
    let m_hat = m / (1.0 - beta1.powi(step.step as i32));
    let v_hat = v / (1.0 - beta2.powi(step.step as i32));
    [weight - learning_rate * m_hat / (v_hat.sqrt() + f64::from(step.eps)), m, v]
}
