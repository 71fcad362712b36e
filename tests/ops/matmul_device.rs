//! Products on devices, in every layout: against the oracle, row by row, and in their place between other columns.

use half::bf16;
use toedit::device::{BiasBuffers, Kernels, Matrix, Queue, View};
use toedit::ops::matmul::{Layout, multiply_add_on, multiply_on, product, product_add};
use toedit::tensor::Element;

use crate::common::oracle::{self, Expected};
use crate::common::{arms, samples, tolerance};

const LAYOUTS: [Layout; 3] = [Layout::Nt, Layout::Nn, Layout::Tn];
/// One less and one more than a block's side; one of several blocks, one that no vector divides.
const SIDES: [usize; 6] = [1, 66, 127, 128, 129, 200];
/// Around one and two steps of a stage, and around a whole one.
const INPUTS: [usize; 11] = [1, 15, 16, 17, 31, 32, 33, 66, 95, 97, 130];

/// `a [M, K]`, `b [N, K]` and `bias [N]`, whatever the layout on the device.
struct Case {
    layout: Layout,
    sizes: [usize; 3],
    a: Vec<f32>,
    b: Vec<f32>,
    bias: Vec<f32>,
}

impl Case {
    fn new<E: Element>(layout: Layout, sizes: [usize; 3]) -> Self {
        let [m, n, k] = sizes;
        let seed = (m * 1000 + n) as u32;
        Self {
            layout,
            sizes,
            a: samples::values::<E>(seed, m * k),
            b: samples::values::<E>(!seed, n * k),
            bias: samples::values::<f32>(seed ^ 1 << 31, n),
        }
    }

    fn a<E: Element>(&self, queue: &Queue) -> Matrix<E> {
        upload(queue, self.layout == Layout::Tn, &self.a, self.sizes[2])
    }

    fn b<E: Element>(&self, queue: &Queue) -> Matrix<E> {
        upload(queue, self.layout != Layout::Nt, &self.b, self.sizes[2])
    }

    /// The product with `bias`, added to `start`.
    fn expected(&self, bias: &[f32], start: &[f32]) -> Vec<Expected> {
        let terms = |index: usize| [bias.get(index % self.sizes[1]), start.get(index)];
        let sum = |(index, product): (usize, Expected)| {
            terms(index).into_iter().flatten().fold(product, |sum, term| Expected {
                value: sum.value + f64::from(*term),
                scale: sum.scale + f64::from(term.abs()),
            })
        };
        oracle::matmul(&self.a, &self.b, self.sizes[2]).into_iter().enumerate().map(sum).collect()
    }

    fn check<E: Kernels>(&self, queue: &Queue, with_bias: bool) {
        let Self { layout, sizes: [m, n, k], .. } = *self;
        let what = format!("{} {layout:?} {:?} bias {with_bias}", E::NAME, self.sizes);
        let (a, b) = (self.a::<E>(queue), self.b::<E>(queue));
        let bias = if with_bias { &self.bias[..] } else { &[] };
        let buffer = queue.upload(bias).unwrap();
        let bias_view = if with_bias { buffer.view() } else { View::none() };

        let out = arms::output::<E>(queue, m, n);
        multiply_on(queue, layout, a.view(), b.view(), bias_view, out.view()).unwrap();
        let limit = tolerance::stored::<E>(k, 1);
        tolerance::assert_within(&what, arms::read(queue, &out), &self.expected(bias, &[]), limit);

        let start = samples::values::<f32>(7, m * n);
        let out = arms::upload::<f32>(queue, n, &start);
        multiply_add_on(queue, layout, a.view(), b.view(), bias_view, out.view()).unwrap();
        let expected = self.expected(bias, &start);
        tolerance::assert_within(&what, arms::read(queue, &out), &expected, tolerance::sum(k));
    }
}

/// Row-major `values` or their transpose, with NaN between the rows.
fn upload<E: Element>(queue: &Queue, transposed: bool, values: &[f32], width: usize) -> Matrix<E> {
    if !transposed {
        return arms::upload(queue, width, values);
    }
    let rows = values.len() / width;
    let columns = (0..width).flat_map(|column| values.iter().skip(column).step_by(width));
    arms::upload(queue, rows, &columns.copied().collect::<Vec<_>>())
}

fn check<E: Kernels>(queue: &Queue, sizes: [usize; 3], with_bias: bool) {
    LAYOUTS.into_iter().for_each(|layout| Case::new::<E>(layout, sizes).check::<E>(queue, with_bias));
}

#[test]
fn every_shape_is_the_oracle() {
    for queue in arms::queues() {
        let sides = SIDES.into_iter().flat_map(|m| SIDES.into_iter().map(move |n| (m, n)));
        for (index, (m, n)) in sides.enumerate() {
            let sizes = [m, n, INPUTS[index % INPUTS.len()]];
            check::<f32>(&queue, sizes, index % 2 == 0);
            check::<bf16>(&queue, sizes, index % 2 == 1);
        }
    }
}

/// More rows than blocks that run side by side, the last of them few.
#[test]
fn bands_of_blocks_cover_the_output() {
    for queue in arms::queues() {
        check::<bf16>(&queue, [2100, 130, 3], true);
        check::<f32>(&queue, [3, 2100, 5], false);
    }
}

#[test]
fn long_sums_stay_within_the_limit() {
    for queue in arms::queues() {
        check::<f32>(&queue, [3, 5, 8191], false);
        check::<bf16>(&queue, [3, 5, 8191], false);
    }
}

/// A row gets the bits that it gets alone, whatever its place.
fn rows_alone<E: Kernels>(queue: &Queue, layout: Layout) {
    let case = Case::new::<E>(layout, [140, 33, 77]);
    let (a, b) = (case.a::<E>(queue), case.b::<E>(queue));
    let run = |first: usize, count: usize| {
        let out = arms::output::<E>(queue, count, 33);
        let rows = a.view().rows(first..first + count);
        multiply_on(queue, layout, rows, b.view(), View::none(), out.view()).unwrap();
        arms::read(queue, &out)
    };
    let together = run(0, 140);
    for (first, count) in [(0, 1), (17, 1), (127, 1), (128, 1), (139, 1), (5, 129), (100, 40)] {
        let name = format!("{} {layout:?} rows {first}, {count} of them", E::NAME);
        tolerance::assert_same_bits(&name, &run(first, count), &together[first * 33..][..count * 33]);
    }
}

#[test]
fn a_row_does_not_depend_on_its_place() {
    for queue in arms::queues() {
        for layout in [Layout::Nt, Layout::Nn] {
            rows_alone::<f32>(&queue, layout);
            rows_alone::<bf16>(&queue, layout);
        }
    }
}

/// The three layouts of one product have the same bits.
#[test]
fn layouts_agree_bit_for_bit() {
    fn agree<E: Kernels>(queue: &Queue) {
        let run = |layout: Layout| {
            let case = Case::new::<E>(layout, [70, 130, 100]);
            let out = arms::upload::<f32>(queue, 130, &[0.0; 70 * 130]);
            let (a, b) = (case.a::<E>(queue), case.b::<E>(queue));
            multiply_add_on(queue, layout, a.view(), b.view(), View::none(), out.view()).unwrap();
            arms::read(queue, &out)
        };
        let [nt, nn, tn] = LAYOUTS.map(run);
        tolerance::assert_same_bits("nn", &nn, &nt);
        tolerance::assert_same_bits("tn", &tn, &nt);
    }
    for queue in arms::queues() {
        agree::<f32>(&queue);
        agree::<bf16>(&queue);
    }
}

/// Operands and outputs may be some columns of wider matrices; the others are left alone.
#[test]
fn columns_of_wider_matrices() {
    for queue in arms::queues() {
        let case = Case::new::<bf16>(Layout::Nt, [5, 9, 20]);
        let wide: Vec<f32> = case.a.chunks_exact(20).flat_map(|row| [&[f32::NAN; 8], row].concat()).collect();
        let (a, b) = (arms::upload::<bf16>(&queue, 28, &wide), case.b::<bf16>(&queue));
        let out = arms::output::<bf16>(&queue, 5, 40);
        let [a, columns] = [a.view().columns(8..28), out.view().columns(16..25)];
        multiply_on(&queue, Layout::Nt, a, b.view(), View::none(), columns).unwrap();
        let found = arms::read(&queue, &out);
        let kept = found.chunks_exact(40).flat_map(|row| &row[16..25]).copied();
        tolerance::assert_within("columns", kept, &case.expected(&[], &[]), tolerance::stored::<bf16>(20, 1));
        assert!(found.chunks_exact(40).all(|row| row[..16].iter().chain(&row[25..]).all(|x| x.is_nan())));
    }
}

/// What the model calls, by whatever computes it here.
fn model_products<E: Kernels>(queue: &Queue, layout: Layout) {
    let case = Case::new::<E>(layout, [50, 72, 40]);
    let (a, b) = (case.a::<E>(queue), case.b::<E>(queue));
    let bias = BiasBuffers::upload(queue, &case.bias).unwrap();
    let out = arms::output::<E>(queue, 50, 72);
    product(queue, layout, a.view(), b.view(), Some(bias.view()), out.view()).unwrap();
    let expected = case.expected(&case.bias, &[]);
    tolerance::assert_within("product", arms::read(queue, &out), &expected, tolerance::stored::<E>(40, 2));

    let start = samples::values::<f32>(7, 50 * 72);
    let out = arms::upload::<f32>(queue, 72, &start);
    product_add(queue, layout, a.view(), b.view(), Some(bias.view()), out.view()).unwrap();
    let expected = case.expected(&case.bias, &start);
    tolerance::assert_within("sum", arms::read(queue, &out), &expected, tolerance::sum(40));
}

#[test]
fn products_of_the_model_are_the_oracle() {
    for queue in arms::queues() {
        for layout in [Layout::Nt, Layout::Nn, Layout::Tn] {
            model_products::<f32>(&queue, layout);
            model_products::<bf16>(&queue, layout);
        }
    }
}

#[test]
fn no_rows_give_nothing() {
    for queue in arms::queues() {
        let case = Case::new::<f32>(Layout::Nt, [3, 5, 7]);
        let (a, b, out) = (case.a::<f32>(&queue), case.b::<f32>(&queue), arms::output::<f32>(&queue, 3, 5));
        product(&queue, Layout::Nt, a.first(0), b.view(), None, out.first(0)).unwrap();
        assert!(arms::read(&queue, &out).iter().all(|x| x.is_nan()));
    }
}

/// Blocks of inputs and tiles of the host, and threads, change nothing.
#[test]
fn threads_change_no_bit() {
    fn runs<E: Kernels>(layout: Layout) {
        let queue = Queue::open(toedit::Device::Cpu).unwrap();
        let case = Case::new::<E>(layout, [70, 300, 777]);
        let (a, b) = (case.a::<E>(&queue), case.b::<E>(&queue));
        let run = |threads: usize| {
            let out = arms::output::<E>(&queue, 70, 300);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| multiply_on(&queue, layout, a.view(), b.view(), View::none(), out.view()))
                .unwrap();
            arms::read(&queue, &out)
        };
        let alone = run(1);
        for threads in [2, 3, 8] {
            tolerance::assert_same_bits("threads", &run(threads), &alone);
        }
    }
    LAYOUTS.into_iter().for_each(runs::<f32>);
    LAYOUTS.into_iter().for_each(runs::<bf16>);
}

/// Around the host's tiles and blocks of inputs, with outputs enough to be cut both ways.
#[test]
fn shapes_around_the_blocks_of_the_host() {
    let queue = Queue::open(toedit::Device::Cpu).unwrap();
    for (m, n) in [(95, 255), (97, 257), (513, 33), (1025, 260)] {
        for k in [255, 257, 513] {
            check::<f32>(&queue, [m, n, k], true);
            check::<bf16>(&queue, [m, n, k], false);
        }
    }
}

#[cfg(feature = "emulator")]
#[test]
#[should_panic(expected = "shapes of a product")]
fn operands_that_do_not_fit_panic() {
    let queue = Queue::emulator(toedit::device::Schedule::Ascending);
    let case = Case::new::<f32>(Layout::Nt, [3, 5, 7]);
    let (a, b, out) = (case.a::<f32>(&queue), case.b::<f32>(&queue), arms::output::<f32>(&queue, 3, 5));
    multiply_on(&queue, Layout::Nn, a.view(), b.view(), View::none(), out.view()).unwrap();
}

#[cfg(feature = "emulator")]
#[test]
#[should_panic(expected = "rows that do not start on 16 bytes")]
fn rows_across_16_bytes_panic() {
    let queue = Queue::emulator(toedit::device::Schedule::Ascending);
    let matrix = arms::upload::<f32>(&queue, 16, &[1.0; 64]);
    let odd = matrix.view().columns(2..8);
    let out = arms::output::<f32>(&queue, 4, 4);
    multiply_on(&queue, Layout::Nt, odd, odd, View::none(), out.view()).unwrap();
}
