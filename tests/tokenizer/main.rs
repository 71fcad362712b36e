//! Tokenizers: byte tables, the UTF-8 automaton, alignment, and files that are not what they claim to be.

mod alignment;
mod chat;
mod common;
mod kinds;
mod malformed;
mod stream;
mod utf8;
