//! Lower case and words, as Python's `str.lower` and the regular expression `\w+|[^\w\s]+` have them.

use std::sync::OnceLock;

use regex_syntax::hir::{Class, HirKind};

/// What a character can be part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Python's `\s`.
    Space,
    /// Python's `\w`.
    Word,
    /// All others, such as punctuation, symbols and marks.
    Other,
}

/// The words of a text: it is taken in lower case, runs of letters, numbers and underscores are words, and runs of all else
/// but white space too.
///
/// ```
/// assert_eq!(toedit::analysis::words("Don't STOP..."), ["don", "'", "t", "stop", "..."]);
/// ```
pub fn words(text: &str) -> Vec<String> {
    let mut lower = String::new();
    push_lower(text, &mut lower);
    split(&lower).map(str::to_owned).collect()
}

/// Appends `text` in lower case to `lower`.
pub(super) fn push_lower(text: &str, lower: &mut String) {
    if text.contains('Σ') {
        // The one letter whose lower case depends on what stands around it.
        lower.push_str(&text.to_lowercase());
        return;
    }
    let mut rest = text;
    while !rest.is_empty() {
        let ascii = rest.bytes().position(|byte| !byte.is_ascii()).unwrap_or(rest.len());
        let (run, after) = rest.split_at(ascii);
        let start = lower.len();
        lower.push_str(run);
        lower[start..].make_ascii_lowercase();
        let mut others = after.chars();
        lower.extend(others.next().into_iter().flat_map(char::to_lowercase));
        rest = others.as_str();
    }
}

/// The words of a text in lower case, and the runs of other characters between them.
pub(super) fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = &rest[run(rest, Kind::Space)..];
        let kind = kind(rest.chars().next()?);
        let (word, after) = rest.split_at(run(rest, kind));
        rest = after;
        Some(word)
    })
}

/// Bytes of the characters of this kind that `text` begins with.
fn run(text: &str, wanted: Kind) -> usize {
    let bytes = text.as_bytes();
    let mut end = 0;
    while let Some(&byte) = bytes.get(end) {
        let (kind, len) = if byte.is_ascii() {
            (ASCII[usize::from(byte)], 1)
        } else {
            let Some(character) = text[end..].chars().next() else { break };
            (kind(character), character.len_utf8())
        };
        if kind != wanted {
            break;
        }
        end += len;
    }
    end
}

static ASCII: [Kind; 128] = {
    let mut kinds = [Kind::Other; 128];
    let mut byte = 0;
    while byte < 128 {
        let character = byte as u8;
        if character.is_ascii_alphanumeric() || character == b'_' {
            kinds[byte] = Kind::Word;
        } else if matches!(character, 0x09..=0x0d | 0x1c..=0x20) {
            kinds[byte] = Kind::Space;
        }
        byte += 1;
    }
    kinds
};

fn kind(character: char) -> Kind {
    let code = character as usize;
    if let Some(kind) = ASCII.get(code) {
        return *kind;
    }
    match word_characters()[code / 64] >> (code % 64) & 1 {
        1 => Kind::Word,
        _ if character.is_whitespace() => Kind::Space,
        _ => Kind::Other,
    }
}

/// A bit for each code point: letters, numbers and the underscore. The standard library's `is_alphanumeric` would count
/// marks and symbols that are alphabetic in Unicode's wider sense, which Python's `\w` does not.
fn word_characters() -> &'static [u64] {
    static BITS: OnceLock<Vec<u64>> = OnceLock::new();
    BITS.get_or_init(|| {
        let mut bits = vec![0u64; (char::MAX as usize + 1).div_ceil(64)];
        let class = regex_syntax::parse(r"[\p{L}\p{N}_]").expect("a valid expression");
        if let HirKind::Class(Class::Unicode(class)) = class.kind() {
            for code in class.iter().flat_map(|range| range.start() as usize..=range.end() as usize) {
                bits[code / 64] |= 1 << (code % 64);
            }
        }
        bits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_what_stands_between() {
        assert_eq!(words("Don't  STOP... me_2 now!?"), ["don", "'", "t", "stop", "...", "me_2", "now", "!?"]);
        assert_eq!(words("e\u{301}tude x\u{1c}y"), ["e", "\u{301}", "tude", "x", "y"]);
        // A full stop does not end a word here: the Σ before it is none at the end.
        assert_eq!(words("ΟΔΟΣ Σ ΑΣ.Β ②Ⅷ Ⓐ"), ["οδος", "σ", "ασ", ".", "β", "②ⅷ", "ⓐ"]);
        assert_eq!(words(" \u{3000}\u{85} "), [""; 0]);
        assert_eq!(words("İI"), ["i", "\u{307}", "i"]);
    }

    #[test]
    fn lower_case_is_the_standard_librarys() {
        for text in ["", "A", "É", "aÉB", "ÉÉÀ \u{1F600} Z", "ΣΑΣ", "ẞ", "Ǆ", "K\u{212a}"] {
            let mut lower = "x".to_owned();
            push_lower(text, &mut lower);
            assert_eq!(lower, format!("x{}", text.to_lowercase()));
        }
    }
}
