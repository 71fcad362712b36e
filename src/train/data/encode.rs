//! One document to its token ids, and which of them carry loss.

use std::ops::Range;
use std::slice;

use super::vocabulary::Vocabulary;
use crate::compose::Bos;
use crate::data::{Content, Document};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Turns documents into tokens. Shared by threads.
#[derive(Clone, Debug)]
pub struct Encoder<'a> {
    /// Of the model.
    pub(super) vocabulary: &'a Vocabulary,
    /// What documents begin with. Conversations begin as their template says.
    pub(super) bos: Bos,
    /// The field with the prompt of records whose text is a response to it.
    pub(super) prompt_field: Option<String>,
}

/// The tokens of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Their ids.
    pub ids: Vec<u32>,
    /// Runs of tokens that carry loss, ascending and apart; `None` where all do.
    pub loss: Option<Vec<Range<usize>>>,
}

impl<'a> Encoder<'a> {
    /// An encoder.
    ///
    /// # Errors
    /// [`Error::Usage`] where [`Bos::Always`] is asked for and the configuration has none.
    pub fn new(vocabulary: &'a Vocabulary, bos: Bos, prompt_field: Option<String>) -> Result<Self> {
        if bos == Bos::Always && vocabulary.bos.is_none() {
            let name = &vocabulary.name;
            return Err(Error::Usage(format!("{name} has no bos_token_id, which --bos always needs")));
        }
        Ok(Self { vocabulary, bos, prompt_field })
    }

    /// The tokens of a document.
    /// - ids: as they are; text: its tokens.
    /// - prompt and response: the tokens of the one text that both make, and an end of text; loss from the first token
    ///   that has a byte of the response.
    /// - messages: the tokens of the rendered conversation; loss on what the template renders for each turn of the
    ///   assistant after the words that ask for it, the turn's end included.
    ///
    /// # Errors
    /// Names the record: text without a tokenizer, messages without a template, or that the template refuses; a prompt
    /// that is missing.
    pub fn encode(&self, document: &Document) -> Result<Encoded> {
        match (document.content(), &self.prompt_field) {
            (Content::Ids(ids), _) => {
                let prefix = if self.bos == Bos::Always { self.prefix() } else { &[] };
                Ok(Encoded { ids: [prefix, ids].concat(), loss: None })
            }
            (Content::Messages(messages), _) => self.encode_messages(document, messages),
            (Content::Text(text), None) => {
                let ids = self.tokenizer(document)?.encode(text)?;
                Ok(Encoded { ids: [self.prefix(), &ids].concat(), loss: None })
            }
            (Content::Text(_), Some(field)) => self.encode_response(document, field),
        }
    }

    fn encode_response(&self, document: &Document, prompt_field: &str) -> Result<Encoded> {
        let (text, range) = document.prompted(prompt_field)?;
        let (ids, runs) = spans(self.tokenizer(document)?, &text, slice::from_ref(&range))?;
        let prefix = self.prefix();
        let mut ids = [prefix, &ids].concat();
        let start = runs.first().map_or(ids.len(), |run| prefix.len() + run.start);
        if let Some(eos) = self.vocabulary.eos.filter(|eos| ids.last() != Some(eos)) {
            ids.push(eos);
        }
        let run = start..ids.len();
        Ok(Encoded { ids, loss: Some(if run.is_empty() { Vec::new() } else { vec![run] }) })
    }

    fn encode_messages(&self, document: &Document, messages: &str) -> Result<Encoded> {
        let chat = self.vocabulary.chat.as_ref().ok_or_else(|| {
            let name = &self.vocabulary.name;
            document.error(format!(
                "messages, but {name} has no chat template (chat_template.jinja, or in tokenizer_config.json)"
            ))
        })?;
        let in_record = |error: Error| document.error(error.to_string());
        let conversation = chat.conversation(messages).map_err(in_record)?;
        let tokenizer = self.tokenizer(document)?;
        let (ids, runs) = spans(tokenizer, &conversation.text, &conversation.responses)?;
        Ok(Encoded { ids, loss: Some(runs) })
    }

    fn tokenizer(&self, document: &Document) -> Result<&Tokenizer> {
        self.vocabulary.tokenizer.as_ref().ok_or_else(|| {
            let name = &self.vocabulary.name;
            document.error(format!("text, but {name} has no tokenizer.json: give records with `input_ids`"))
        })
    }

    fn prefix(&self) -> &[u32] {
        match (self.bos, &self.vocabulary.tokenizer) {
            (Bos::Always, _) => self.vocabulary.bos.as_slice(),
            (Bos::Auto, Some(tokenizer)) => tokenizer.prefix(),
            _ => &[],
        }
    }
}

/// The tokens of `text`, and which of them have a byte of each range of it, as [`Tokenizer::runs`] tells.
fn spans(
    tokenizer: &Tokenizer,
    text: &str,
    ranges: &[Range<usize>],
) -> Result<(Vec<u32>, Vec<Range<usize>>)> {
    let ids = tokenizer.encode(text)?;
    let mut runs = tokenizer.runs(text, &ids, tokenizer.align(text, &ids).as_ref(), ranges)?;
    runs.retain(|run| !run.is_empty());
    Ok((ids, runs))
}
