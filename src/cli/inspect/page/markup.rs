//! The page's elements.

use std::fmt::Write;
use std::path::Path;

use crate::cli::edit::describe;
use crate::cli::inspect::Totals;
use crate::cli::inspect::view::{Round, View, probability, tokens};
use crate::cli::marks::{Breaks, Stretch};
use crate::cli::summary::counted;
use crate::edit::TokenEdit;

/// Lists with more edits than this are folded.
const OPEN_EDITS: usize = 24;

/// What stands above the documents.
pub fn header(source: &Path, totals: &Totals, more: bool) -> String {
    let mut out = String::from("<body>\n<header>\n<h1>");
    visible(&mut out, &source.display().to_string(), Breaks::Escaped);
    out += "</h1>\n";
    if more {
        let shown = grouped(totals.documents);
        let _ = writeln!(out, "<p class=\"note\">the first {shown} documents: there are more</p>");
    }
    out += "<dl>";
    let counts = &totals.counts;
    tile(&mut out, "documents", totals.documents, None);
    tile(&mut out, "with edits", totals.edited, Some(totals.documents));
    tile(&mut out, "tokens", counts.tokens, None);
    tile(&mut out, "eligible", counts.eligible, Some(counts.tokens));
    tile(&mut out, "changed", counts.changed, Some(counts.tokens));
    for (name, count) in [
        ("dropped", counts.dropped),
        ("not editable", counts.not_editable),
        ("without alternative", counts.no_alternative),
    ] {
        if count > 0 {
            tile(&mut out, name, count, Some(counts.tokens));
        }
    }
    if totals.without_provenance > 0 {
        tile(&mut out, "without provenance", totals.without_provenance, Some(totals.documents));
    }
    out += "</dl>\n<p class=\"legend\"><del>before</del><ins>after</ins> Point at an edit, or tap it, for its \
            probabilities; <kbd>j</kbd> and <kbd>k</kbd> go to the next and the previous document.</p>\n\
            </header>\n<main>\n";
    out
}

/// A number with its name, and its share of `all`.
fn tile(out: &mut String, name: &str, count: u64, all: Option<u64>) {
    let _ = write!(out, "<div><dt>{name}</dt><dd>{}", grouped(count));
    if let Some(all) = all.filter(|&all| all > 0) {
        let _ = write!(out, " <small>{:.1} %</small>", 100.0 * count as f64 / all as f64);
    }
    *out += "</dd></div>";
}

/// In groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A record, the `number`th of the page.
pub fn document(out: &mut String, number: u64, view: &View) {
    let _ = write!(out, "<article id=\"d{number}\">\n<h2><a href=\"#d{number}\">{number}</a> <span>");
    visible(out, view.id.as_ref().unwrap_or(&view.place), Breaks::Escaped);
    *out += "</span></h2>\n<p class=\"counts\">";
    if view.id.is_some() {
        visible(out, &view.place, Breaks::Escaped);
    }
    if let Some(counts) = &view.counts {
        let dot = if view.id.is_some() { " · " } else { "" };
        let _ = write!(out, "{dot}{}{}", counted(counts.tokens, "token"), describe(counts));
    }
    *out += "</p>\n";
    if let Some(gap) = view.gap {
        *out += "<p class=\"note\">";
        escape(out, gap);
        *out += "</p>\n";
    }
    let mut first = 1;
    for (place, round) in view.rounds.iter().enumerate() {
        if view.is_numbered {
            let _ = writeln!(out, "<h3>generation {}</h3>", round.generation);
        }
        let names = Names { document: number, first };
        text(out, names, &round.stretches);
        edits(out, names, round, place == 0);
        first += round.edits.len();
    }
    *out += "</article>\n";
}

/// What the edits of a generation are called in the page.
#[derive(Clone, Copy)]
struct Names {
    document: u64,
    /// The first edit's number in the document.
    first: usize,
}

impl Names {
    /// The name of the generation's `edit`th one, from 0.
    fn of(self, edit: usize) -> String {
        format!("d{}e{}", self.document, self.first + edit)
    }
}

/// The text with its edits, each a link to its line below.
fn text(out: &mut String, names: Names, stretches: &[Stretch]) {
    *out += "<div class=\"text\" dir=\"auto\">";
    for stretch in stretches {
        match stretch {
            Stretch::Kept(text) => visible(out, text, Breaks::Kept),
            Stretch::Changed { old, new, edits } => {
                let _ = write!(out, "<a href=\"#{}\" data-edits=\"{}\">", names.of(edits.start), edits.len());
                element(out, "del", old);
                element(out, "ins", new);
                *out += "</a>";
            }
        }
    }
    *out += "</div>\n";
}

fn element(out: &mut String, name: &str, text: &str) {
    if !text.is_empty() {
        let _ = write!(out, "<{name}>");
        visible(out, text, Breaks::Escaped);
        let _ = write!(out, "</{name}>");
    }
}

/// A line for each edit.
fn edits(out: &mut String, names: Names, round: &Round, is_last: bool) {
    if round.edits.is_empty() {
        return;
    }
    let open = if is_last && round.edits.len() <= OPEN_EDITS { " open" } else { "" };
    let count = counted(round.edits.len() as u64, "edit");
    let _ = write!(
        out,
        "<details{open}><summary>{count}</summary>\n<table><thead><tr><th>position</th><th>p old</th>\
         <th>p new</th><th>old → new</th></tr></thead>\n<tbody>\n"
    );
    for (number, edit) in round.edits.iter().enumerate() {
        row(out, &names.of(number), edit);
    }
    *out += "</tbody></table></details>\n";
}

fn row(out: &mut String, name: &str, edit: &TokenEdit) {
    let (position, p_old) = (edit.position, probability(edit.p_old));
    let p_new = edit.p_new.map_or("–".into(), probability);
    let _ = write!(out, "<tr id=\"{name}\"><td>{position}</td><td>{p_old}</td><td>{p_new}</td><td><del>");
    let (old, new) = tokens(edit);
    escape(out, &old);
    *out += "</del> ";
    match new {
        Some(new) => {
            *out += "→ <ins>";
            escape(out, &new);
            *out += "</ins>";
        }
        None => *out += "dropped",
    }
    *out += "</td></tr>\n";
}

/// Appends text with what is hidden in it made visible.
fn visible(out: &mut String, text: &str, breaks: Breaks) {
    for c in text.chars() {
        if breaks.escapes(c) {
            let _ = write!(out, "<i>{}</i>", c.escape_default());
        } else {
            escape_char(out, c);
        }
    }
}

/// Appends text that cannot be markup, in an element or in a quoted attribute.
pub fn escape(out: &mut String, text: &str) {
    text.chars().for_each(|c| escape_char(out, c));
}

fn escape_char(out: &mut String, c: char) {
    match c {
        '&' => *out += "&amp;",
        '<' => *out += "&lt;",
        '>' => *out += "&gt;",
        '"' => *out += "&quot;",
        '\'' => *out += "&#39;",
        _ => out.push(c),
    }
}
