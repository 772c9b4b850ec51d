//! Runs jobs on all cores and puts their results together in order.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::job::{Job, Jobs};
use super::journal::{Journal, JournalError};
use crate::experiment::Experiment;
use crate::experiment::units::nanos;
use crate::report::{Place, Report, Run, Setup, SweptKey};

/// The simulator's name and version, as reports give it.
pub(super) const SIMULATOR: &str = concat!("weir-sim ", env!("CARGO_PKG_VERSION"));

/// How to run.
#[derive(Default)]
pub struct Options<'a> {
    /// Threads; `None` is one for each core.
    pub threads: Option<usize>,
    /// Where finished runs are kept and found.
    pub journal: Option<Journal>,
    /// Asked before each run: whether to stop.
    pub stop: Option<&'a (dyn Fn() -> bool + Sync)>,
}

/// Somebody who watches: a progress bar, or nobody.
pub trait Observer: Sync {
    /// So many runs of `count` are done.
    fn progress(&self, done: usize, count: usize);
}

/// Nobody watches.
impl Observer for () {
    fn progress(&self, _done: usize, _count: usize) {}
}

/// Why not all jobs ran.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Interrupted {
    /// Asked to stop.
    #[error("interrupted: {done} of {count} runs are done{}", if *.kept { " and kept; the same command goes on" } else { "" })]
    #[diagnostic(code(weir::sim::interrupted))]
    Stopped {
        /// Runs that are done.
        done: usize,
        /// All runs.
        count: usize,
        /// Whether a journal has them.
        kept: bool,
    },
    /// The journal cannot be written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Journal(#[from] JournalError),
    /// The threads cannot be started.
    #[error("cannot start the threads")]
    #[diagnostic(code(weir::sim::threads))]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// Runs all `jobs` of `experiment` that the journal does not have.
///
/// # Errors
/// [`Interrupted`]; the journal has what was done until then.
pub fn run(
    experiment: &Experiment,
    jobs: Jobs,
    options: Options<'_>,
    observer: &dyn Observer,
) -> Result<Report, Interrupted> {
    let Jobs { jobs, failed } = jobs;
    let count = jobs.len();
    let kept = options.journal.is_some();
    let mut runs: Vec<Option<Run>> = vec![None; count];
    if let Some(journal) = &options.journal {
        for (run, job) in runs.iter_mut().zip(&jobs) {
            *run = journal.find(&job.key()).cloned();
        }
    }
    let pending: Vec<(usize, &Job)> =
        jobs.iter().enumerate().filter(|(at, _)| runs.get(*at).is_some_and(Option::is_none)).collect();
    let shared = Mutex::new(Shared { done: count - pending.len(), journal: options.journal, failed: None });
    observer.progress(count - pending.len(), count);
    let stop = || options.stop.is_some_and(|stop| stop());

    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads.unwrap_or(0)).build()?;
    let finished: Vec<(usize, Run)> = pool.install(|| {
        let one = |(at, job): &(usize, &Job)| {
            if stop() || shared.lock().unwrap_or_else(PoisonError::into_inner).failed.is_some() {
                return None;
            }
            let run = job.run();
            shared.lock().unwrap_or_else(PoisonError::into_inner).finish(job, &run, count, observer);
            Some((*at, run))
        };
        // One by one: a long run keeps no short ones waiting behind it.
        pending.par_iter().with_max_len(1).filter_map(one).collect()
    });
    for (at, run) in finished {
        if let Some(slot) = runs.get_mut(at) {
            *slot = Some(run);
        }
    }
    let shared = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = shared.failed {
        return Err(error.into());
    }
    let runs: Vec<Run> = runs.into_iter().flatten().collect();
    if runs.len() < count {
        return Err(Interrupted::Stopped { done: runs.len(), count, kept });
    }
    Ok(Report {
        experiment: experiment.name.clone(),
        place: place(experiment),
        setup: Setup::of(experiment),
        runs,
        skipped: Vec::new(),
        failed,
    })
}

/// What threads share.
struct Shared {
    done: usize,
    journal: Option<Journal>,
    failed: Option<JournalError>,
}

impl Shared {
    fn finish(&mut self, job: &Job, run: &Run, count: usize, observer: &dyn Observer) {
        if let Some(journal) = &mut self.journal
            && let Err(error) = journal.add(job.key(), run)
        {
            self.failed = Some(error);
        }
        self.done += 1;
        observer.progress(self.done, count);
    }
}

fn place(experiment: &Experiment) -> Place {
    Place::Simulator {
        simulator: SIMULATOR.to_owned(),
        seeds: experiment.seeds.iter().collect(),
        warmup_ns: nanos(experiment.warmup),
        sweep: experiment
            .sweep
            .iter()
            .map(|axis| SweptKey { key: axis.key.clone(), values: axis.values.clone() })
            .collect(),
    }
}
