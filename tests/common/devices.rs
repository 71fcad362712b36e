//! The devices that tests of whole models run on.

use std::path::Path;

use toedit::model::LoadConfig;
use toedit::{Device, Dtype, Model};

/// The CPU, the emulator where it is built in, and a GPU where there is one.
pub fn devices() -> Vec<Device> {
    let mut devices = vec![Device::Cpu];
    if Device::BUILT_IN.contains(&Device::Emulator) {
        devices.push(Device::Emulator);
    }
    match Device::auto() {
        Device::Cpu => {}
        gpu => devices.push(gpu),
    }
    devices
}

/// Every case on every device.
pub fn on_every_device<T: Copy>(cases: &[T]) -> Vec<(T, Device)> {
    cases.iter().flat_map(|case| devices().into_iter().map(|device| (*case, device))).collect()
}

pub fn load(folder: &Path, dtype: Dtype, device: Device) -> Model {
    Model::load_with(folder, LoadConfig { dtype, device, mmap: false }).unwrap()
}
