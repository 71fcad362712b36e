//! The parts of editing that need no model: statistics, rules, settings, windows, draws, splicing, provenance.

mod editing {
    mod config;
    mod draw;
    mod oracle;
    mod provenance;
    mod rules;
    mod splice;
    mod statistics;
    mod windows;
}
