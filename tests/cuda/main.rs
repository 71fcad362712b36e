//! The GPU's driver without a GPU: a stub of NVIDIA's libraries checks every call, runs the kernels on the emulator and
//! fails where it is asked to.

mod command;
mod libraries;
mod products;
mod queue;
mod rows;
mod training;

use std::env;
use std::process::Command;

use libraries::Libraries;
use toedit::Device;
use toedit::device::Queue;

/// Set in the processes that [`with_stub`] starts.
const CHILD: &str = "TOEDIT_STUB_CHILD";

/// What such a process says at the end of its body.
const DONE: &str = "the body is done";

/// Runs a test's body in a process of its own that finds the stub in place of the driver, with variables that ask the stub
/// for faults. `test` is the path of the calling test.
fn with_stub(test: &str, variables: &[(&str, &str)], body: impl FnOnce()) {
    if env::var_os(CHILD).is_some() {
        body();
        println!("{DONE}");
        // A test may call this several times with other variables: each process runs one of them.
        std::process::exit(0);
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(CHILD, "1").envs(variables.iter().copied());
    let output = Libraries::Stub.given_to(&mut command).output().unwrap();
    let (told, said) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success() && said.contains(DONE), "{}\n{said}\n{told}", output.status);
}

fn gpu() -> Queue {
    Queue::open(Device::Cuda(0)).unwrap()
}
