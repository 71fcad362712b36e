//! The arms that every op's test runs on, and what it needs to run on a device.

use std::fmt;

use toedit::Device;
use toedit::device::{Kernels, Matrix, Queue, Rows};
use toedit::tensor::Element;

/// One implementation of the ops.
#[derive(Clone)]
pub enum Arm {
    /// The loops that scoring runs.
    Cpu,
    /// A device: the host, a GPU or the emulator.
    Device(Queue),
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Device(queue) => fmt::Display::fmt(&queue.device(), f),
        }
    }
}

/// An element type that every arm has.
pub trait Scalar: Kernels {}
impl<E: Kernels> Scalar for E {}

/// The CPU and all devices with kernels.
pub fn all() -> Vec<Arm> {
    std::iter::once(Arm::Cpu).chain(devices().into_iter().map(Arm::Device)).collect()
}

/// The same and the host, for ops that have loops there.
pub fn with_host() -> Vec<Arm> {
    std::iter::once(Arm::Cpu).chain(queues().into_iter().map(Arm::Device)).collect()
}

/// The host, and all devices with kernels.
pub fn queues() -> Vec<Queue> {
    std::iter::once(Queue::open(Device::Cpu).unwrap()).chain(devices()).collect()
}

/// The emulator, each launch in both orders of its threads, and the GPU of a machine that has one.
pub fn devices() -> Vec<Queue> {
    #[cfg_attr(not(feature = "cuda"), allow(unused_mut))]
    let mut queues = Vec::from([
        #[cfg(feature = "emulator")]
        Queue::emulator(toedit::device::Schedule::Both),
    ]);
    #[cfg(feature = "cuda")]
    queues.extend(gpu());
    queues
}

/// The GPU, opened once.
#[cfg(feature = "cuda")]
fn gpu() -> Option<Queue> {
    static GPU: std::sync::OnceLock<Option<Queue>> = std::sync::OnceLock::new();
    let open = || match Queue::open(Device::Cuda(0)) {
        Ok(queue) => Some(queue),
        Err(error) => {
            eprintln!("not tested on a GPU: {error}");
            None
        }
    };
    GPU.get_or_init(open).clone()
}

/// A matrix of row-major `values`, with NaN between its rows.
pub fn upload<E: Element>(queue: &Queue, width: usize, values: &[f32]) -> Matrix<E> {
    let matrix = Matrix::new(queue, values.len() / width, width).unwrap();
    queue.write(matrix.view().data, &padded::<E>(width, values)).unwrap();
    matrix
}

/// Rows as they lie in a device's memory, with NaN between them.
pub fn padded<E: Element>(width: usize, values: &[f32]) -> Vec<E> {
    let stride = toedit::device::stride(width);
    let mut padded = vec![E::from_f32(f32::NAN); values.len() / width * stride];
    for (row, values) in padded.chunks_exact_mut(stride).zip(values.chunks_exact(width)) {
        row.iter_mut().zip(values).for_each(|(to, from)| *to = E::from_f32(*from));
    }
    padded
}

/// A matrix of NaN.
pub fn output<E: Element>(queue: &Queue, rows: usize, width: usize) -> Matrix<E> {
    let matrix = Matrix::new(queue, rows, width).unwrap();
    queue.fill(matrix.view().data, 0xFF).unwrap();
    matrix
}

/// The values of a matrix, row-major; fails where something was written between its rows.
pub fn read<E: Element>(queue: &Queue, matrix: &Matrix<E>) -> Vec<f32> {
    let Rows { data, width, stride, .. } = matrix.view();
    let padded = queue.download(data).unwrap();
    let gaps = padded.chunks_exact(stride).flat_map(|row| &row[width..]);
    assert!(gaps.map(|x| x.to_f32()).all(f32::is_nan), "written between rows");
    padded.chunks_exact(stride).flat_map(|row| &row[..width]).map(|x| x.to_f32()).collect()
}
