//! Records as one page for a browser. Nothing of a record reaches it but through the escapes of [`markup`].

mod markup;

use std::fs::File;
use std::io::{self, Seek, Write, stdout};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use self::markup::{document, escape, header};
use super::Totals;
use super::view::View;
use crate::cli::marks::{Breaks, visible};
use crate::cli::summary;
use crate::data::{Inputs, STANDARD_OUTPUT, Sink, is_dash};
use crate::{Error, Result};

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// A page in the making.
pub struct Page {
    path: PathBuf,
    overwrite: bool,
    /// The documents so far: what stands above them is known when all have been seen.
    documents: File,
    count: u64,
}

impl Page {
    /// Begins a page. Nothing appears under `path` before it is complete.
    ///
    /// # Errors
    /// The page exists and `overwrite` is false, would replace an input, or cannot be made.
    pub fn create(path: &Path, overwrite: bool, inputs: &Inputs) -> Result<Self> {
        summary::check(Some(path), inputs, None)?;
        Sink::check(path, overwrite)?;
        let documents =
            if is_dash(path) { tempfile::tempfile() } else { tempfile::tempfile_in(summary::folder(path)) };
        let documents = documents.map_err(|error| Error::io(path, error))?;
        Ok(Self { path: path.to_owned(), overwrite, documents, count: 0 })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// The system's.
    pub fn add(&mut self, view: &View) -> Result<()> {
        self.count += 1;
        let mut out = String::new();
        document(&mut out, self.count, view);
        self.documents.write_all(out.as_bytes()).map_err(|error| Error::io(&self.path, error))
    }

    /// Writes the page about the records of `source`, of which there are `more`.
    ///
    /// # Errors
    /// The system's; something has taken the name meanwhile.
    pub fn finish(mut self, source: &Path, totals: &Totals, more: bool) -> Result<()> {
        let head = head(source) + &header(source, totals, more);
        if is_dash(&self.path) {
            return self
                .write(&head, &mut stdout().lock())
                .map_err(|error| Error::io(STANDARD_OUTPUT, error));
        }
        Sink::check(&self.path, self.overwrite)?;
        let path = self.path.clone();
        summary::write_whole(&path, |file| self.write(&head, file))
    }

    fn write(&mut self, head: &str, to: &mut impl Write) -> io::Result<()> {
        to.write_all(head.as_bytes())?;
        self.documents.rewind()?;
        io::copy(&mut self.documents, to)?;
        to.write_all(FOOT.as_bytes())?;
        to.write_all(SCRIPT.as_bytes())?;
        to.write_all(b"</script>\n</body>\n</html>\n")?;
        to.flush()
    }
}

/// Between the documents and the script.
const FOOT: &str = "</main>\n\
    <nav hidden aria-label=\"documents\"><button id=\"previous\" title=\"previous (k)\">↑</button>\
    <output id=\"at\"></output><button id=\"next\" title=\"next (j)\">↓</button></nav>\n\
    <div id=\"tip\" role=\"tooltip\" hidden></div>\n<script>";

/// Up to the body: a policy that lets nothing run or load but what stands in this page.
fn head(source: &Path) -> String {
    // A title holds no elements.
    let (mut shown, mut title) = (String::new(), String::new());
    visible(&mut shown, &source.display().to_string(), Breaks::Escaped);
    escape(&mut title, &shown);
    let (style, script) = (hash(STYLE), hash(SCRIPT));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src '{style}'; \
         script-src '{script}'; require-trusted-types-for 'script'; trusted-types 'none'; base-uri 'none'; \
         form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n"
    )
}

/// The name of an inline style or script in a Content-Security-Policy.
fn hash(text: &str) -> String {
    format!("sha256-{}", base64(&Sha256::digest(text.as_bytes())))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digit = |i: usize| char::from(DIGITS[(bits >> (18 - 6 * i)) as usize & 63]);
        out.extend((0..4).map(|i| if i <= chunk.len() { digit(i) } else { '=' }));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648, section 10.
    #[test]
    fn base64_is_the_standards() {
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), expected);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn style_and_script_end_where_they_should() {
        assert!(!STYLE.contains("</") && !SCRIPT.contains("</") && !SCRIPT.contains("<!--"));
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    }
}
