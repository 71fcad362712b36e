//! Editing: its parts alone, and the whole of it with models and texts.

#[path = "../common/mod.rs"]
mod common;

mod cache;
mod config;
mod documents;
mod draw;
mod ids;
mod oracle;
mod properties;
mod provenance;
mod records;
mod rules;
mod sample;
mod scopes;
mod sharp;
mod splice;
mod statistics;
mod text;
mod threads;
mod vocabulary;
mod windows;
