//! Everything but the model, as `toedit edit` does it, in one thread: gzip in, records found and decoded, tokens and their
//! bytes, edits at random positions instead of the model's, zstd out. The throughput is in tokens: the whole, then each
//! stage alone.
//!
//! `cargo bench --bench pipeline`. English text of `$TOEDIT_SHARED`, else the repository's sample, repeated; the tokenizer of
//! the model folder `$TOEDIT_SMOLLM2`, else the tiny model's.

#[path = "../tests/common/mod.rs"]
mod common;

use std::env;
use std::fs::File;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flate2::Compression;
use flate2::write::GzEncoder;
use toedit::data::{
    Begin, Document, Inputs, Member, Outputs, Patch, Payload, Reader, TextEdit, WriteConfig, stream_key,
};
use toedit::edit::text::AlignedText;
use toedit::edit::{Change, Constraint, Counts, Edited, Metadata, TextConstraint, Vocabulary};
use toedit::model::Config;
use toedit::random::{Purpose, Stream};
use toedit::tokenizer::Alignment;
use toedit::{Result, Tokenizer};

/// Bytes of records that one iteration takes through all stages.
const BYTES: usize = 2 << 20;
/// The share of tokens that are replaced, and candidates that are tried in the place of each.
const EDITED: f64 = 0.1;
const CANDIDATES: u8 = 8;
const NO_PROBABILITY: f32 = 0.0;

/// A document with all that is worked out about it on the way.
struct Job {
    document: Document,
    ids: Vec<u32>,
    alignment: Alignment,
    edited: Edited,
    edits: Vec<TextEdit>,
}

struct Stages {
    folder: tempfile::TempDir,
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
}

impl Stages {
    fn new() -> Result<Self> {
        let model = env::var_os("TOEDIT_SMOLLM2").map_or(common::root().join("assets/tiny"), PathBuf::from);
        let tokenizer = Tokenizer::from_file(model.join("tokenizer.json"))?;
        let vocabulary = Vocabulary::new(&Config::from_file(&model.join("config.json"))?, Some(&tokenizer));
        let stages = Self { folder: tempfile::tempdir().expect("a temporary folder"), tokenizer, vocabulary };
        write_input(&stages.input())?;
        Ok(stages)
    }

    fn input(&self) -> PathBuf {
        self.folder.path().join("input.jsonl.gz")
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("output.jsonl.zst")
    }

    fn read(&self) -> Result<Vec<Document>> {
        read(&self.input())
    }

    fn tokenize(&self, document: &Document) -> Result<Vec<u32>> {
        self.tokenizer.encode(text(document))
    }

    fn align(&self, document: &Document, ids: &[u32]) -> Alignment {
        self.tokenizer.align(text(document), ids).expect("the tokens add up to the text")
    }

    /// Replaces tokens as the editor would, by other random numbers.
    fn edit(&self, document: &Document, ids: &[u32], alignment: &Alignment) -> Result<Edited> {
        let constraint =
            TextConstraint { vocabulary: &self.vocabulary, tokenizer: &self.tokenizer, ids, alignment };
        let stream = Stream::new(0, stream_key(document), Purpose::Edit, 0)?;
        let mut changes = Vec::new();
        for (position, &old_id) in
            ids.iter().enumerate().filter(|(position, _)| constraint.editable(*position))
        {
            if stream.draw(position as u32, 0).first >= EDITED {
                continue;
            }
            let candidate =
                |draw| (stream.draw(position as u32, draw).second * self.tokenizer.len() as f64) as u32;
            let new_id = (0..CANDIDATES).map(candidate).find(|&id| constraint.allowed(position, id));
            let (p_old, p_new) = (NO_PROBABILITY, Some(NO_PROBABILITY));
            changes.extend(new_id.map(|_| Change { position, old_id, new_id, p_old, p_new }));
        }
        let counts = Counts { tokens: ids.len() as u64, changed: changes.len() as u64, ..Counts::default() };
        Ok(Edited { counts, changes })
    }

    fn splice(&self, document: &Document, alignment: &Alignment, edited: &Edited) -> Result<Vec<TextEdit>> {
        let aligned = AlignedText { tokenizer: &self.tokenizer, text: text(document), alignment };
        Ok(aligned.splice(&edited.changes)?.edits)
    }

    fn write(&self, jobs: &[Job]) -> Result<()> {
        let inputs = Inputs::expand(&[self.input()])?;
        let outputs = Outputs::plan(&inputs, &self.output(), Payload::Documents)?;
        let mut writer = outputs.writer::<u64>(WriteConfig::new(Begin::Overwrite))?;
        for job in jobs {
            let metadata = Metadata { counts: job.edited.counts, ..Metadata::default() };
            let metadata = serde_json::to_string(&metadata).expect("counts have a JSON form");
            let (text, metadata) = (Member::Set(&job.edits[..]), Member::Set(&metadata[..]));
            let patch = Patch { text, metadata, ..Patch::default() };
            writer.write(&job.document, &patch, &job.edited.counts.changed)?;
        }
        writer.finish().map(drop)
    }

    fn prepare(&self) -> Result<Vec<Job>> {
        let prepare = |document: Document| {
            let ids = self.tokenize(&document)?;
            let alignment = self.align(&document, &ids);
            let edited = self.edit(&document, &ids, &alignment)?;
            let edits = self.splice(&document, &alignment, &edited)?;
            Ok(Job { document, ids, alignment, edited, edits })
        };
        self.read()?.into_iter().map(prepare).collect()
    }

    /// Reads the output and compares it with what the edits make of each text.
    fn check(&self, jobs: &[Job]) -> Result<()> {
        let written = read(&self.output())?;
        assert_eq!(written.len(), jobs.len());
        for (found, job) in written.iter().zip(jobs) {
            let expected = toedit::data::splice(text(&job.document), &job.edits).expect("edits fit the text");
            assert_eq!(text(found), expected);
        }
        let count =
            |of: fn(&Counts) -> u64| jobs.iter().map(|job| of(&job.edited.counts)).sum::<u64>() as f64;
        let share = count(|counts| counts.changed) / count(|counts| counts.tokens);
        assert!((share / EDITED - 1.0).abs() < 0.1, "{share} of the tokens were changed");
        Ok(())
    }
}

fn text(document: &Document) -> &str {
    document.text().expect("the corpus holds text")
}

fn read(path: &Path) -> Result<Vec<Document>> {
    Inputs::expand(&[path.to_owned()])?.documents(Default::default())?.collect()
}

/// The first records of the corpus.
fn write_input(path: &Path) -> Result<()> {
    let corpus = match env::var_os("TOEDIT_SHARED") {
        Some(shared) => Path::new(&shared).join("corpora/human/encyclopedic.jsonl.gz"),
        None => common::root().join("assets/sample.jsonl"),
    };
    let corpus = Reader::open(&corpus, Default::default())?;
    let lines: Vec<_> = corpus.lines().map(|line| line.expect("a line of text")).collect();
    let file = File::create(path).expect("a file in a temporary folder");
    let mut encoder = GzEncoder::new(file, Compression::default());
    let mut bytes = 0;
    for line in lines.iter().cycle().take_while(|line| {
        bytes += line.len();
        bytes <= BYTES
    }) {
        writeln!(encoder, "{line}").expect("room in a temporary folder");
    }
    encoder.finish().expect("room in a temporary folder");
    Ok(())
}

fn bench(criterion: &mut Criterion) {
    run(criterion).expect("the corpus passes through all stages");
}

fn run(criterion: &mut Criterion) -> Result<()> {
    let stages = Stages::new()?;
    let jobs = stages.prepare()?;
    stages.write(&jobs)?;
    stages.check(&jobs)?;

    let mut group = criterion.benchmark_group("pipeline");
    group.sample_size(10);
    group.throughput(Throughput::Elements(jobs.iter().map(|job| job.ids.len() as u64).sum()));
    group.bench_function("all", |bencher| {
        bencher.iter(|| stages.prepare().and_then(|jobs| stages.write(&jobs)));
    });
    group.bench_function("read", |bencher| bencher.iter(|| stages.read()));
    let mut bench = |name, stage: &dyn Fn(&Job)| {
        group.bench_function(name, |bencher| bencher.iter(|| jobs.iter().for_each(stage)));
    };
    // What a stage returns is dropped inside the measurement, as in the whole.
    bench("tokenize", &|job| drop(stages.tokenize(&job.document)));
    bench("align", &|job| drop(stages.align(&job.document, &job.ids)));
    bench("edit", &|job| drop(stages.edit(&job.document, &job.ids, &job.alignment)));
    bench("splice", &|job| drop(stages.splice(&job.document, &job.alignment, &job.edited)));
    group.bench_function("write", |bencher| bencher.iter(|| stages.write(&jobs)));
    Ok(())
}

criterion_group!(pipeline, bench);
criterion_main!(pipeline);
