//! The command `toedit`; all of it is in [`toedit::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    let status = toedit::cli::run(std::env::args_os()).unwrap_or_else(|failure| failure.report());
    ExitCode::from(status)
}
