//! `weir lab`: experiments on this machine, in namespaces of their own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use miette::Diagnostic;

use crate::experiment::{Experiment, ExperimentError, contender, units};
use crate::lab::{self, HeldLab, Host, Observer, Progress, Stop};
use crate::report::{self, Report, Run, Skipped};

/// Run an experiment on the real kernel, or keep its hosts for other tools
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct LabArgs {
    #[command(subcommand)]
    command: Option<LabCommand>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The experiment file (TOML, see docs/experiment.md)
    #[arg(value_name = "FILE", required = true)]
    file: Option<PathBuf>,
    /// Write the results as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write one self-contained page with plots to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the plot of delay over time as SVG to this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Run only this contender, even if the file does not name it (may be repeated)
    #[arg(long, value_name = "CONTENDER")]
    only: Vec<String>,
    /// Run for this long instead of the file's duration ("10s")
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    duration: Option<Duration>,
    /// No progress bar and no table
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum LabCommand {
    /// Bring the hosts of an experiment up and keep them
    Up(HoldArgs),
    /// Run a command on a host that is up
    Exec {
        /// sender, router or receiver
        host: Host,
        /// The command with its arguments
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Remove the hosts that are up
    Down,
    /// Hold the hosts until a signal comes (what `up` starts in the background)
    #[command(hide = true)]
    Hold(HoldArgs),
}

#[derive(Debug, Args)]
struct HoldArgs {
    /// The experiment file
    file: PathBuf,
    /// Who forwards
    #[arg(long, default_value = "kernel")]
    contender: String,
}

/// Why `weir lab` failed.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum LabError {
    /// The experiment file is wrong.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Experiment(#[from] Box<ExperimentError>),
    /// The lab failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lab(#[from] lab::Error),
    /// A report could not be drawn.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Report(#[from] report::Error),
    /// No contender has the name.
    #[error("{rule}")]
    #[diagnostic(code(weir::lab::contender))]
    Contender {
        /// The rule, with the names there are.
        rule: String,
    },
    /// A contender should have run and could not; the reports of the others are complete.
    #[error("the contender {names} could not run, see above")]
    #[diagnostic(code(weir::lab::failed))]
    Failed {
        /// Which, separated by commas.
        names: String,
    },
    /// A report could not be written.
    #[error("cannot write {path}")]
    #[diagnostic(code(weir::lab::output))]
    Output {
        /// The file, or the standard output.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl LabError {
    /// 2 for what was asked wrongly, 130 after a signal, 1 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Experiment(_)
            | Self::Contender { .. }
            | Self::Lab(
                lab::Error::Experiment(_)
                | lab::Error::UnknownContender { .. }
                | lab::Error::Congestion { .. },
            ) => ExitCode::from(2),
            Self::Lab(lab::Error::Interrupted) => ExitCode::from(130),
            Self::Lab(_) | Self::Report(_) | Self::Failed { .. } | Self::Output { .. } => ExitCode::FAILURE,
        }
    }
}

/// Runs `weir lab` as `args` say; the status is that of the command for `lab exec`, and success otherwise.
///
/// # Errors
/// [`LabError`]; nothing that the lab made is left behind.
pub fn run(args: LabArgs) -> Result<ExitCode, LabError> {
    match args.command {
        None => run_experiment(&args.run),
        Some(LabCommand::Up(hold)) => up(&hold),
        Some(LabCommand::Hold(hold)) => {
            lab::hold(&Experiment::load(&hold.file)?, &hold.contender)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(LabCommand::Exec { host, command }) => {
            let status = lab::exec(host, &command)?;
            // A command that a signal ended has no status of its own.
            let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            Ok(ExitCode::from(code))
        }
        Some(LabCommand::Down) => {
            let held = lab::take_down()?;
            print(&format!("{} is down\n", held.experiment))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn up(args: &HoldArgs) -> Result<ExitCode, LabError> {
    // Checked here as well, so that a wrong file is shown as one.
    Experiment::load(&args.file)?.check_for_lab()?;
    let HeldLab { pid, experiment, contender, hosts, .. } = lab::bring_up(&args.file, &args.contender)?;
    let mut text = format!("{experiment} is up with {contender}, held by process {pid}\n");
    for host in &hosts {
        text.push_str(&format!("  {:<9} {:<20} {}\n", host.host, host.namespace, host.addresses.join(", ")));
    }
    text.push_str("weir lab exec HOST -- COMMAND runs a command there; weir lab down removes everything\n");
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn run_experiment(args: &RunArgs) -> Result<ExitCode, LabError> {
    // The argument is required: clap has refused the command line without it.
    let file = args.file.as_deref().unwrap_or(Path::new(""));
    let mut experiment = Experiment::load(file)?;
    if !args.only.is_empty() {
        for name in &args.only {
            if let Err(unknown) = contender::check(name) {
                return Err(LabError::Contender { rule: unknown });
            }
        }
        experiment.contenders.clone_from(&args.only);
    }
    if let Some(duration) = args.duration {
        experiment.set_duration(duration);
    }
    let stop = Stop::on_signals()?;
    let report = if args.quiet {
        lab::run(&experiment, &stop, &mut ())?
    } else {
        lab::run(&experiment, &stop, &mut Bar::new(experiment.duration))?
    };
    if !args.quiet {
        print(&report::table(&report))?;
    }
    write_reports(args, &report)?;
    if report.failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let names: Vec<&str> = report.failed.iter().map(|failed| failed.contender.as_str()).collect();
    Err(LabError::Failed { names: names.join(", ") })
}

fn write_reports(args: &RunArgs, report: &Report) -> Result<(), LabError> {
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(report)
            .map_err(|error| LabError::Output { path: path.display().to_string(), source: error.into() })?;
        write_file(path, &(text + "\n"))?;
    }
    if let Some(path) = &args.html {
        write_file(path, &report::html(report)?)?;
    }
    if let Some(path) = &args.svg {
        write_file(path, &report::svg(report, report::Picture::DelayOverTime, 960, 420)?)?;
    }
    Ok(())
}

fn write_file(path: &Path, text: &str) -> Result<(), LabError> {
    std::fs::write(path, text).map_err(|source| LabError::Output { path: path.display().to_string(), source })
}

fn print(text: &str) -> Result<(), LabError> {
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .map_err(|source| LabError::Output { path: "the standard output".to_owned(), source })
}

/// A progress bar on standard error, where that is a terminal.
struct Bar {
    bar: ProgressBar,
    duration: Duration,
}

impl Bar {
    fn new(duration: Duration) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        // The template is a constant; if it were wrong, the default bar would be shown.
        if let Ok(style) = ProgressStyle::with_template("{prefix:>16} {bar:32} {msg}") {
            bar.set_style(style);
        }
        Self { bar, duration }
    }
}

impl Observer for Bar {
    fn progress(&mut self, progress: Progress<'_>) {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let index = u32::try_from(progress.index).unwrap_or(u32::MAX);
        let count = u32::try_from(progress.count).unwrap_or(u32::MAX);
        self.bar.set_length(millis(self.duration.saturating_mul(count)));
        self.bar.set_position(millis(self.duration.saturating_mul(index).saturating_add(progress.elapsed)));
        self.bar.set_prefix(progress.contender.to_owned());
        self.bar.set_message(format!(
            "{} of {count}, {} s, {} kB arrived",
            progress.index + 1,
            progress.elapsed.as_secs(),
            progress.payload_bytes / 1_000
        ));
    }

    fn ran(&mut self, run: &Run) {
        self.bar.println(format!("{} ran", run.contender));
    }

    fn skipped(&mut self, skipped: &Skipped) {
        self.bar.println(format!("{} skipped: {}", skipped.contender, skipped.reason));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
