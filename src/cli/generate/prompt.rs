//! One prompt at the terminal: its text as it comes.

use std::io::{Write, stdout};
use std::ops::ControlFlow;
use std::time::Instant;

use super::{config, open};
use crate::cli::args::GenerateArgs;
use crate::cli::print_error;
use crate::cli::signals::Interrupt;
use crate::cli::summary::{Timing, counted};
use crate::data::STANDARD_OUTPUT;
use crate::generate::{GenerateConfig, Generator, Prompt, TextStream, start_id};
use crate::random::text_stream;
use crate::{Error, Result};

/// Goes on from `text` on standard output; several samples come one after the other, each behind an empty line.
pub(super) fn run(args: &GenerateArgs, text: &str, interrupt: &Interrupt) -> Result<u8> {
    let (session, model) = open(args, interrupt)?;
    let config = GenerateConfig { batch_size: 1, ..config(args, &session, &model, interrupt)? };
    let reason = "--prompt: the model's folder has no tokenizer.json: give records with `input_ids`";
    let tokenizer = session.composer.tokenizer().ok_or_else(|| Error::Usage(reason.into()))?;
    let mut ids = session.composer.context(true).to_vec();
    ids.extend(tokenizer.encode(text)?);
    if ids.is_empty() {
        ids.extend(start_id(model.config()));
    }
    if let Some(reason) = config.refusal(&ids, model.config()) {
        return Err(Error::Usage(format!("--prompt: {reason}")));
    }
    let generator = Generator::new(&model, config)?;
    let (start, mut tokens) = (Instant::now(), 0);
    for sample in 0..args.prompts.samples {
        if sample > 0 {
            show("\n")?;
        }
        let prompt = Prompt { ids: &ids, stream: text_stream(text, None), sample };
        let stream = TextStream::new(tokenizer, &args.ends.stop, text.is_empty());
        tokens += session.pool.install(|| one(&generator, prompt, stream))?;
    }
    let timing = Timing::new(session.load_seconds, start.elapsed().as_secs_f64(), tokens);
    if !args.common.quiet {
        print_error(&format!("{}{}", counted(tokens, "token"), timing.text()));
    }
    Ok(0)
}

/// Shows a text as it comes, and gives the number of its tokens.
fn one(generator: &Generator, prompt: Prompt, mut stream: TextStream) -> Result<u64> {
    let eos = &generator.config().eos;
    let mut shown = Ok(());
    let generated = generator.generate_with(&[prompt], |_, id| {
        if eos.contains(&id) {
            return ControlFlow::Continue(());
        }
        let stopped = stream.push(id);
        shown = show(&stream.take(false));
        if shown.is_err() { ControlFlow::Break(()) } else { stopped }
    })?;
    shown?;
    show(&(stream.take(true) + "\n"))?;
    Ok(generated.iter().map(|text| text.ids.len() as u64).sum())
}

/// Writes to standard output at once. A reader that has gone away ends the command.
fn show(text: &str) -> Result<()> {
    let mut stdout = stdout().lock();
    let shown = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    shown.map_err(|error| Error::io(STANDARD_OUTPUT, error))
}
