//! Memory, copies and errors of a queue on the GPU.

use std::thread;

use toedit::device::Queue;
use toedit::{Device, Error};

use crate::{gpu, with_stub};

/// Bytes that differ from their neighbours and between pieces of any size.
fn pattern(len: usize, seed: u32) -> Vec<u32> {
    (0..len as u32).map(|i| (i ^ seed).wrapping_mul(0x9E37_79B9)).collect()
}

#[test]
fn memory_starts_on_256_bytes_and_is_given_back() {
    with_stub("queue::memory_starts_on_256_bytes_and_is_given_back", &[], || {
        let queue = gpu();
        let buffers: Vec<_> = [0, 1, 7, 4096].map(|len| queue.alloc::<u32>(len).unwrap()).into();
        assert!(buffers.iter().all(|buffer| buffer.view().address().0 % 256 == 0));
        // The stub ends the process if the context goes before all that is in it.
        drop(queue);
    });
}

#[test]
fn copies_larger_than_the_ring_arrive_whole() {
    with_stub("queue::copies_larger_than_the_ring_arrive_whole", &[], || {
        let queue = gpu();
        for len in [1, 1000, (4 << 20) / 4, (37 << 20) / 4 + 3] {
            let mut values = pattern(len, 1);
            let buffer = queue.upload(&values).unwrap();
            let expected = values.clone();
            values.fill(0);
            assert!(queue.download(buffer.view()).unwrap() == expected, "{len}");
        }
    });
}

#[test]
fn many_small_copies_reuse_the_ring_in_order() {
    with_stub("queue::many_small_copies_reuse_the_ring_in_order", &[], || {
        let queue = gpu();
        let len = (3 << 20) / 4 + 1;
        let buffers: Vec<_> = (0..20).map(|seed| queue.upload(&pattern(len, seed)).unwrap()).collect();
        for (seed, buffer) in buffers.iter().enumerate() {
            assert!(queue.download(buffer.view()).unwrap() == pattern(len, seed as u32), "{seed}");
        }
    });
}

/// The stub ends the process where ever more events are live.
#[test]
fn thousands_of_tiny_copies_hold_few_events() {
    with_stub("queue::thousands_of_tiny_copies_hold_few_events", &[], || {
        let queue = gpu();
        let buffer = queue.alloc::<u32>(3000).unwrap();
        let values = pattern(3000, 5);
        for (i, value) in values.iter().enumerate() {
            queue.write(buffer.view().slice(i..i + 1), &[*value]).unwrap();
            if i == 1000 {
                queue.synchronize().unwrap();
            }
        }
        assert!(queue.download(buffer.view()).unwrap() == values);
    });
}

#[test]
fn work_is_in_the_order_of_the_calls() {
    with_stub("queue::work_is_in_the_order_of_the_calls", &[], || {
        let queue = gpu();
        let buffer = queue.alloc::<u32>(100).unwrap();
        queue.write(buffer.view(), &pattern(100, 3)).unwrap();
        queue.fill(buffer.view().slice(10..20), 0xFF).unwrap();
        queue.write(buffer.view().slice(15..16), &[7]).unwrap();
        let mark = queue.mark().unwrap();
        let mut values = [0; 100];
        queue.read(&mark, buffer.view(), &mut values).unwrap();
        let mut expected = pattern(100, 3);
        expected[10..20].fill(u32::MAX);
        expected[15] = 7;
        assert_eq!(values[..], expected);
        queue.synchronize().unwrap();
    });
}

#[test]
fn any_thread_may_use_a_queue() {
    with_stub("queue::any_thread_may_use_a_queue", &[], || {
        let queue = gpu();
        thread::scope(|scope| {
            for seed in 0..4 {
                let queue = &queue;
                scope.spawn(move || {
                    let values = pattern(2_000_000, seed);
                    let buffer = queue.upload(&values).unwrap();
                    assert!(queue.download(buffer.view()).unwrap() == values);
                });
            }
        });
        // The last reference goes on a thread that has made no call yet.
        thread::spawn(move || drop(queue)).join().unwrap();
    });
}

#[test]
fn no_room_is_an_error_that_one_can_go_on_after() {
    let memory = ("STUB_MEMORY", "50000000");
    with_stub("queue::no_room_is_an_error_that_one_can_go_on_after", &[memory], || {
        let queue = gpu();
        let error = queue.alloc::<u8>(60_000_000).err().unwrap();
        assert!(matches!(error, Error::OutOfMemory { bytes: 60_000_000 }), "{error}");
        assert_eq!(error.exit_status(), 1);
        let values = pattern(1000, 9);
        assert!(queue.download(queue.upload(&values).unwrap().view()).unwrap() == values);
        let error = queue.alloc::<u64>(usize::MAX / 2).err().unwrap();
        assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    });
}

#[test]
fn a_lost_device_answers_every_call_with_the_first_error() {
    for (code, name) in [("700", "ILLEGAL_ADDRESS"), ("214", "ECC_UNCORRECTABLE"), ("719", "LAUNCH_FAILED")] {
        let fault = format!("2:{code}");
        let test = "queue::a_lost_device_answers_every_call_with_the_first_error";
        with_stub(test, &[("STUB_COPY", &fault), ("EXPECTED", name)], || {
            let queue = gpu();
            let buffer = queue.upload(&[1u32; 10]).unwrap();
            let first = queue.write(buffer.view(), &[2]).unwrap_err();
            assert_lost(&first);
            let errors = [
                queue.synchronize().unwrap_err(),
                queue.mark().err().unwrap(),
                queue.fill(buffer.view(), 0).unwrap_err(),
                queue.alloc::<u8>(1).err().unwrap(),
                queue.download(buffer.view()).unwrap_err(),
            ];
            assert!(errors.iter().all(|error| error.to_string() == first.to_string()), "{errors:?}");
        });
    }
}

fn assert_lost(error: &Error) {
    let expected = std::env::var("EXPECTED").unwrap();
    assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
    assert_eq!(error.exit_status(), 75);
    let text = error.to_string();
    assert!(text.starts_with("device `cuda:0`: lost: copying to the device: "), "{text}");
    assert!(text.contains(&expected) && text.contains("run again"), "{text}");
}

/// A call that fails without losing the device says which call it was, and what CUDA said.
#[test]
fn an_error_names_the_call_and_the_code() {
    with_stub("queue::an_error_names_the_call_and_the_code", &[("STUB_ALLOC", "2:801")], || {
        // The first allocation is the work memory of the products.
        let queue = gpu();
        let error = queue.alloc::<u8>(1).err().unwrap();
        let expected = "device `cuda:0`: allocating memory: CUDA_ERROR_NOT_SUPPORTED (801)";
        assert_eq!(error.to_string(), expected);
        queue.alloc::<u8>(1).unwrap();
    });
}

#[test]
fn memory_that_cannot_be_pinned_is_an_error() {
    with_stub("queue::memory_that_cannot_be_pinned_is_an_error", &[("STUB_HOST_ALLOC", "2")], || {
        let error = Queue::open(Device::Cuda(0)).unwrap_err().to_string();
        assert!(error.contains("cannot pin 16777216 bytes of host memory"), "{error}");
    });
}
