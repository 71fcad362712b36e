//! SIGINT and SIGTERM: the first asks the run to stop, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::{Error, Result};

/// Tells a run whether it was asked to stop. Clones share what they know.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    /// The signal's number, 0 for none.
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Takes over both signals for the rest of the process.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses.
    pub fn install() -> Result<Self> {
        let interrupt = Self::default();
        let armed = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            interrupt.watch(signal, &armed).map_err(|source| Error::io("signal handler", source))?;
        }
        Ok(interrupt)
    }

    /// Actions run in the order of their registration, so the first signal finds the shutdown not yet armed.
    fn watch(&self, signal: i32, armed: &Arc<AtomicBool>) -> std::io::Result<()> {
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(armed))?;
        flag::register_usize(signal, Arc::clone(&self.signal), signal as usize)?;
        flag::register(signal, Arc::clone(armed))?;
        Ok(())
    }

    /// Where the signal's number appears, 0 until then.
    pub fn flag(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.signal)
    }

    /// The signal that asked the run to stop, if one did. Cheap enough for every batch.
    pub fn requested(&self) -> Option<i32> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            signal => i32::try_from(signal).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use signal_hook::low_level::raise;

    use super::*;

    /// Signals end or mark the whole process, so each case runs in one of its own: this test, started again.
    const CASE: &str = "TOEDIT_TEST_SIGNALS";

    #[test]
    fn the_first_signal_is_told_and_the_second_ends_the_process() {
        if let Ok(case) = std::env::var(CASE) {
            return raise_in_turn(&case);
        }
        for (case, status) in [("2", 0), ("15", 0), ("2 2", 130), ("15 15", 143), ("2 15", 143)] {
            let name = "cli::signals::tests::the_first_signal_is_told_and_the_second_ends_the_process";
            let mut command = Command::new(std::env::current_exe().unwrap());
            let output = command.args(["--exact", name]).env(CASE, case).output().unwrap();
            assert_eq!(output.status.code(), Some(status), "{case}");
        }
    }

    fn raise_in_turn(signals: &str) {
        let interrupt = Interrupt::install().unwrap();
        assert_eq!(interrupt.requested(), None);
        for signal in signals.split(' ').map(|number| number.parse().unwrap()) {
            raise(signal).unwrap();
            assert_eq!(interrupt.clone().requested(), Some(signal));
        }
    }
}
