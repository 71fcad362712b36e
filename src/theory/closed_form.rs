//! Test errors as formulas, in units of a first model's error.

use super::schedule::Mask;

/// The error of the estimator that the paper's proof bounds, after each of the masks with these shares: 1 + Σ mᵢ.
pub(super) fn estimator(shares: &[f64]) -> Vec<f64> {
    sums(shares.iter().copied())
}

/// The error of the recursion itself after each mask, for T ≫ d; exact where all rows are edited.
pub(super) fn recursion(mask: Mask, shares: &[f64]) -> Vec<f64> {
    match mask {
        Mask::Disjoint => disjoint(shares),
        Mask::Random | Mask::Geometric => sums(shares.iter().map(|share| share * (2.0 - share))),
        Mask::Fixed => fixed(shares),
        Mask::All => sums(shares.iter().copied()),
    }
}

/// 1, and 1 plus the sum of the first `terms`, for each of them.
fn sums(terms: impl Iterator<Item = f64>) -> Vec<f64> {
    let sum = |sum: &mut f64, term: f64| {
        *sum += term;
        Some(*sum)
    };
    std::iter::once(1.0).chain(terms.scan(1.0, sum)).collect()
}

/// g_n²·[1 − s + Σ_k m_k((1 − 1/g_k)² + 1/g_k²)]: rows never edited, and those of mask k with their first noise and with the
/// new one.
fn disjoint(shares: &[f64]) -> Vec<f64> {
    let (mut growth, mut sum) = (1.0, 1.0);
    let after = |share: &f64| {
        growth *= 1.0 + share;
        let inverse: f64 = 1.0 / growth;
        sum += share * ((1.0 - inverse).powi(2) + inverse.powi(2) - 1.0);
        growth * growth * sum
    };
    std::iter::once(1.0).chain(shares.iter().map(after)).collect()
}

/// (1 − m)(Σ_{j≤n} mʲ)² + m·Σ_{j≤n} m²ʲ after n edits of the same rows: those left alone count again each time, by what the
/// model before took from them; the edited ones have noise of all generations. Tends to (1 + 2m)/(1 − m²).
fn fixed(shares: &[f64]) -> Vec<f64> {
    let (mut plain, mut squared) = (0.0, 0.0);
    let share = shares.first().copied().unwrap_or_default();
    let after = |edits: usize| {
        let power = share.powi(edits as i32);
        plain += power;
        squared += power * power;
        (1.0 - share) * plain * plain + share * squared
    };
    (0..=shares.len()).map(after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(values: Vec<f64>) -> f64 {
        *values.last().unwrap()
    }

    #[test]
    fn figures_of_the_design_and_limits() {
        let ten = last(recursion(Mask::Disjoint, &[0.1; 10]));
        assert!((ten - 3.91).abs() < 0.005, "{ten}");
        // Small steps: 2e^s − 1.
        for steps in [10_000, 100_000] {
            let small = last(recursion(Mask::Disjoint, &vec![1.0 / f64::from(steps); steps as usize]));
            assert!((small - (2.0 * 1f64.exp() - 1.0)).abs() < 10.0 / f64::from(steps), "{small}");
        }
        for share in [0.1, 0.5, 0.9] {
            let limit = (1.0 + 2.0 * share) / (1.0 - share * share);
            assert!((last(recursion(Mask::Fixed, &[share; 400])) - limit).abs() < 1e-9);
        }
    }

    #[test]
    fn all_formulas_agree_where_they_meet() {
        // Nothing edited; everything edited.
        for mask in Mask::ALL {
            assert_eq!(recursion(mask, &[]), [1.0]);
            assert!(recursion(mask, &[0.0; 3]).iter().all(|error| (error - 1.0).abs() < 1e-15));
        }
        for mask in [Mask::Random, Mask::Fixed, Mask::All] {
            assert_eq!(recursion(mask, &[1.0; 3]), [1.0, 2.0, 3.0, 4.0], "{mask}");
        }
        // The first edit does not know what comes after it.
        for share in [0.05, 0.3, 1.0] {
            let first = [Mask::Disjoint, Mask::Random, Mask::Fixed].map(|mask| recursion(mask, &[share])[1]);
            assert!(first.iter().all(|error| (error - first[0]).abs() < 1e-12), "{first:?}");
        }
        assert_eq!(estimator(&[0.5, 0.25]), [1.0, 1.5, 1.75]);
    }
}
