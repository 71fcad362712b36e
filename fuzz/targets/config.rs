//! A model's `config.json`.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use toedit::model::Config;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(config) = Config::from_slice(bytes, Path::new("config.json")) {
        assert!(config.hidden_size > 0 && config.vocab_size > 0 && config.context().1 > 0);
    }
});
