//! Products by cuBLASLt's interface.

use half::bf16;
use toedit::device::{Matrix, PRODUCT_ROWS, Queue, View};
use toedit::tensor::Element;

use crate::{gpu, with_stub};

/// Columns of the inputs and of the outputs.
const K: usize = 20;
const N: usize = 10;

/// Small integers over a power of two: their products sum without rounding.
fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7 + seed) % 13) as f32 / 4.0 - 1.5).collect()
}

fn product(rows: usize, bias: bool, accumulate: bool) -> Vec<f32> {
    let (x, weight, biases) = (values(rows * K, 1), values(N * K, 2), values(N, 3));
    let element = |row: usize, column: usize| {
        let (x, weight) = (&x[row * K..][..K], &weight[column * K..][..K]);
        let sum: f32 = x.iter().zip(weight).map(|(a, b)| a * b).sum();
        sum + if bias { biases[column] } else { 0.0 } + if accumulate { 2.0 } else { 0.0 }
    };
    (0..rows).flat_map(|row| (0..N).map(move |column| (row, column))).map(|(r, c)| element(r, c)).collect()
}

/// Multiplies `rows` rows in buffers with room for `capacity`; none where the library does not.
fn multiply<T: Element, D: Element>(
    queue: &Queue,
    rows: usize,
    capacity: usize,
    options: [bool; 2],
) -> Option<Vec<f32>> {
    let [bias, accumulate] = options;
    let x = Matrix::<T>::new(queue, capacity, K).unwrap();
    let out = Matrix::<D>::new(queue, capacity, N).unwrap();
    let (x, out) = (x.first(rows), out.first(rows));
    x.write(queue, &values(rows * K, 1)).unwrap();
    out.write(queue, &vec![2.0; rows * N]).unwrap();
    let weight = Matrix::<T>::upload(queue, K, &values(N * K, 2)).unwrap();
    let biases: Vec<D> = values(N, 3).into_iter().map(D::from_f32).collect();
    let biases = queue.upload(&biases).unwrap();
    let biases = if bias { biases.view() } else { View::none() };
    queue.product(out, x, weight.view(), biases, accumulate).unwrap().then(|| out.read(queue).unwrap())
}

fn rounded<D: Element>(values: Vec<f32>) -> Vec<f32> {
    values.into_iter().map(|value| D::from_f32(value).to_f32()).collect()
}

fn check<T: Element, D: Element>(queue: &Queue) {
    for options in [[false, false], [true, false], [false, true], [true, true]] {
        for rows in [1, 5, PRODUCT_ROWS, PRODUCT_ROWS + 1] {
            let found = multiply::<T, D>(queue, rows, 2 * PRODUCT_ROWS, options).unwrap();
            let expected = rounded::<D>(product(rows, options[0], options[1]));
            assert_eq!(found, expected, "{rows} rows, {options:?}");
        }
    }
}

#[test]
fn products_are_those_of_rows() {
    with_stub("products::products_are_those_of_rows", &[], || {
        let queue = gpu();
        check::<f32, f32>(&queue);
        check::<bf16, bf16>(&queue);
        check::<bf16, f32>(&queue);
    });
}

/// Whether the library is used must depend on the buffers alone, not on the rows of a batch.
#[test]
fn buffers_without_room_for_whole_blocks_are_left_to_the_kernels() {
    with_stub("products::buffers_without_room_for_whole_blocks_are_left_to_the_kernels", &[], || {
        let queue = gpu();
        for rows in [1, PRODUCT_ROWS, PRODUCT_ROWS + 1] {
            assert_eq!(multiply::<f32, f32>(&queue, rows, PRODUCT_ROWS + 1, [false; 2]), None);
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
            assert_eq!(multiply::<bf16, bf16>(&gpu(), 3, PRODUCT_ROWS, [false; 2]), None);
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
        let error = queue.product(out.first(1), x.first(1), weight.view(), View::none(), false).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("EXECUTION_FAILED") && text.contains("TOEDIT_CUBLAS=0"), "{text}");
    });
}
