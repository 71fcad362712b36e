//! The loop.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_64;

use super::concentration::Concentration;
use super::config::{CollapseConfig, Keep, LearnerFiles, Strategy};
use super::editing::{Hand, check_prior, edit};
use super::human::Human;
use super::place::{Generation, Place, is_complete, read, remove, write};
use super::stages::{Event, Stage, Work};
use super::synthesis::synthesise;
use super::table::{Edits, Outcome, Row, Table};
use super::texts::{Alphabet, Texts};
use super::training::{Lesson, train};
use crate::data;
use crate::mix::choose;
use crate::model::folder::CONFIG;
use crate::model::{Checkpoint, Config, LoadConfig, Model};
use crate::train::Begin;
use crate::train::data::Vocabulary;
use crate::{Error, Result};

/// Human documents.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Those to learn from.
    pub data: data::Inputs,
    /// Held-out ones; without, some of the others are held out.
    pub held_out: Option<data::Inputs>,
}

/// An experiment in its folder.
///
/// ```
/// use toedit::collapse::{CollapseConfig, Experiment, HumanConfig, Inputs, Strategy, TrainingConfig};
/// use toedit::train::Begin;
///
/// let default = CollapseConfig::default();
/// let human = HumanConfig { tokens: 300, ..default.human };
/// let training = TrainingConfig { steps: 2, batch_size: 2, sequence_length: 16, ..default.training };
/// let strategies = vec![Strategy::Replace];
/// let config =
///     CollapseConfig { strategies, generations: 1, human, training, ..CollapseConfig::default() };
/// let data = toedit::data::Inputs::expand(&["assets/sample.jsonl".into()])?;
/// let folder = tempfile::tempdir()?;
/// let inputs = Inputs { data, held_out: None };
/// let experiment = Experiment::open(config, None, inputs, folder.path(), Begin::New)?;
/// let table = experiment.run(&mut |_| Ok(()))?;
/// assert_eq!((table.rows[0].outcome.human_tokens, table.rows[1].outcome.human_tokens), (Some(300), Some(0)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Experiment {
    config: CollapseConfig,
    files: LearnerFiles,
    alphabet: Alphabet,
    inputs: Inputs,
    settings: Map<String, Value>,
    place: Place,
}

/// Who watches.
type Observe<'a> = dyn FnMut(Event) -> Result<()> + 'a;

/// One generation of one strategy.
#[derive(Clone, Copy)]
struct Step {
    strategy: Strategy,
    seed: u64,
    number: u32,
}

/// What is known of data that were made.
#[derive(Serialize, Deserialize)]
struct Made {
    human_tokens: Option<u64>,
    edits: Option<Edits>,
}

/// What a generation learns from.
struct Data {
    corpora: Vec<PathBuf>,
    made: Made,
}

impl Experiment {
    /// Checks everything that can be checked before the first document is read, and takes hold of the output. Without
    /// `files`, models are the built-in ones.
    ///
    /// # Errors
    /// Settings out of their ranges; a learner, a prior or inputs that cannot be used; a folder that holds something else,
    /// or a run with other settings.
    pub fn open(
        config: CollapseConfig,
        files: Option<LearnerFiles>,
        inputs: Inputs,
        folder: &Path,
        begin: Begin,
    ) -> Result<Self> {
        let place = Place::open(folder, begin)?;
        let files = files.map_or_else(|| LearnerFiles::built_in(&place.learner()), Ok)?;
        let model = Config::from_file(&files.config)?;
        config.validate(&model)?;
        config.device.check()?;
        let alphabet = Alphabet::new(Vocabulary::with_config(&files.tokenizer, &model)?)?;
        let prior = config.prior.as_deref().map(|prior| prior_fingerprint(prior, &alphabet)).transpose()?;
        let mut settings = config.settings(prior);
        let bytes = std::fs::read(&files.config).map_err(|error| Error::io(&files.config, error))?;
        settings.insert("model".into(), hash(&bytes).into());
        settings.insert("tokenizer".into(), hash(&alphabet.vocabulary.fingerprint.to_le_bytes()).into());
        settings.insert("data".into(), identity(&inputs.data)?.into());
        settings.insert("eval_data".into(), inputs.held_out.as_ref().map(identity).transpose()?.into());
        place.begin(&settings)?;
        Ok(Self { config, files, alphabet, inputs, settings, place })
    }

    /// All that the table depends on.
    pub fn settings(&self) -> &Map<String, Value> {
        &self.settings
    }

    /// Goes through all stages that are left. `observe` is told what happens and stops the run by an error.
    ///
    /// # Errors
    /// Those of the stages and of `observe`. What is complete stays, to go on from.
    pub fn run(&self, observe: &mut Observe) -> Result<Table> {
        let Self { config, alphabet, inputs: Inputs { data, held_out }, .. } = self;
        Human { config, alphabet, data, held_out: held_out.as_ref() }.prepare(&self.place, observe)?;
        let mut table = Table::default();
        for seed in config.seed..config.seed + u64::from(config.seeds) {
            for strategy in config.strategies.iter().copied() {
                for number in 0..=config.generations {
                    let outcome = self.generation(Step { strategy, seed, number }, observe)?;
                    table.rows.push(Row { strategy, seed, generation: number, outcome });
                    observe(Event::Finished(table.rows.last().expect("it was pushed")))?;
                }
            }
        }
        let rank = |row: &Row| config.strategies.iter().position(|strategy| *strategy == row.strategy);
        table.rows.sort_by_key(|row| (rank(row), row.seed, row.generation));
        Ok(table)
    }

    fn place_of(&self, step: Step) -> Generation {
        self.place.generation(step.seed, step.strategy, step.number)
    }

    fn stage(&self, step: Step, work: Work, observe: &mut Observe) -> Result<()> {
        let strategy = (step.number > 0).then_some(step.strategy);
        observe(Event::Begin(Stage { seed: step.seed, strategy, generation: step.number, work }))
    }

    /// Makes a generation's data, trains its model and measures both, unless that is done.
    fn generation(&self, step: Step, observe: &mut Observe) -> Result<Outcome> {
        let place = self.place_of(step);
        if let Some(outcome) = read(&place.outcome())? {
            self.prune(step)?;
            return Ok(outcome);
        }
        let Data { corpora, made } = self.data(step, observe)?;
        self.stage(step, Work::Training, observe)?;
        let mut settings = self.settings.clone();
        settings.insert("stage".into(), format!("{} {} {}", step.strategy, step.seed, step.number).into());
        let [_, held_out] = self.place.human();
        let lesson = Lesson { corpora: &corpora, held_out: &held_out, seed: step.seed_of_stage(), settings };
        let loss = train(&self.config, &self.files, lesson, &place.model(), observe)?;
        let corpora: Vec<_> = corpora.iter().map(|corpus| Texts::open(corpus)).collect::<Result<_>>()?;
        let concentration = Concentration::of(&corpora, &self.alphabet, || self.check_stop())?;
        let outcome = Outcome {
            texts: corpora.iter().map(Texts::len).sum(),
            tokens: corpora.iter().map(Texts::tokens).sum(),
            human_tokens: made.human_tokens,
            loss,
            perplexity: loss.exp(),
            concentration,
            edits: made.edits,
        };
        write(&place.outcome(), &outcome)?;
        self.prune(step)?;
        Ok(outcome)
    }

    fn check_stop(&self) -> Result<()> {
        crate::score::check_stop(self.config.stop.as_deref())
    }

    /// Removes what no later generation needs, if it is not to be kept.
    fn prune(&self, step: Step) -> Result<()> {
        let is_needed = |number: u32| self.config.keep == Keep::All || number == 0;
        if let Some(before) = step.back(1).filter(|before| !is_needed(before.number)) {
            remove(&self.place_of(before).model())?;
            remove(&self.place_of(before).data())?;
        }
        if let Some(before) = step.back(2).filter(|before| !is_needed(before.number))
            && step.strategy != Strategy::Accumulate
        {
            remove(&self.place_of(before).synthetic())?;
        }
        Ok(())
    }

    /// What a generation learns from; makes it where it is not there.
    fn data(&self, step: Step, observe: &mut Observe) -> Result<Data> {
        let [human, _] = self.place.human();
        let human_tokens = Texts::open(&human)?.tokens();
        let unedited =
            |corpora, tokens| Data { corpora, made: Made { human_tokens: Some(tokens), edits: None } };
        let Some(before) = step.back(1) else { return Ok(unedited(vec![human], human_tokens)) };
        if step.strategy == Strategy::Edit {
            return self.made(step, |folder| self.edited(step, before, folder, observe));
        }
        let synthetic = self.synthetic(step, before, observe)?;
        match step.strategy {
            Strategy::Accumulate => {
                let written =
                    (0..step.number).map(|number| self.place_of(Step { number, ..step }).synthetic());
                Ok(unedited([human].into_iter().chain(written).collect(), human_tokens))
            }
            Strategy::Mix => self.made(step, |folder| {
                self.stage(step, Work::Mixing, observe)?;
                self.mixed(step, [&human, &synthetic], folder)
            }),
            Strategy::Replace | Strategy::Edit => Ok(unedited(vec![synthetic], 0)),
        }
    }

    /// Data of a generation's own, by `make` where they are not there.
    fn made(&self, step: Step, make: impl FnOnce(&Path) -> Result<Made>) -> Result<Data> {
        let place = self.place_of(step);
        let corpora = vec![place.data()];
        if is_complete(&place.data())
            && let Some(made) = read(&place.data_file())?
        {
            return Ok(Data { corpora, made });
        }
        let made = make(&place.data())?;
        write(&place.data_file(), &made)?;
        Ok(Data { corpora, made })
    }

    /// What the model of the generation before has written.
    fn synthetic(&self, step: Step, before: Step, observe: &mut Observe) -> Result<PathBuf> {
        let (place, [human, _]) = (self.place_of(before), self.place.human());
        let folder = place.synthetic();
        if !is_complete(&folder) {
            self.stage(step, Work::Generating, observe)?;
            let model = self.load(&place.model())?;
            let hand = (&model, before.seed_of_stage());
            let watch = |texts, tokens| observe(Event::Texts { texts, tokens });
            synthesise(&self.config, &self.alphabet, hand, &Texts::open(&human)?, &folder, watch)?;
        }
        Ok(folder)
    }

    /// Human and synthetic texts by their shares of as many tokens as the human corpus has.
    fn mixed(&self, step: Step, corpora: [&Path; 2], folder: &Path) -> Result<Made> {
        let corpora = [Texts::open(corpora[0])?, Texts::open(corpora[1])?];
        let tokens = corpora[0].tokens();
        let human = ((tokens as f64 * self.config.human_share).round() as u64).min(tokens);
        let mut writer = self.alphabet.writer(folder)?;
        let mut chosen = [0, 0];
        for (number, target) in [human, tokens - human].into_iter().enumerate() {
            let lengths: Vec<_> = corpora[number].lengths().collect();
            let choice = choose(&lengths, target, step.seed_of_stage(), number as u32)?;
            let choice = choice.ok_or_else(|| Error::file(folder, "a synthetic corpus lacks texts"))?;
            for (index, _) in choice.is_chosen.iter().enumerate().filter(|(_, is_chosen)| **is_chosen) {
                writer.push(&corpora[number].text(index as u64)?)?;
            }
            chosen[number] = choice.tokens;
        }
        writer.finish()?;
        Ok(Made { human_tokens: Some(chosen[0]), edits: None })
    }

    /// The data of the generation before, edited by its model or the prior.
    fn edited(&self, step: Step, before: Step, folder: &Path, observe: &mut Observe) -> Result<Made> {
        self.stage(step, Work::Editing, observe)?;
        let corpus = if before.number == 0 {
            let [human, _] = self.place.human();
            human
        } else {
            self.place_of(before).data()
        };
        let prior = self.config.prior.as_deref();
        let model = self.load(prior.unwrap_or(&self.place_of(before).model()))?;
        let own = [self.alphabet.start];
        let tokenizer = self.alphabet.vocabulary.tokenizer.as_ref().expect("an alphabet has one");
        let context = if prior.is_some() { tokenizer.prefix() } else { &own };
        let hand = Hand { model: &model, context, seed: step.seed, round: before.number };
        let watch = |texts, tokens| observe(Event::Texts { texts, tokens });
        let edits = edit(&self.config, &self.alphabet, &hand, &Texts::open(&corpus)?, folder, watch)?;
        Ok(Made { human_tokens: None, edits: Some(edits) })
    }

    fn load(&self, folder: &Path) -> Result<Model> {
        let CollapseConfig { dtype, device, .. } = self.config;
        Model::load_with(folder, LoadConfig { dtype, device, mmap: false })
    }
}

impl Step {
    /// The generation so many before.
    fn back(self, count: u32) -> Option<Self> {
        Some(Self { number: self.number.checked_sub(count)?, ..self })
    }

    /// Generations draw numbers of their own; strategies draw the same, so that they differ by what they do alone.
    fn seed_of_stage(self) -> u64 {
        u64::from(self.number) << 32 | self.seed
    }
}

fn hash(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}

/// What identifies inputs.
fn identity(inputs: &data::Inputs) -> Result<String> {
    let identity = inputs.identity().ok_or_else(|| {
        Error::Usage("standard input cannot be read again by a run that goes on: name files as --data".into())
    })?;
    Ok(hash(identity.as_bytes()))
}

/// Refuses a prior that cannot be used, and says which one it is.
fn prior_fingerprint(folder: &Path, alphabet: &Alphabet) -> Result<String> {
    let config = Config::from_file(&folder.join(CONFIG))?;
    let vocabulary = Vocabulary::with_config(folder, &config)?;
    check_prior(folder, vocabulary.tokenizer_hash.as_deref(), alphabet)?;
    Ok(format!("{:016x}", Checkpoint::open(folder, false)?.fingerprint()?))
}
