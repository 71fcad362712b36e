//! Panics: a caught one, as of a tokenizer that cannot stand its file, is told as an error by whoever catches it; any
//! other is a bug, told in one line.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::{Mutex, PoisonError};

use super::print_error;
use crate::Result;

/// What the latest panic said, and where.
static LATEST: Mutex<String> = Mutex::new(String::new());

/// Runs a command; a panic that nobody catches becomes exit status 1.
pub(super) fn catch(command: impl FnOnce() -> Result<u8>) -> Result<u8> {
    set_hook(Box::new(|panic| {
        tracing::debug!("{panic}");
        *LATEST.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string();
    }));
    catch_unwind(AssertUnwindSafe(command)).unwrap_or_else(|_| {
        let panic = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
        print_error(&format!("toedit: a bug in toedit, please report it: {panic}"));
        Ok(1)
    })
}
