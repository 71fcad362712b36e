//! Plain f64 computations that the library is compared with, written independently of it.

use toedit::score::Statistics;

/// The statistics of a row, summed in f64 and rounded once.
pub fn statistics(logits: &[f32], target: u32) -> Statistics {
    let others =
        || logits.iter().enumerate().filter(|(id, _)| *id != target as usize).map(|(_, &logit)| logit);
    let max = others().fold(f32::NEG_INFINITY, f32::max);
    let rest: f64 = others().map(|logit| (f64::from(logit) - f64::from(max)).exp()).sum();
    Statistics { target: logits[target as usize], max, rest: rest as f32 }
}

/// softmax(l / temperature) over the ids for which `candidate` holds; 0 elsewhere.
pub fn softmax(logits: &[f32], temperature: f64, candidate: impl Fn(u32) -> bool) -> Vec<f64> {
    let of = |id: usize| candidate(id as u32).then(|| f64::from(logits[id]));
    let largest = (0..logits.len()).filter_map(of).fold(f64::NEG_INFINITY, f64::max);
    let weight = |id| of(id).map_or(0.0, |logit| ((logit - largest) / temperature).exp());
    let weights: Vec<f64> = (0..logits.len()).map(weight).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| if total > 0.0 { weight / total } else { 0.0 }).collect()
}

/// All ids by logit descending, id ascending.
pub fn order(logits: &[f32]) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    ids.sort_by(|&a, &b| logits[b as usize].partial_cmp(&logits[a as usize]).unwrap().then(a.cmp(&b)));
    ids
}
