//! Where the library's events go: standard error, warnings and above unless `RUST_LOG` says otherwise.

use std::io::stderr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::args::{CommonArgs, LogFormat};
use super::progress::colour;

/// Installs the subscriber of the process, unless it has one.
pub(super) fn install(args: &CommonArgs) {
    let level = if args.quiet { LevelFilter::ERROR } else { LevelFilter::WARN };
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour(&stderr())).with_writer(stderr);
    // The only error is that there is one already.
    let _ = match args.log_format {
        LogFormat::Text => builder.without_time().with_target(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
