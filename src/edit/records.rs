//! Editing records: tokens edited, the strings that they came from spliced, generation after generation.

use rayon::prelude::*;

use super::provenance::generations;
use super::splice::{Replacement, splice};
use super::text::{AlignedText, token_edit};
use super::{
    Change, Constraint, Counts, EditConfig, EditInput, Edited, Editor, IdConstraint, RecordConstraint,
    TextConstraint, TokenEdit, Vocabulary,
};
use crate::compose::{Composer, Part, Passage, Record};
use crate::data::messages::{self, MessageEdits};
use crate::data::{Content, Document, Member, Patch, TextEdit};
use crate::edit::provenance::{revert_ids, revert_text};
use crate::{Error, Result};

/// What decides on edits: a model, or what was kept of its scores.
pub trait Prior: Sync {
    /// Edits each document with the random numbers of a generation, as [`Editor::edit_generation`] does.
    ///
    /// # Errors
    /// [`Error::Document`] for one that cannot be scored.
    fn edit(&self, documents: &[EditInput], generation: u32) -> Result<Vec<Edited>>;
}

impl Prior for Editor<'_> {
    fn edit(&self, documents: &[EditInput], generation: u32) -> Result<Vec<Edited>> {
        self.edit_generation(documents, generation)
    }
}

/// Edits records. Shared by threads.
pub struct RecordEditor<'a> {
    composer: &'a Composer,
    vocabulary: &'a Vocabulary,
    prior: &'a dyn Prior,
    /// One for each generation.
    configs: Vec<EditConfig>,
    provenance: bool,
}

/// An edited record.
#[derive(Debug)]
pub struct EditedRecord {
    /// As the last generation found it.
    pub record: Record,
    /// What the last generation made of its tokens.
    pub edited: Edited,
    /// Edits of the record's text in the last generation.
    pub text: Vec<TextEdit>,
    /// Edits of its messages in the last generation, by message.
    pub messages: Vec<MessageEdits>,
    /// What each generation did.
    pub generations: Vec<Counts>,
    /// Every change, by generation and position, where provenance is asked for.
    pub token_edits: Vec<TokenEdit>,
    /// Why it came out unedited, or was no longer edited in a later generation.
    pub flaw: Option<&'static str>,
}

impl<'a> RecordEditor<'a> {
    /// Edits by `prior`, `generations` times from the configuration's own on; each edits what the one before made, read
    /// anew. With `provenance` every change is kept.
    ///
    /// # Errors
    /// [`Error::Usage`] for generations past [`crate::random::Stream::MAX_GENERATION`].
    pub fn new(
        composer: &'a Composer,
        vocabulary: &'a Vocabulary,
        prior: &'a dyn Prior,
        config: &EditConfig,
        generations: u32,
        provenance: bool,
    ) -> Result<Self> {
        let first = config.generation();
        let numbers = (0..generations).map(|number| first.saturating_add(number));
        let configs = numbers.map(|number| config.clone().with_generation(number)).collect::<Result<_>>()?;
        Ok(Self { composer, vocabulary, prior, configs, provenance })
    }

    /// Edits each record. The results do not depend on which records share a call.
    ///
    /// # Errors
    /// Names the record that the prior cannot score, or that a later generation cannot read.
    pub fn edit(&self, records: Vec<Record>) -> Result<Vec<EditedRecord>> {
        let mut records: Vec<_> = records.into_iter().map(EditedRecord::new).collect();
        for (number, config) in self.configs.iter().enumerate() {
            if number > 0 {
                records = records
                    .into_par_iter()
                    .map(|record| record.next(self.composer))
                    .collect::<Result<_>>()?;
            }
            self.edit_once(&mut records, config)?;
        }
        Ok(records)
    }

    /// One generation.
    fn edit_once(&self, records: &mut [EditedRecord], config: &EditConfig) -> Result<()> {
        let sound: Vec<usize> =
            (0..records.len()).filter(|&index| records[index].record.layout.flaw().is_none()).collect();
        let constraints: Vec<_> =
            sound.iter().map(|&index| self.constraint(&records[index].record)).collect();
        let inputs = sound.iter().zip(&constraints).map(|(&index, constraint)| {
            let Record { document, ids, layout } = &records[index].record;
            let sequence = self.composer.sequence(document, ids, layout);
            EditInput { sequence, stream: layout.stream(), constraint: &**constraint }
        });
        let inputs: Vec<_> = inputs.collect();
        let edited = self.prior.edit(&inputs, config.generation()).map_err(|error| match error {
            Error::Document { index, reason } => records[sound[index]].record.document.error(reason),
            other => other,
        })?;
        drop(inputs);
        drop(constraints);
        let mut edited = sound.into_iter().zip(edited).peekable();
        for (index, record) in records.iter_mut().enumerate() {
            let found = edited.next_if(|(place, _)| *place == index).map(|(_, edited)| edited);
            self.finish(record, found, config)?;
        }
        Ok(())
    }

    fn constraint<'r>(&'r self, record: &'r Record) -> Box<dyn Constraint + 'r> {
        let (vocabulary, ids, layout) = (self.vocabulary, &record.ids[..], &record.layout);
        match (self.composer.tokenizer(), layout.passages()) {
            // What a record of text comes to, with less to look up.
            (Some(tokenizer), [passage @ Passage { alignment: Some(alignment), .. }])
                if passage.is_document() =>
            {
                Box::new(TextConstraint { vocabulary, tokenizer, ids, alignment })
            }
            (Some(tokenizer), [_, ..]) => Box::new(RecordConstraint { vocabulary, tokenizer, ids, layout }),
            (tokenizer, _) => Box::new(IdConstraint::new(vocabulary, tokenizer, ids)),
        }
    }

    /// Puts a generation's edits into the record's strings; none where it could not be edited.
    fn finish(&self, record: &mut EditedRecord, edited: Option<Edited>, config: &EditConfig) -> Result<()> {
        record.flaw = record.flaw.or(record.record.layout.flaw());
        let mut edited = edited.unwrap_or_default();
        edited.counts.tokens = record.record.ids.len() as u64;
        record.generations.push(edited.counts);
        let Record { document, layout, .. } = &record.record;
        let (mut text, mut messages, mut token_edits) = (Vec::new(), Vec::<MessageEdits>::new(), Vec::new());
        if layout.passages().is_empty() && self.provenance {
            token_edits = edited.changes.iter().map(|change| token_edit(change, config)).collect();
        }
        for passage in layout.passages() {
            for strings in self.splice(document, passage, &edited.changes, config)? {
                match strings.message {
                    None => text.extend(strings.edits),
                    Some(message) => match messages.last_mut().filter(|last| last.message == message) {
                        Some(last) => last.edits.extend(strings.edits),
                        None => messages.push(MessageEdits { message, edits: strings.edits }),
                    },
                }
                token_edits.extend(strings.token_edits);
            }
        }
        record.token_edits.extend(token_edits);
        (record.edited, record.text, record.messages) = (edited, text, messages);
        Ok(())
    }

    /// The edits of each part of a passage that has any.
    fn splice(
        &self,
        document: &Document,
        passage: &Passage,
        changes: &[Change],
        config: &EditConfig,
    ) -> Result<Vec<PartEdits>> {
        let (Some(tokenizer), Some(alignment)) = (self.composer.tokenizer(), &passage.alignment) else {
            return Ok(Vec::new());
        };
        let aligned = AlignedText { tokenizer, text: passage.text(document), alignment };
        let mut found: Vec<PartEdits> = Vec::new();
        // By how much a message's content has grown before a part.
        let mut growth = (None, 0);
        for part in &passage.parts {
            let changes = local(passage, part, changes);
            if changes.is_empty() {
                continue;
            }
            let named = |error: Error| document.error(error.to_string());
            let piece = aligned.part(part.range.clone());
            let spliced = piece.splice(&changes).map_err(named)?;
            let token_edits = match self.provenance {
                true => piece.provenance(&changes, &spliced, config),
                false => Vec::new(),
            };
            if growth.0 != part.message {
                growth = (part.message, 0);
            }
            let grown = spliced.text.len() as isize - part.range.len() as isize;
            let first = passage.tokens.start;
            found.push(PartEdits {
                message: part.message,
                edits: spliced.edits.into_iter().map(|edit| moved(edit, part.offset)).collect(),
                token_edits: token_edits
                    .into_iter()
                    .map(|edit| placed(edit, part, first, growth.1))
                    .collect(),
            });
            growth.1 += grown;
        }
        Ok(found)
    }
}

/// The edits of one part.
struct PartEdits {
    message: Option<usize>,
    edits: Vec<TextEdit>,
    token_edits: Vec<TokenEdit>,
}

/// The changes of a part's tokens, by their positions in the passage.
fn local(passage: &Passage, part: &Part, changes: &[Change]) -> Vec<Change> {
    let from = changes.partition_point(|change| change.position < part.tokens.start);
    let to = changes.partition_point(|change| change.position < part.tokens.end);
    let local = |change: &Change| Change { position: change.position - passage.tokens.start, ..*change };
    changes[from..to].iter().map(local).collect()
}

/// An edit of a part as one of the string that it is a piece of.
fn moved(edit: TextEdit, offset: usize) -> TextEdit {
    TextEdit { start: edit.start + offset, end: edit.end + offset, ..edit }
}

/// A token's edit by its position in the record and its place in the string.
fn placed(mut edit: TokenEdit, part: &Part, first: usize, growth: isize) -> TokenEdit {
    edit.position += first;
    edit.message = part.message;
    if let Some(span) = &mut edit.span {
        span.byte_start += part.offset;
        span.byte_end += part.offset;
        span.out_byte_start = (span.out_byte_start + part.offset).wrapping_add_signed(growth);
        span.out_byte_end = (span.out_byte_end + part.offset).wrapping_add_signed(growth);
    }
    edit
}

impl EditedRecord {
    fn new(record: Record) -> Self {
        Self {
            record,
            edited: Edited::default(),
            text: Vec::new(),
            messages: Vec::new(),
            generations: Vec::new(),
            token_edits: Vec::new(),
            flaw: None,
        }
    }

    /// The edits of the last generation as a patch of the record. `ids` are the edited ones of a document of ids.
    pub fn patch<'a>(&'a self, ids: Option<&'a [u32]>) -> Patch<'a> {
        let text = if self.text.is_empty() { Member::Keep } else { Member::Set(&self.text[..]) };
        Patch {
            text,
            messages: &self.messages,
            ids: ids.map_or(Member::Keep, Member::Set),
            ..Patch::default()
        }
    }

    /// The record that the next generation edits.
    fn next(self, composer: &Composer) -> Result<Self> {
        if self.edited.changes.is_empty() {
            return Ok(self);
        }
        let Record { document, ids, .. } = &self.record;
        let ids = document.ids().map(|_| self.edited.apply(ids));
        let document = document.edited(&self.patch(ids.as_deref()))?;
        Ok(Self { record: composer.record(document)?, ..self })
    }
}

/// The document before editing, from what was made of it and its edits: the last generation is undone first. Its `toedit`
/// object stays.
///
/// # Errors
/// [`Error::Record`] where an edit does not fit the document, as [`revert_text`] and [`revert_ids`] find.
pub fn revert(document: &Document, edits: &[TokenEdit]) -> Result<Option<Document>> {
    let mut reverted: Option<Document> = None;
    for generation in generations(edits) {
        let document = reverted.as_ref().unwrap_or(document);
        reverted = Some(revert_once(document, &generation)?);
    }
    Ok(reverted)
}

fn revert_once(document: &Document, edits: &[&TokenEdit]) -> Result<Document> {
    let named = |error: Error| document.error(error.to_string());
    let own: Vec<TokenEdit> = edits.iter().map(|edit| (*edit).clone()).collect();
    let (mut text, mut ids, mut messages) = (Member::Keep, Member::Keep, Vec::new());
    let (text_edits, token_ids);
    match document.content() {
        Content::Text(found) => {
            text_edits = undo(found, &own).map_err(named)?;
            text = Member::Set(&text_edits[..]);
        }
        Content::Ids(found) => {
            token_ids = revert_ids(found, &own).map_err(named)?;
            ids = Member::Set(&token_ids[..]);
        }
        Content::Messages(raw) => messages = undo_messages(raw, &own).map_err(named)?,
    }
    document.edited(&Patch { text, messages: &messages, ids, ..Patch::default() })
}

/// One generation's edits of messages, the other way round.
pub(crate) fn undo_messages(raw: &str, edits: &[TokenEdit]) -> Result<Vec<MessageEdits>> {
    let messages = messages::read(raw).map_err(Error::Usage)?;
    let undo = |edits: &[TokenEdit]| {
        let number = edits[0].message;
        let content = number.and_then(|number| messages.get(number)?.content.as_deref());
        let (Some(message), Some(content)) = (number, content) else {
            let position = edits[0].position;
            return Err(Error::Usage(format!("edit of token {position}: its message has no content")));
        };
        Ok(MessageEdits { message, edits: undo(content, edits)? })
    };
    edits.chunk_by(|a, b| a.message == b.message).map(undo).collect()
}

/// One generation's edits of a text, the other way round, so that all other characters keep their spelling in JSON.
fn undo(text: &str, edits: &[TokenEdit]) -> Result<Vec<TextEdit>> {
    // Checks each edit against the text.
    revert_text(text, edits)?;
    let undo = edits.iter().filter_map(|edit| {
        let (span, pieces) = (edit.span?, edit.pieces.as_ref()?);
        Some(Replacement { range: span.out_byte_start..span.out_byte_end, new: &pieces.old.0 })
    });
    Ok(splice(text, &undo.collect::<Vec<_>>())?.edits)
}
