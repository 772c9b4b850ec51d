//! `weir import`: configurations of other programs, as far as weir has the same notion.
//!
//! What is printed is a whole configuration that `weir check` accepts; what cannot be carried over stands in it as a comment.

mod shaped_devices;
mod sqm;
mod text;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use miette::Diagnostic;

use super::Error;
use crate::config::{Config, ConfigError};

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// LibreQoS's ShapedDevices.csv
    ShapedDevices,
    /// The UCI file of sqm-scripts, /etc/config/sqm
    Sqm,
}

/// Why a file could not be imported.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum ImportError {
    /// The file is missing, unreadable, or no text.
    #[error("{path}: cannot be read")]
    #[diagnostic(code(weir::import::unreadable))]
    Unreadable {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Neither of the formats.
    #[error("{path}: is neither a ShapedDevices.csv nor a UCI file of sqm-scripts")]
    #[diagnostic(
        code(weir::import::format),
        help("say which one it is: --format shaped-devices or --format sqm")
    )]
    UnknownFormat {
        /// The path as given.
        path: PathBuf,
    },
    /// Lines that mean nothing, or nothing that weir could do.
    #[error("{}", lines(path, problems))]
    #[diagnostic(code(weir::import::lines), help("nothing was written"))]
    Lines {
        /// The path as given.
        path: PathBuf,
        /// What is wrong, by line.
        problems: Vec<LineProblem>,
    },
    /// The file means something that weir refuses.
    #[error("{path}: what it means is no valid configuration")]
    #[diagnostic(
        code(weir::import::invalid),
        help("nothing was written; correct the file, names are those that it has")
    )]
    Invalid {
        /// The path as given.
        path: PathBuf,
        /// What is wrong with the result.
        #[source]
        #[diagnostic_source]
        source: ConfigError,
    },
    /// The list of subscribers could not be written.
    #[error("{path}: cannot be written")]
    #[diagnostic(code(weir::import::unwritable))]
    Unwritable {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// One line that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineProblem {
    /// From 1.
    pub line: u64,
    /// What is wrong with it.
    pub what: String,
}

/// Problems that are shown.
const MOST_PROBLEMS: usize = 20;

fn lines(path: &Path, problems: &[LineProblem]) -> String {
    let shown = problems.iter().take(MOST_PROBLEMS);
    let lines: Vec<String> =
        shown.map(|problem| format!("{}:{}: {}", path.display(), problem.line, problem.what)).collect();
    lines.join("\n")
}

/// What an importer makes of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Imported {
    /// The configuration without its subscribers.
    config: String,
    /// Name, prefixes and plan of each subscriber.
    subscribers: Vec<[String; 3]>,
}

/// Reads `file` and writes a configuration to `out`; its subscribers to `csv` where that is given.
pub(super) fn run(
    file: &Path,
    format: Option<Format>,
    csv: Option<&Path>,
    out: &mut impl Write,
) -> Result<(), Error> {
    let path = || file.to_owned();
    let text =
        std::fs::read_to_string(file).map_err(|source| ImportError::Unreadable { path: path(), source })?;
    let format =
        format.or_else(|| guess(&text)).ok_or_else(|| ImportError::UnknownFormat { path: path() })?;
    let imported = match format {
        Format::ShapedDevices => shaped_devices::import(&text),
        Format::Sqm => sqm::import(&text),
    };
    let imported = imported.map_err(|problems| ImportError::Lines { path: path(), problems })?;
    let (config, list) = match csv {
        Some(csv) if !imported.subscribers.is_empty() => {
            (text::with_list(&imported, csv), Some((csv, text::list(&imported.subscribers))))
        }
        Some(_) | None => (text::with_tables(&imported), None),
    };
    let read_list = |_: &Path| Ok(list.as_ref().map(|(_, list)| list.clone()).unwrap_or_default());
    Config::from_toml_str_with(&file.display().to_string(), &config, &read_list)
        .map_err(|source| ImportError::Invalid { path: path(), source })?;
    if let Some((csv, list)) = &list {
        std::fs::write(csv, list)
            .map_err(|source| ImportError::Unwritable { path: csv.to_path_buf(), source })?;
    }
    out.write_all(config.as_bytes())?;
    Ok(())
}

/// Tells the formats apart by their first line that says anything.
fn guess(text: &str) -> Option<Format> {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    if first.starts_with("config ") {
        Some(Format::Sqm)
    } else if first.contains("Circuit ID") {
        Some(Format::ShapedDevices)
    } else {
        None
    }
}
