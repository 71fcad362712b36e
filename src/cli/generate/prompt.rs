//! One prompt at the terminal: its text as it comes.

use std::io::{Write, stdout};
use std::ops::ControlFlow;
use std::time::Instant;

use super::{config, open};
use crate::cli::args::GenerateArgs;
use crate::cli::signals::Interrupt;
use crate::cli::summary::Timing;
use crate::cli::{print, print_error};
use crate::data::STANDARD_OUTPUT;
use crate::generate::{Generator, Prompt, TextStream, start_id};
use crate::random::text_stream;
use crate::{Error, Result};

/// Goes on from `text` on standard output; several samples come one after the other, each behind an empty line.
pub(super) fn run(args: &GenerateArgs, text: &str, interrupt: &Interrupt) -> Result<u8> {
    let (session, model) = open(args, interrupt)?;
    let config = config(args, &session, &model, interrupt)?;
    let reason = "--prompt: the model's folder has no tokenizer.json: give records with `input_ids`";
    let tokenizer = session.composer.tokenizer().ok_or_else(|| Error::Usage(reason.into()))?;
    let mut ids = session.composer.context(true).to_vec();
    let context = ids.len();
    ids.extend(tokenizer.encode(text)?);
    if ids.is_empty() {
        ids.extend(start_id(model.config()));
    }
    if let Some(reason) = config.refusal(&ids, model.config()) {
        return Err(Error::Usage(format!("--prompt: {reason}")));
    }
    let is_start = ids.len() == context || text.is_empty();
    let generator = Generator::new(&model, config)?;
    let (start, mut tokens) = (Instant::now(), 0);
    for sample in 0..args.prompts.samples {
        if sample > 0 {
            print(b"\n")?;
        }
        let mut stream = TextStream::new(tokenizer, &args.ends.stop, is_start);
        let mut written = Ok(());
        let show = |text: String| -> Result<()> {
            let mut stdout = stdout().lock();
            let done = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
            done.map_err(|error| Error::io(STANDARD_OUTPUT, error))
        };
        let prompt = Prompt { ids: &ids, stream: text_stream(text, None), sample };
        let eos = &generator.config().eos;
        let generated = session.pool.install(|| {
            generator.generate_with(&[prompt], |_, id| {
                if eos.contains(&id) {
                    return ControlFlow::Continue(());
                }
                let stopped = stream.push(id);
                written = show(stream.take(false));
                if written.is_err() { ControlFlow::Break(()) } else { stopped }
            })
        })?;
        written?;
        show(stream.take(true) + "\n")?;
        tokens += generated[0].ids.len() as u64;
    }
    let timing = Timing::new(session.load_seconds, start.elapsed().as_secs_f64(), tokens);
    if !args.common.quiet {
        print_error(&format!("{tokens} tokens{}", timing.text()));
    }
    Ok(0)
}
