//! A row's bits in cuBLASLt's products do not depend on its place among the rows, nor on those beside it, and products over
//! rows have the same bits every time: on the stub, and on the GPU of a machine that has one, where the library only lets
//! one hope so.

use half::bf16;
use toedit::Device;
use toedit::device::{Layout, Matrix, PRODUCT_ROWS, Queue, View};
use toedit::tensor::Element;

use crate::{gpu, with_stub};

/// Rows that gradients of weights are summed over.
const ROWS: usize = 1031;

/// Where the same row stands: in the first and other tiles of every size, and in the last wave of a GPU's work.
const PLACES: [usize; 6] = [0, 1, 127, 128, 2047, 4095];

/// N and K of products in models of 135 million to 8 billion parameters.
const SHAPES: [(usize, usize); 8] = [
    (576, 576),
    (960, 576),
    (576, 1536),
    (2304, 768),
    (6144, 2048),
    (4096, 4096),
    (28_672, 4096),
    (896, 4864),
];

/// Few columns, which is as much as a CPU multiplies in a second.
const NARROW: [(usize, usize); 3] = [(16, 576), (40, 1536), (8, 4096)];

/// Numbers as a model's, any bits of a bf16: between -1 and 1.
fn random(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        f32::from(bf16::from_f32((state >> 8) as f32 / (1 << 23) as f32 - 1.0))
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// Random rows, but for one and the same at all [`PLACES`].
fn rows(width: usize, seed: u32) -> Vec<f32> {
    let mut values = random(PRODUCT_ROWS * width, seed);
    let same = random(width, 1);
    PLACES.iter().for_each(|&place| values[place * width..][..width].copy_from_slice(&same));
    values
}

/// The same row's outputs at all places, beside two sets of other rows; false where the library does not multiply.
fn check<D: Element>(
    queue: &Queue,
    layout: Layout,
    (n, k): (usize, usize),
    [bias, accumulate]: [bool; 2],
) -> bool {
    let x = Matrix::<bf16>::new(queue, PRODUCT_ROWS, k).unwrap();
    let out = Matrix::<D>::new(queue, PRODUCT_ROWS, n).unwrap();
    let width = if layout == Layout::Nt { k } else { n };
    let weight = Matrix::<bf16>::upload(queue, width, &random(n * k, 2)).unwrap();
    let biases: Vec<D> = random(n, 3).into_iter().map(D::from_f32).collect();
    let biases = queue.upload(&biases).unwrap();
    let biases = if bias { biases.view() } else { View::none() };
    let mut found = Vec::new();
    for seed in [4, 5] {
        x.view().write(queue, &rows(k, seed)).unwrap();
        out.view().write(queue, &rows(n, seed + 2)).unwrap();
        if !queue.product(layout, x.view(), weight.view(), biases, out.view(), accumulate).unwrap() {
            return false;
        }
        found.extend(PLACES.map(|place| out.view().rows(place..place + 1).read(queue).unwrap()));
    }
    assert!(found[0].iter().all(|value| value.is_finite()));
    for (i, row) in found.iter().enumerate() {
        let place = PLACES[i % PLACES.len()];
        assert!(bits(row) == bits(&found[0]), "{layout:?}, {n} × {k}, place {place}, {bias}, {accumulate}");
    }
    true
}

/// The gradient of a weight, added twice to the same; false where the library does not multiply.
fn check_over_rows(queue: &Queue, (n, k): (usize, usize)) -> bool {
    let dy = Matrix::<bf16>::upload(queue, n, &random(ROWS * n, 6)).unwrap();
    let x = Matrix::<bf16>::upload(queue, k, &random(ROWS * k, 7)).unwrap();
    let dweight = Matrix::<f32>::new(queue, n, k).unwrap();
    let run = || {
        dweight.view().write(queue, &random(n * k, 8)).unwrap();
        let done = queue.product(Layout::Tn, dy.view(), x.view(), View::none(), dweight.view(), true);
        done.unwrap().then(|| dweight.view().read(queue).unwrap())
    };
    let [Some(once), Some(again)] = [run(), run()] else { return false };
    assert!(once.iter().all(|value| value.is_finite()));
    assert!(bits(&once) == bits(&again), "{n} × {k}");
    true
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The products that models have. The shapes of those that the library leaves to the kernels.
fn left(queue: &Queue, shapes: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let mut left = Vec::new();
    for &shape in shapes {
        let done = [
            check::<bf16>(queue, Layout::Nt, shape, [false, false]),
            check::<bf16>(queue, Layout::Nt, shape, [true, false]),
            check::<f32>(queue, Layout::Nt, shape, [false, true]),
            check::<f32>(queue, Layout::Nt, shape, [true, true]),
            check::<bf16>(queue, Layout::Nn, shape, [false, false]),
            check::<f32>(queue, Layout::Nn, shape, [false, true]),
            check_over_rows(queue, shape),
        ];
        left.extend(done.iter().filter(|done| !*done).map(|_| shape));
    }
    left
}

#[test]
fn a_rows_bits_do_not_depend_on_its_place() {
    with_stub("rows::a_rows_bits_do_not_depend_on_its_place", &[], || {
        assert_eq!(left(&gpu(), &NARROW), []);
    });
}

#[test]
fn a_rows_bits_do_not_depend_on_its_place_on_a_gpu() {
    match Queue::open(Device::Cuda(0)) {
        Ok(queue) => eprintln!("left to the kernels: {:?}", left(&queue, &SHAPES)),
        Err(error) => eprintln!("not tested on a GPU: {error}"),
    }
}
