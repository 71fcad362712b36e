//! Model collapse and token-level editing in linear regression, where both can be computed: the ToEdit paper's theory,
//! simulated as it is written, beside the closed forms.
//!
//! # The model
//! Features x ~ N(0, I) in R^d, labels y = x·w* + ε with ε ~ N(0, σ²), T samples; the matrix X (T × d) of the features is
//! drawn once and stays. w_1 is the least-squares fit to human labels, w_n = X⁺ Ỹ_n to those of generation n, and the test
//! error ‖w_n − w*‖² is what a model loses beyond the noise of the labels. A first model's error is V = σ²d/(T−d−1) on
//! average over X. E_1 is the noise of the human labels, E_n that of generation n.
//!
//! - **Collapse**: labels are made by the model before, Ỹ_n = X w_{n−1} + E_n. The error is n·V, exactly (Dohmatob et al.,
//!   "Model collapse demystified", 2024).
//! - **Editing**: only the rows of a 0/1 mask are made anew, Ỹ_n = M_{n−1}(X w_{n−1} + E_n) + (1 − M_{n−1}) Ỹ_{n−1}. With
//!   u = Ỹ_{n−1} − X w_{n−1}, what the fit before left over, this is w_n = w_{n−1} + X⁺M_{n−1}(E_n − u).
//!
//! # What holds, and what does not
//! Theorem 1 of the paper states an error of at most 2V. Its proof works with another estimator, w* + X⁺(E_1 + Σ M_i E_{i+1}):
//! it takes M·X·X⁺·E_1 for M·E_1, which is true only where a model fits its labels without a rest, T ≤ d.
//!
//! - **The estimator** has error V(1 + Σ mᵢ), mᵢ being the masks' shares of the rows, exactly, for masks that do not depend on
//!   X. So it is at most 2V if the shares add up to at most 1, as those of disjoint masks do, and not otherwise: masks that
//!   overlap, fixed or fresh ones of constant size, exceed every bound as n grows.
//! - **The recursion as it is written** goes beyond 2V even with disjoint masks. For T ≫ d its error is
//!   V·g_n²·[1 − s + Σ_k m_k((1 − 1/g_k)² + 1/g_k²)] with s = Σ mᵢ and g_k = Π_{j≤k}(1 + m_j); in the limit of small masks
//!   V(2e^s − 1), at most 4.44 V. It still is bounded, unlike the collapse: the theorem's message holds, its constant does not.
//! - **One fixed mask** of share m, edited again and again: in the limit V(1 + 2m)/(1 − m²).
//! - **Fresh random masks**: V(1 + Σ mᵢ(2 − mᵢ)) for T ≫ d. At constant size this grows without bound, in proportion to
//!   n as the collapse does; at geometrically falling size it is bounded.
//!
//! Formulas for T ≫ d leave out terms of the order d/T: simulations with T = 100·d lie some per cent below them.
//!
//! ```
//! use toedit::theory::{Mask, Schedule, TheoryConfig, simulate};
//!
//! let schedules = vec![Schedule { mask: Mask::Disjoint, share: 0.25, ratio: 1.0 }];
//! let config = TheoryConfig { samples: 200, dimension: 2, generations: 3, repetitions: 200, schedules, ..TheoryConfig::default() };
//! let simulation = simulate(&config, || Ok(()))?;
//! let [disjoint, collapse] = &simulation.outcomes[..] else { panic!("one schedule, and the collapse beside it") };
//! assert!(collapse.recursion[2].error > disjoint.recursion[2].error);
//! assert_eq!(disjoint.estimator[2].closed_form, 1.5 * simulation.unit);
//! # Ok::<(), toedit::Error>(())
//! ```

mod closed_form;
mod least_squares;
#[cfg(feature = "cli")]
mod plot;
mod schedule;
mod simulate;

#[cfg(feature = "cli")]
pub use plot::draw;
pub use schedule::{Mask, Schedule};
pub use simulate::{Figure, Outcome, Simulation, TheoryConfig, simulate};
