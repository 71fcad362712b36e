//! `toedit edit --dry-run`: counts all of the input, edits a part of it, and says what the whole would take.

use std::time::Instant;

use super::args::OnErrorArg;
use super::edit::{Run, Totals};
use super::pipeline::{Arrivals, Entry, Job, enter};
use super::print;
use super::progress::Progress;
use super::session::Session;
use super::summary::{counted, documents_and_tokens};
use crate::Result;
use crate::compose::Layout;
use crate::data::{Document, Documents};

/// Batches that are edited to learn the speed and the shares.
const SAMPLE_BATCHES: usize = 2;

/// Counts and estimates; prints both.
pub fn run(run: &Run, documents: Documents, progress: &Progress) -> Result<u8> {
    let bytes = documents.progress();
    let (mut count, mut tokens, mut computed, mut passed, mut unusable) = (0u64, 0u64, 0u64, 0u64, 0u64);
    let mut sample = Vec::new();
    let mut sample_tokens = 0;
    for record in Arrivals::new(documents, run.interrupt) {
        count += 1;
        let job = match enter(record?, &|document: &Document| run.prepare(document))? {
            Entry::Done(job) => job,
            Entry::Refused(refused) if run.args.commit.on_error == OnErrorArg::Stop => {
                return Err(refused.error());
            }
            Entry::Refused(_) => {
                unusable += 1;
                continue;
            }
        };
        tokens += job.ids.len() as u64;
        computed += window_tokens(run.session, &job);
        passed += u64::from(job.extra.flaw().is_some());
        if sample_tokens < SAMPLE_BATCHES * run.session.score.batch_tokens {
            sample_tokens += job.ids.len();
            sample.push(job);
        }
        progress.update(count, tokens, bytes.read());
    }
    progress.finish();
    let counts = documents_and_tokens(count, tokens);
    print(format!("{counts}, {computed} with the overlap of windows\n").as_bytes())?;
    if unusable > 0 {
        print(format!("{} cannot be used\n", counted(unusable, "record")).as_bytes())?;
    }
    if passed > 0 {
        print(format!("{} would be passed through\n", counted(passed, "document")).as_bytes())?;
    }
    if sample_tokens > 0 {
        print(measure(run, sample, computed)?.as_bytes())?;
    }
    Ok(0)
}

/// Tokens that the model sees, those of overlapping windows twice.
fn window_tokens(session: &Session, job: &Job<Layout>) -> u64 {
    let windows = |tokens: usize| session.score.windows.windows(tokens);
    let stretches = session.sequence(job).stretches();
    stretches
        .flat_map(|stretch| windows(stretch.len()))
        .map(|window| (window.end - window.start) as u64)
        .sum()
}

/// Edits the sample and scales up to `computed` tokens, with overlap: time goes with what the model sees.
fn measure(run: &Run, sample: Vec<Job<Layout>>, computed: u64) -> Result<String> {
    let sample_work: u64 = sample.iter().map(|job| window_tokens(run.session, job)).sum();
    let start = Instant::now();
    let records = run.edit_chunk(sample)?;
    let seconds = start.elapsed().as_secs_f64();
    let mut totals = Totals::default();
    records.iter().for_each(|output| totals += &output.totals());
    let counts = totals.counts();
    let rate = counts.tokens as f64 / seconds;
    let scale = computed as f64 / sample_work as f64;
    let share = |count: u64| 100.0 * count as f64 / counts.tokens as f64;
    Ok(format!(
        "a sample of {} tokens ({sample_work} with overlap) took {seconds:.2} s{}\n\
         about {:.0} s for everything at {rate:.0} tokens/s, {:.2} % eligible, {:.2} % changed\n",
        counts.tokens,
        totals.describe(run.config.generation()),
        seconds * scale,
        share(counts.eligible),
        share(counts.changed),
    ))
}
