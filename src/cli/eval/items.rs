//! Items of a set: a context and what may go on from it, in tokens.

use std::ops::Range;

use serde::de::DeserializeOwned;

use crate::Result;
use crate::compose::Composer;
use crate::data::Document;
use crate::evaluate::Continuation;

/// The field with the context of an item.
pub const CONTEXT: &str = "context";

/// An item beside its tokens.
pub struct Item<T> {
    continuations: Vec<Span>,
    /// Tokens of the context that did not fit: the most that a continuation has lost.
    pub cut: usize,
    /// Tokens of the context, which are counted once, and of its continuations.
    pub tokens: usize,
    /// What the test has to know.
    pub test: T,
}

/// Where the tokens of a continuation, behind its context, lie among the item's.
struct Span {
    range: Range<usize>,
    /// How many of them are the context's.
    given: usize,
}

impl<T> Item<T> {
    /// The item's continuations among its tokens.
    pub fn continuations<'a>(&self, ids: &'a [u32]) -> Vec<Continuation<'a>> {
        let of = |span: &Span| Continuation { ids: &ids[span.range.clone()], given: span.given };
        self.continuations.iter().map(of).collect()
    }

    /// How many tokens each continuation has itself.
    pub fn own_tokens(&self) -> Vec<usize> {
        self.continuations.iter().map(|span| span.range.len() - span.given).collect()
    }
}

/// Makes tokens of items.
pub struct Reader<'a> {
    pub composer: &'a Composer,
    /// Tokens that the model reads at once.
    pub max_length: usize,
}

impl Reader<'_> {
    /// Tokens of the document's context and of its named `continuations`. Those of a continuation are the tokens of both
    /// texts as one behind as many as the context by itself has. Where they do not fit, the context loses its beginning:
    /// the model reads all but the last one, which it predicts.
    ///
    /// # Errors
    /// Names the record: no context, a continuation that adds no token to it or does not fit.
    pub fn read<T>(
        &self,
        document: &Document,
        continuations: &[(String, String)],
        test: T,
    ) -> Result<(Vec<u32>, Item<T>)> {
        let missing = || document.error(format!("field `{CONTEXT}` not found"));
        let context = document.text().ok_or_else(missing)?;
        let before = self.composer.context(true);
        let given = self.composer.encode(document, context)?.len();
        let (mut all, mut item) =
            (Vec::new(), Item { continuations: Vec::new(), cut: 0, tokens: given, test });
        for (name, text) in continuations {
            let ids = self.composer.encode(document, &format!("{context}{text}"))?;
            let own = ids.len().saturating_sub(given);
            if own == 0 || own > self.max_length {
                let reason = match own {
                    0 => "no token of its own behind the context".to_owned(),
                    _ => format!("{own} tokens: the model reads {} at once", self.max_length),
                };
                return Err(document.error(format!("{name}: {reason}")));
            }
            let len = before.len() + ids.len();
            let cut = len.saturating_sub(self.max_length + 1);
            let start = all.len();
            all.extend(before.iter().chain(&ids).skip(cut));
            item.continuations.push(Span { range: start..all.len(), given: len - own - cut });
            item.cut = item.cut.max(cut);
            item.tokens += own;
        }
        Ok((all, item))
    }
}

/// The value of the record's field `name`, which is to be `what`.
///
/// # Errors
/// Names the record where there is no such field, or it is something else.
pub fn field<T: DeserializeOwned>(document: &Document, name: &str, what: &str) -> Result<T> {
    let missing = || document.error(format!("field `{name}` not found, expected {what}"));
    let raw = document.member(name)?.ok_or_else(missing)?;
    serde_json::from_str(&raw).map_err(|_| document.error(format!("field `{name}`: expected {what}")))
}
