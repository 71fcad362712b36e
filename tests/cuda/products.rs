//! Products by cuBLASLt's interface.

use half::bf16;
use toedit::device::{Layout, Matrix, PRODUCT_ROWS, Queue, Rows, View};
use toedit::tensor::Element;

use crate::{gpu, with_stub};

/// What is summed over, and columns of the outputs.
const K: usize = 20;
const N: usize = 10;
/// What sums add to.
const START: f32 = 2.0;

/// Small integers over a power of two: their products sum without rounding.
fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7 + seed) % 13) as f32 / 4.0 - 1.5).collect()
}

/// `D [rows, N]`, the operands in buffers with room for `capacity` rows of what a batch has rows of.
#[derive(Clone, Copy, Debug)]
struct Case {
    layout: Layout,
    rows: usize,
    capacity: usize,
    bias: bool,
    accumulate: bool,
}

impl Case {
    fn new(layout: Layout, rows: usize, capacity: usize) -> Self {
        Self { layout, rows, capacity, bias: false, accumulate: false }
    }

    fn expected(&self) -> Vec<f32> {
        let (a, b, biases) = (values(self.rows * K, 1), values(N * K, 2), values(N, 3));
        let element = |(row, column): (usize, usize)| {
            let (a, b) = (&a[row * K..][..K], &b[column * K..][..K]);
            let sum: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
            sum + if self.bias { biases[column] } else { 0.0 } + if self.accumulate { START } else { 0.0 }
        };
        (0..self.rows).flat_map(|row| (0..N).map(move |column| (row, column))).map(element).collect()
    }

    /// The outputs; none where the library does not multiply.
    fn run<T: Element, D: Element>(&self, queue: &Queue) -> Option<Vec<f32>> {
        let Self { layout, rows, capacity, .. } = *self;
        let (a, b) = (values(rows * K, 1), values(N * K, 2));
        let over_rows = layout == Layout::Tn;
        let [a_rows, b_rows] = if over_rows { [capacity; 2] } else { [capacity, 0] };
        let a = Operand::<T>::new(queue, &a, over_rows, a_rows);
        let b = Operand::<T>::new(queue, &b, layout != Layout::Nt, b_rows);
        let out = Matrix::<D>::new(queue, if over_rows { rows + 1 } else { capacity }, N).unwrap();
        out.view().write(queue, &vec![START; out.view().rows * N]).unwrap();
        let biases: Vec<D> = values(N, 3).into_iter().map(D::from_f32).collect();
        let biases = queue.upload(&biases).unwrap();
        let biases = if self.bias { biases.view() } else { View::none() };
        let done = queue.product(layout, a.view(), b.view(), biases, out.first(rows), self.accumulate);
        let found = done.unwrap().then(|| out.view().read(queue).unwrap())?;
        assert!(!over_rows || found[rows * N..].iter().all(|value| *value == START), "rows behind the last");
        Some(found[..rows * N].to_vec())
    }
}

/// Rows in a buffer of more, all of them NaN.
struct Operand<T> {
    matrix: Matrix<T>,
    rows: usize,
}

impl<T: Element> Operand<T> {
    /// Row-major `values` in rows of [`K`], or their transpose.
    fn new(queue: &Queue, values: &[f32], transposed: bool, capacity: usize) -> Self {
        let (rows, width) = if transposed { (K, values.len() / K) } else { (values.len() / K, K) };
        let matrix = Matrix::new(queue, capacity.max(rows), width).unwrap();
        matrix.view().write(queue, &vec![f32::NAN; matrix.view().rows * width]).unwrap();
        let columns = (0..K).flat_map(|column| values.iter().skip(column).step_by(K).copied());
        let values = if transposed { columns.collect() } else { values.to_vec() };
        matrix.first(rows).write(queue, &values).unwrap();
        Self { matrix, rows }
    }

    fn view(&self) -> Rows<'_, T> {
        self.matrix.first(self.rows)
    }
}

fn rounded<D: Element>(values: Vec<f32>) -> Vec<f32> {
    values.into_iter().map(|value| D::from_f32(value).to_f32()).collect()
}

fn check<T: Element, D: Element>(queue: &Queue, case: Case) {
    for (bias, accumulate) in [(false, false), (true, false), (false, true), (true, true)] {
        let case = Case { bias, accumulate, ..case };
        assert_eq!(case.run::<T, D>(queue).unwrap(), rounded::<D>(case.expected()), "{case:?}");
    }
}

fn check_types(queue: &Queue, case: Case) {
    check::<f32, f32>(queue, case);
    check::<bf16, bf16>(queue, case);
    check::<bf16, f32>(queue, case);
}

#[test]
fn products_are_those_of_rows() {
    with_stub("products::products_are_those_of_rows", &[], || {
        let queue = gpu();
        for layout in [Layout::Nt, Layout::Nn] {
            for rows in [1, 5, PRODUCT_ROWS, PRODUCT_ROWS + 1] {
                check_types(&queue, Case::new(layout, rows, 2 * PRODUCT_ROWS));
            }
        }
    });
}

/// What lies behind the rows of a batch is neither summed nor overwritten, however much room there is.
#[test]
fn products_over_rows_are_exact() {
    with_stub("products::products_over_rows_are_exact", &[], || {
        let queue = gpu();
        for (rows, capacity) in [(1, 0), (5, K + 1), (130, 64), (PRODUCT_ROWS + 1, 0)] {
            check_types(&queue, Case::new(Layout::Tn, rows, capacity));
        }
    });
}

/// More shapes than plans are kept for.
#[test]
fn any_number_of_shapes_can_be_planned() {
    with_stub("products::any_number_of_shapes_can_be_planned", &[], || {
        let queue = gpu();
        for rows in (1..1100).chain(1..3) {
            let case = Case::new(Layout::Tn, rows, 0);
            assert_eq!(case.run::<f32, f32>(&queue).unwrap(), case.expected(), "{rows} rows");
        }
    });
}

#[test]
fn nothing_to_sum_is_left_to_the_kernels() {
    with_stub("products::nothing_to_sum_is_left_to_the_kernels", &[], || {
        let queue = gpu();
        let matrix = Matrix::<f32>::upload(&queue, 8, &[1.0; 64]).unwrap();
        let (none, out) = (matrix.first(0), Matrix::<f32>::new(&queue, 8, 8).unwrap());
        assert!(!queue.product(Layout::Tn, none, none, View::none(), out.view(), true).unwrap());
    });
}

/// Whether the library is used must depend on the buffers alone, not on the rows of a batch.
#[test]
fn buffers_without_room_for_whole_blocks_are_left_to_the_kernels() {
    with_stub("products::buffers_without_room_for_whole_blocks_are_left_to_the_kernels", &[], || {
        let queue = gpu();
        for layout in [Layout::Nt, Layout::Nn] {
            for rows in [1, PRODUCT_ROWS, PRODUCT_ROWS + 1] {
                assert_eq!(Case::new(layout, rows, PRODUCT_ROWS + 1).run::<f32, f32>(&queue), None);
            }
        }
    });
}

#[test]
fn a_library_without_a_sound_algorithm_is_not_used() {
    let test = "products::a_library_without_a_sound_algorithm_is_not_used";
    for variable in [
        ("STUB_CUBLASLT_ONLY_SPLIT", "1"),
        ("STUB_CUBLASLT", "110803"),
        ("TOEDIT_CUBLAS", "0"),
        ("STUB_CUBLASLT_CREATE", "1"),
        // Less than its workspace.
        ("STUB_MEMORY", "30000000"),
        ("STUB_HEURISTIC", "15"),
        ("STUB_HEURISTIC", "3"),
        ("STUB_HEURISTIC", "14"),
    ] {
        with_stub(test, &[variable], || {
            assert_eq!(Case::new(Layout::Nt, 3, PRODUCT_ROWS).run::<bf16, bf16>(&gpu()), None);
        });
    }
}

#[test]
fn a_failing_library_is_an_error_that_says_how_to_do_without() {
    let test = "products::a_failing_library_is_an_error_that_says_how_to_do_without";
    with_stub(test, &[("STUB_MATMUL", "13")], || {
        let queue = gpu();
        let x = Matrix::<f32>::new(&queue, PRODUCT_ROWS, K).unwrap();
        let weight = Matrix::<f32>::new(&queue, N, K).unwrap();
        let out = Matrix::<f32>::new(&queue, PRODUCT_ROWS, N).unwrap();
        let (x, out) = (x.first(1), out.first(1));
        let product = queue.product(Layout::Nt, x, weight.view(), View::none(), out, false);
        let error = product.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("EXECUTION_FAILED") && text.contains("TOEDIT_CUBLAS=0"), "{text}");
    });
}
