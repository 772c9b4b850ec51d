//! The command line. One module for each subcommand, which returns what it has to say or why it failed.
//!
//! | exit status | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed at run time: a device, the kernel, a permission |
//! | 2 | refused: the configuration or the command line is wrong, and nothing was touched |
//!
//! `weir lab` and `weir sim` add 130 after an interrupt, and `weir lab exec` has the status of the command it ran.

mod check;
mod import;
pub mod lab;
mod policy;
mod probe;
mod reload;
mod run;
pub mod sim;
mod status;
mod subscriber;
mod table;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};

use self::lab::{LabArgs, LabError};
use self::sim::{SimArgs, SimError};
use crate::config::{ConfigError, DEFAULT_INSTANCE, InstanceName, NameError};
use crate::datapath::{self, StartOptions};
use crate::telemetry::ExporterError;

/// QoS and AQM at the egress hook of XDP, with backpressure signalling
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    after_help = "Exit status: 0 done; 1 failed at run time; 2 configuration or command line refused, nothing touched."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Attach to the devices of a configuration file and run until SIGINT or SIGTERM
    Run(RunArgs),
    /// Check a configuration file and say what it means; touches nothing, needs no privileges
    Check(ConfigArgs),
    /// Apply a changed list of subscribers and plans to the running instance; refused where anything else changed
    Reload(ConfigArgs),
    /// Print a configuration made from LibreQoS's ShapedDevices.csv or the UCI file of sqm-scripts
    Import(ImportArgs),
    /// Show what a running instance does, read back from its maps
    Status(StatusArgs),
    /// Show what the devices here can do: native XDP, redirect target, readable TX ring
    Probe(ProbeArgs),
    /// Run an experiment on the real kernel, or keep its hosts for other tools
    Lab(LabArgs),
    /// Run an experiment in the simulator: no privileges, no kernel, the same result each time
    Sim(SimArgs),
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// The configuration file (TOML, see docs/config.md)
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Leave programs and maps in place at the end: forwarding and shaping go on
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Show one subscriber, by name or by one of its addresses
    #[arg(long, value_name = "NAME|ADDRESS")]
    subscriber: Option<String>,
    /// Which instance, as named in its configuration file
    #[arg(long, value_name = "NAME", default_value = DEFAULT_INSTANCE, value_parser = instance_name)]
    instance: InstanceName,
}

#[derive(Debug, Args)]
struct ImportArgs {
    /// The file to read
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What the file is; told from its contents where it is not said
    #[arg(long, value_enum)]
    format: Option<import::Format>,
    /// Write the subscribers to this CSV file instead of into the configuration
    #[arg(long, value_name = "OUT")]
    csv: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ProbeArgs {
    /// Devices; all of this network namespace where none is named
    #[arg(value_name = "DEVICE")]
    devices: Vec<String>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

fn instance_name(name: &str) -> Result<InstanceName, NameError> {
    InstanceName::new(name)
}

/// Why a subcommand failed.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum Error {
    /// The configuration was refused.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] ConfigError),
    /// A file of another program could not be imported.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Import(#[from] import::ImportError),
    /// Nobody has this name or address.
    #[error("no subscriber has the name or address {asked}")]
    #[diagnostic(code(weir::cli::no_subscriber), help("names are those of the configuration that runs"))]
    NoSubscriber {
        /// What was asked for.
        asked: String,
    },
    /// An experiment failed or was refused.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lab(#[from] LabError),
    /// A simulated experiment failed or was refused.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Sim(#[from] SimError),
    /// The devices could not be prepared, attached, read or released.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Datapath(#[from] datapath::Error),
    /// The metrics exporter could not be started.
    #[error(transparent)]
    #[diagnostic(code(weir::cli::metrics), help("choose another metrics.listen, or stop what listens there"))]
    Exporter(#[from] ExporterError),
    /// The runtime or its signal handlers could not be set up.
    #[error("the asynchronous runtime cannot be started")]
    #[diagnostic(code(weir::cli::runtime))]
    Runtime(#[source] std::io::Error),
    /// Standard output is closed or full.
    #[error("standard output cannot be written")]
    #[diagnostic(code(weir::cli::output))]
    Output(#[from] std::io::Error),
}

impl Error {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Import(_) => ExitCode::from(2),
            Self::Datapath(datapath::Error::ReloadRefused { .. } | datapath::Error::NoRoom { .. }) => {
                ExitCode::from(2)
            }
            Self::Lab(error) => error.exit_code(),
            Self::Sim(error) => error.exit_code(),
            Self::NoSubscriber { .. }
            | Self::Datapath(_)
            | Self::Exporter(_)
            | Self::Runtime(_)
            | Self::Output(_) => ExitCode::FAILURE,
        }
    }
}

/// Parses the command line, runs the subcommand, shows its error and returns the exit status.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // A closed terminal is no reason to fail differently.
            let _ = usage.print();
            return ExitCode::from(if usage.use_stderr() { 2 } else { 0 });
        }
    };
    run_command(cli.command).unwrap_or_else(|error| {
        show(&error);
        error.exit_code()
    })
}

fn run_command(command: Command) -> Result<ExitCode, Error> {
    let out = &mut std::io::stdout();
    match command {
        Command::Run(args) => {
            let options = StartOptions { keep: args.keep, ..StartOptions::default() };
            run::run(&args.config.config, &options, out)?;
        }
        Command::Check(args) => check::run(&args.config, out)?,
        Command::Reload(args) => reload::run(&args.config, out)?,
        Command::Import(args) => import::run(&args.file, args.format, args.csv.as_deref(), out)?,
        Command::Status(args) => match &args.subscriber {
            Some(asked) => subscriber::run(args.instance.as_str(), asked, args.json, out)?,
            None => status::run(args.instance.as_str(), args.json, out)?,
        },
        Command::Probe(args) => probe::run(&args.devices, args.json, out)?,
        Command::Lab(args) => return Ok(lab::run(args)?),
        Command::Sim(args) => sim::run(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows an error on standard error: drawn for a terminal, without wrapping for a log or a pipe.
fn show(error: &dyn Diagnostic) {
    let stderr = std::io::stderr();
    let handler = if stderr.is_terminal() {
        GraphicalReportHandler::new()
    } else {
        GraphicalReportHandler::new_themed(GraphicalTheme::none()).with_wrap_lines(false)
    };
    let mut text = String::new();
    // What cannot be drawn is said plainly.
    if handler.render_report(&mut text, error).is_err() {
        text = format!("{error}\n");
    }
    let _ = stderr.lock().write_all(text.as_bytes());
}
