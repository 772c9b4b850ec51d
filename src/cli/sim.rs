//! `weir sim`: experiments in the simulator.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use miette::Diagnostic;

use crate::experiment::{Experiment, ExperimentError, Seeds, contender, units};
use crate::lab::{self, Stop};
use crate::report::{self, Picture, Report};
use crate::simulate::{self, Interrupted, Jobs, Journal, JournalError, Observer, Options};

/// Run an experiment in the simulator: no privileges, no kernel, the same result each time
#[derive(Debug, Args)]
pub struct SimArgs {
    /// The experiment file (TOML, see docs/experiment.md)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write the results as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write one line of CSV for each run to this file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write one self-contained page with plots to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write one picture as SVG to this file: delay over time, or the heat map of a sweep
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write flent's data format to this file; with several contenders, one file each with its name
    #[arg(long, value_name = "FILE")]
    flent: Option<PathBuf>,
    /// Keep each finished run in this directory, and go on with what is there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Run only this contender, even if the file does not name it (may be repeated)
    #[arg(long, value_name = "CONTENDER")]
    only: Vec<String>,
    /// Run for this long instead of the file's duration ("10s")
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    duration: Option<Duration>,
    /// The first seed, instead of the file's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How many seeds, instead of the file's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    seeds: Option<u32>,
    /// How many runs at once; each core has one where this is not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// No progress bar and no table
    #[arg(short, long)]
    quiet: bool,
}

/// Why `weir sim` failed.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum SimError {
    /// The experiment file is wrong.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Experiment(#[from] Box<ExperimentError>),
    /// No contender has the name.
    #[error("{rule}")]
    #[diagnostic(code(weir::sim::contender))]
    Contender {
        /// The rule, with the names there are.
        rule: String,
    },
    /// flent plots over time, and a sweep keeps nothing over time.
    #[error("--flent needs an experiment without [[sweep]]")]
    #[diagnostic(code(weir::sim::flent), help("--csv has a line for each run of a sweep"))]
    FlentOfSweep,
    /// The directory of `--out` cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Journal(#[from] JournalError),
    /// Not all runs are done.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Interrupted(#[from] Interrupted),
    /// The settings of a contender do not fit the experiment; the reports of the others are complete.
    #[error("{names} could not run, see above")]
    #[diagnostic(code(weir::sim::failed))]
    Failed {
        /// Which, separated by commas.
        names: String,
    },
    /// Signals cannot be caught.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Signals(#[from] lab::Error),
    /// A report could not be drawn.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Report(#[from] report::Error),
    /// A report could not be written.
    #[error("cannot write {path}")]
    #[diagnostic(code(weir::sim::output))]
    Output {
        /// The file, or the standard output.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl SimError {
    /// 2 for what was asked wrongly, 130 after a signal, 1 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Experiment(_)
            | Self::Contender { .. }
            | Self::FlentOfSweep
            | Self::Journal(JournalError::Other { .. }) => ExitCode::from(2),
            Self::Interrupted(Interrupted::Stopped { .. }) => ExitCode::from(130),
            Self::Journal(_)
            | Self::Interrupted(_)
            | Self::Failed { .. }
            | Self::Signals(_)
            | Self::Report(_)
            | Self::Output { .. } => ExitCode::FAILURE,
        }
    }
}

/// Runs `weir sim` as `args` say.
///
/// # Errors
/// [`SimError`].
pub fn run(args: &SimArgs) -> Result<(), SimError> {
    let experiment = experiment(args)?;
    let jobs = Jobs::of(&experiment)?;
    let journal = args.out.as_deref().map(|dir| Journal::open(dir, &experiment)).transpose()?;
    let stop = Stop::on_signals()?;
    let stopped = || stop.is_set();
    let options = Options { threads: args.jobs.map(usize::from), journal, stop: Some(&stopped) };
    let report = if args.quiet {
        simulate::run(&experiment, jobs, options, &())?
    } else {
        simulate::run(&experiment, jobs, options, &Bar::new())?
    };
    if !args.quiet {
        print(&report::table(&report))?;
    }
    write_reports(args, &report)?;
    if report.failed.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = report.failed.iter().map(|failed| failed.contender.as_str()).collect();
    Err(SimError::Failed { names: names.join(", ") })
}

fn experiment(args: &SimArgs) -> Result<Experiment, SimError> {
    let mut experiment = Experiment::load(&args.file)?;
    if args.flent.is_some() && !experiment.sweep.is_empty() {
        return Err(SimError::FlentOfSweep);
    }
    if !args.only.is_empty() {
        for name in &args.only {
            contender::check(name).map_err(|rule| SimError::Contender { rule })?;
        }
        experiment.contenders.clone_from(&args.only);
    }
    if let Some(duration) = args.duration {
        experiment.set_duration(duration);
    }
    let Seeds { first, count } = experiment.seeds;
    experiment.seeds = Seeds { first: args.seed.unwrap_or(first), count: args.seeds.unwrap_or(count) };
    Ok(experiment)
}

fn write_reports(args: &SimArgs, report: &Report) -> Result<(), SimError> {
    if let Some(path) = &args.json {
        write_file(path, &(json(path, report)? + "\n"))?;
    }
    if let Some(path) = &args.csv {
        write_file(path, &report::csv(report))?;
    }
    if let Some(path) = &args.html {
        write_file(path, &report::html(report)?)?;
    }
    if let Some(path) = &args.svg {
        let drawn = [Picture::HeatOfDelay, Picture::DelayOverTime];
        let picture = drawn.into_iter().find(|picture| picture.has_data(report));
        let picture = picture.unwrap_or(Picture::HeatOfUtilisation);
        write_file(path, &report::svg(report, picture, 960, picture.height(report))?)?;
    }
    if let Some(path) = &args.flent {
        let data: Vec<_> =
            report.runs.iter().filter_map(|run| Some((run, report::flent(report, run)?))).collect();
        for (run, value) in &data {
            let path = if data.len() == 1 { path.clone() } else { named_after(path, &run.contender) };
            write_file(&path, &json(&path, value)?)?;
        }
    }
    Ok(())
}

/// `x.flent` of the contender `weir` is `x-weir.flent`.
fn named_after(path: &Path, contender: &str) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (stem, extension) = name.split_once('.').map_or((name.as_str(), ""), |(stem, rest)| (stem, rest));
    let dot = if extension.is_empty() { "" } else { "." };
    path.with_file_name(format!("{stem}-{contender}{dot}{extension}"))
}

fn json(path: &Path, value: &impl serde::Serialize) -> Result<String, SimError> {
    serde_json::to_string_pretty(value)
        .map_err(|error| SimError::Output { path: path.display().to_string(), source: error.into() })
}

fn write_file(path: &Path, text: &str) -> Result<(), SimError> {
    std::fs::write(path, text).map_err(|source| SimError::Output { path: path.display().to_string(), source })
}

fn print(text: &str) -> Result<(), SimError> {
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .map_err(|source| SimError::Output { path: "the standard output".to_owned(), source })
}

/// A progress bar on standard error, where that is a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        // The template is a constant; if it were wrong, the default bar would be shown.
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos} of {len} runs, {eta} left") {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Observer for Bar {
    fn progress(&self, done: usize, count: usize) {
        self.0.set_length(count as u64);
        self.0.set_position(done as u64);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_several_contenders_have_their_names() {
        assert_eq!(
            named_after(Path::new("a/x.flent.json"), "weir+pi2"),
            Path::new("a/x-weir+pi2.flent.json")
        );
        assert_eq!(named_after(Path::new("x"), "weir"), Path::new("x-weir"));
    }
}
