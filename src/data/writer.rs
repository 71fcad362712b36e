//! Writes documents to the outputs of a run: framed, committed, resumable; or straight to standard output.

use std::fs;
use std::ops::AddAssign;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::current::{Current, Target, counts_of};
use super::digest::InputDigests;
use super::document::Document;
use super::format::{Compression, Format};
use super::frames::{ByteFraming, DEFAULT_FRAME_BYTES, Framing};
use super::manifest::{InputRecord, RecordCounts};
use super::names::Lock;
use super::output::Outputs;
use super::partial::{Partial, Site};
use super::patch::{Member, Patch};
use super::reader::{ReadPlan, Start};
use super::refused::{Mark, Refused};
use super::resume::{Found, find, tidy};
use super::settings::Settings;
use super::sink::Sink;
use super::source::is_dash;
use super::storage::{Storage, System};
use crate::{Error, Result};

/// What to do with outputs that are there, finished or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// A finished one is an error.
    New,
    /// Replace them.
    Overwrite,
    /// Go on behind what is durable of them; a finished one of the same settings is done.
    Resume,
}

/// How outputs are written.
#[derive(Clone, Debug)]
pub struct WriteConfig {
    /// What to do with outputs that are there.
    pub begin: Begin,
    /// Bytes, before compression, after which a frame is closed and made durable. Compressed outputs depend on it.
    pub frame_bytes: usize,
    /// All that the outputs' bytes depend on beside the inputs, by name.
    pub settings: Settings,
    /// What a Parquet output holds of each document.
    pub columns: OutputColumns,
    /// For tests.
    #[doc(hidden)]
    pub storage: Arc<dyn Storage>,
}

impl WriteConfig {
    /// Frames of the default size, and no settings.
    pub fn new(begin: Begin) -> Self {
        let (frame_bytes, settings) = (DEFAULT_FRAME_BYTES, Settings::new());
        let columns = OutputColumns::default();
        Self { begin, frame_bytes, settings, columns, storage: Arc::new(System) }
    }
}

/// The columns of a Parquet output, which must be known before the first document: those of its input, with these changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputColumns {
    /// The column that holds the text.
    pub text_field: String,
    /// Whether the text is kept.
    pub has_text: bool,
    /// Whether there are ids; those of the input stay in any case.
    pub has_ids: bool,
    /// Whether there is a column `toedit`: kept as it is, set anew, or removed.
    pub metadata: Member<()>,
}

impl Default for OutputColumns {
    fn default() -> Self {
        Self { text_field: "text".to_owned(), has_text: true, has_ids: false, metadata: Member::Keep }
    }
}

/// What a command counts of each document; sums are kept with the output, so that those of a resumed run cover all of it.
pub trait Counts: Clone + Default + for<'a> AddAssign<&'a Self> + Serialize + DeserializeOwned {}

impl<T: Clone + Default + for<'a> AddAssign<&'a T> + Serialize + DeserializeOwned> Counts for T {}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written<C> {
    /// The command's own sums over all outputs.
    pub counts: C,
    /// What became of the records of all inputs.
    pub records: RecordCounts,
    /// How many of these records earlier processes had dealt with.
    pub resumed: u64,
}

/// Writes documents, or lines about them, in input order.
pub struct OutputWriter<C> {
    outputs: Outputs,
    config: WriteConfig,
    digests: InputDigests,
    /// What there is of each output that is not opened yet.
    states: Vec<State>,
    /// What of the inputs is still to be read.
    plan: ReadPlan,
    /// Whether every output was complete before.
    is_done: bool,
    /// The output to open next.
    next: usize,
    current: Option<Current<C>>,
    written: Written<C>,
}

/// What there is of an output.
enum State {
    Nothing,
    Begun(Box<Partial>),
    Done,
}

impl<C: Counts> OutputWriter<C> {
    /// Begins to write: with [`Begin::Resume`], looks what there is of the outputs.
    ///
    /// # Errors
    /// As `find` has them; the system's.
    pub(super) fn new(outputs: Outputs, config: WriteConfig) -> Result<Self> {
        let (digests, written) = (InputDigests::default(), Written::default());
        let (states, plan) = (Vec::new(), ReadPlan::default());
        let mut writer =
            Self { outputs, config, digests, states, plan, is_done: false, next: 0, current: None, written };
        for output in 0..writer.outputs.paths().len() {
            writer.check_columns(output)?;
            let state = writer.state(output)?;
            writer.states.push(state);
        }
        writer.is_done = writer.states.iter().all(|state| matches!(state, State::Done));
        writer.plan = writer.plan();
        // Better to learn now than after the first documents that another process has it.
        writer.open_up_to(0)?;
        Ok(writer)
    }

    /// What of the inputs is still to be read; to be given to `Documents::with_plan`.
    pub fn read_plan(&self) -> ReadPlan {
        self.plan.clone()
    }

    /// Whether every output was complete before.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    fn plan(&self) -> ReadPlan {
        let mut starts = Vec::new();
        for (output, state) in self.states.iter().enumerate() {
            let inputs = self.outputs.inputs_of(output);
            let last = match state {
                State::Nothing => None,
                State::Begun(partial) => partial.last().map(|last| last.mark),
                State::Done => {
                    starts.extend(inputs.map(|_| Start::Nowhere));
                    continue;
                }
            };
            starts.extend(inputs.map(|input| match last {
                Some(mark) if input < mark.file => Start::End,
                Some(mark) if input == mark.file => Start::After { records: mark.records, hash: mark.hash },
                _ => Start::Beginning,
            }));
        }
        ReadPlan { starts, is_chained: self.outputs.is_single(), digests: self.digests.clone() }
    }

    /// Writes `document` with `patch` applied to the output of its input file, and counts it.
    ///
    /// # Errors
    /// As [`Document::render`]; a second document for a text file; the system's.
    pub fn write(&mut self, document: &Document, patch: &Patch, counts: &C) -> Result<()> {
        let current = self.output_of(document.file())?;
        current.check_room()?;
        current.framing.document(document, patch)?;
        current.count_written(document.mark(), counts)
    }

    /// Writes `line`, which has no line's end, to the output of the input file that `mark` is of.
    ///
    /// # Errors
    /// The system's.
    pub fn write_line(&mut self, mark: Mark, line: &str, counts: &C) -> Result<()> {
        let current = self.output_of(mark.file)?;
        current.framing.line(line.as_bytes())?;
        current.count_written(mark, counts)
    }

    /// Completes the outputs of the inputs before the one that `mark` is of.
    ///
    /// # Errors
    /// As [`OutputWriter::finish`].
    pub fn reach(&mut self, mark: Mark) -> Result<()> {
        self.output_of(mark.file).map(drop)
    }

    /// Sets a record aside: it goes to the reject file of its output.
    ///
    /// # Errors
    /// The system's; standard output, which has no such file.
    pub fn set_aside(&mut self, refused: &Refused, counts: &C) -> Result<()> {
        let current = self.output_of(refused.mark().file)?;
        current.set_aside(refused, counts)
    }

    /// Passes a record through as it stands; where the output cannot hold it, it is set aside.
    ///
    /// # Errors
    /// As [`OutputWriter::set_aside`].
    pub fn pass(&mut self, refused: &Refused, counts: &C) -> Result<()> {
        let current = self.output_of(refused.mark().file)?;
        current.check_room()?;
        if !current.framing.pass(refused)? {
            return self.set_aside(refused, counts);
        }
        current.records.passed += 1;
        current.count_written(refused.mark(), counts)
    }

    /// Writes a line that stands for a record that was passed over.
    ///
    /// # Errors
    /// The system's.
    pub fn pass_line(&mut self, refused: &Refused, line: &str, counts: &C) -> Result<()> {
        self.output_of(refused.mark().file)?.records.passed += 1;
        self.write_line(refused.mark(), line, counts)
    }

    /// Completes all outputs, those of inputs without a document included.
    ///
    /// # Errors
    /// The system's; a text file that got no document; [`Error::Lost`].
    pub fn finish(mut self) -> Result<Written<C>> {
        self.open_up_to(self.outputs.paths().len() - 1)?;
        self.complete()?;
        Ok(self.written)
    }

    /// The open output of an input file; those before it are completed.
    fn output_of(&mut self, file: usize) -> Result<&mut Current<C>> {
        let wanted = file.min(self.outputs.paths().len() - 1);
        self.open_up_to(wanted)?;
        let open = self.current.as_mut().filter(|_| wanted + 1 == self.next);
        open.ok_or_else(|| Error::Usage("documents must be written in the order of the inputs".into()))
    }

    fn open_up_to(&mut self, wanted: usize) -> Result<()> {
        while self.next <= wanted {
            self.complete()?;
            self.current = self.open(self.next)?;
            self.next += 1;
        }
        Ok(())
    }

    /// What there is of an output.
    fn state(&mut self, output: usize) -> Result<State> {
        if self.outputs.is_elsewhere(output) {
            return Ok(State::Done);
        }
        if self.config.begin != Begin::Resume {
            return Ok(State::Nothing);
        }
        Ok(match find(&self.site(output), &self.settings(output))? {
            Found::Nothing => State::Nothing,
            Found::Unfinished(partial) => State::Begun(partial),
            Found::Complete(manifest) => {
                let path = &self.outputs.paths()[output];
                let records = manifest.records;
                self.add(counts_of(path, manifest.counts)?, records);
                self.written.resumed += records.read();
                State::Done
            }
        })
    }

    /// Better to learn now than after hours that the columns of several inputs do not agree.
    fn check_columns(&self, output: usize) -> Result<()> {
        let format = Format::from_name(&self.outputs.paths()[output]);
        if format == Some(Format::Parquet) && self.outputs.input_files(output).len() > 1 {
            self.framing(output, Format::Parquet, Compression::None)?;
        }
        Ok(())
    }

    /// Opens an output; none where it is complete.
    fn open(&mut self, output: usize) -> Result<Option<Current<C>>> {
        let path = self.outputs.paths()[output].clone();
        let format = Format::from_name(&path).unwrap_or(Format::JsonLines);
        let (target, compression) = match std::mem::replace(&mut self.states[output], State::Nothing) {
            State::Done => {
                self.states[output] = State::Done;
                return Ok(None);
            }
            State::Begun(partial) => (Target::File(partial), Compression::from_name(&path)),
            State::Nothing if is_dash(&path) => {
                (Target::Stream(Box::new(Sink::create(&path, true)?)), Compression::None)
            }
            State::Nothing => (Target::File(self.begin(output)?), Compression::from_name(&path)),
        };
        let framing = self.framing(output, format, compression)?;
        let current = Current::new(target, framing, format, self.config.frame_bytes)?;
        self.written.resumed += current.records.read();
        Ok(Some(current))
    }

    #[cfg(feature = "parquet")]
    fn framing(&self, output: usize, format: Format, compression: Compression) -> Result<Box<dyn Framing>> {
        let path = &self.outputs.paths()[output];
        if format == Format::Parquet {
            let (inputs, columns) = (self.outputs.input_files(output), &self.config.columns);
            return Ok(Box::new(super::parquet::RowFraming::new(path, inputs, columns)?));
        }
        Ok(Box::new(ByteFraming::new(path, format, compression)))
    }

    #[cfg(not(feature = "parquet"))]
    fn framing(&self, output: usize, format: Format, compression: Compression) -> Result<Box<dyn Framing>> {
        let path = &self.outputs.paths()[output];
        if format == Format::Parquet {
            return Err(Error::file(path, "this build cannot write Parquet: it lacks the feature `parquet`"));
        }
        Ok(Box::new(ByteFraming::new(path, format, compression)))
    }

    fn begin(&self, output: usize) -> Result<Box<Partial>> {
        let site = self.site(output);
        if let (Some(_), Some(parent)) = (self.outputs.folder(), site.output.parent()) {
            fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
        }
        let lock = Lock::take(&*site.storage, &site.output)?;
        tidy(&site)?;
        Partial::begin(site, lock, self.settings(output)).map(Box::new)
    }

    fn site(&self, output: usize) -> Site {
        let overwrite = self.config.begin == Begin::Overwrite;
        Site::new(self.config.storage.clone(), &self.outputs.paths()[output], overwrite)
    }

    fn settings(&self, output: usize) -> Settings {
        let mut settings = self.config.settings.clone();
        settings.insert("frame_bytes".to_owned(), self.config.frame_bytes.into());
        settings.insert("input".to_owned(), self.outputs.input_setting(output));
        settings.extend(self.outputs.shard().map(|shard| ("shard".to_owned(), shard.to_string().into())));
        settings
    }

    /// Completes the open output.
    fn complete(&mut self) -> Result<()> {
        let Some(mut current) = self.current.take() else {
            return Ok(());
        };
        let output = self.next - 1;
        let path = &self.outputs.paths()[output];
        current.flush(true)?;
        let RecordCounts { written, set_aside, .. } = current.records;
        let is_missing = current.format == Format::Text && written == 0;
        if is_missing && set_aside == 0 {
            return Err(one_document(path, "none"));
        }
        self.check_lost(output, current.records)?;
        let (counts, records) = (current.counts, current.records);
        match current.target {
            Target::Stream(sink) => sink.finish()?,
            Target::File(mut partial) => {
                if current.framing.is_assembled() {
                    partial.assemble(|frames, ends, out| current.framing.assemble(frames, ends, out))?;
                }
                partial.finish(self.input_records(output), !is_missing)?;
            }
        }
        self.add(counts, records);
        Ok(())
    }

    fn add(&mut self, counts: C, records: RecordCounts) {
        self.written.counts += &counts;
        self.written.records += records;
    }

    /// Every record that the reader saw must have come out or been set aside.
    fn check_lost(&self, output: usize, records: RecordCounts) -> Result<()> {
        let read = self.outputs.inputs_of(output).map(|input| self.digests.get(input).records);
        match read.sum::<Option<u64>>() {
            Some(read) if read != records.read() => Err(Error::Lost { read, written: records.read() }),
            _ => Ok(()),
        }
    }

    fn input_records(&self, output: usize) -> Vec<InputRecord> {
        let files = self.outputs.inputs_of(output).zip(self.outputs.input_files(output));
        let record = |(input, file): (usize, &super::InputFile)| {
            let read = self.digests.get(input);
            let (digest, modified, records) = (read.digest, read.modified, read.records);
            let part = read.part.map(|part| [part.start, part.end]);
            InputRecord { path: file.path.to_path_buf(), digest, part, modified, records }
        };
        files.map(record).collect()
    }
}

/// What a text file cannot be.
pub(super) fn one_document(path: &Path, found: &str) -> Error {
    Error::file(path, format!("a text file holds exactly one document, found {found}: write .jsonl instead"))
}
