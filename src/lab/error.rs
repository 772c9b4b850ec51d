//! What can go wrong in the lab, each with the thing it went wrong on.

use std::io;
use std::path::PathBuf;

use crate::experiment::ExperimentError;

/// A result of a lab operation.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the lab: what was being done, on what, and what the kernel said.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// A system call or a file operation failed.
    #[error("cannot {action}")]
    #[diagnostic(code(weir::lab::os))]
    Os {
        /// What was attempted, with its object ("create the tap slow0").
        action: String,
        /// The errno.
        #[source]
        source: io::Error,
    },

    /// A netlink request was refused.
    #[error("cannot {action}")]
    #[diagnostic(code(weir::lab::netlink))]
    Netlink {
        /// What was attempted, with its object.
        action: String,
        /// The kernel's answer, with its extended text where it gave one.
        #[source]
        source: Box<rtnetlink::Error>,
    },

    /// The lab needs root: network namespaces and tap devices.
    #[error("the lab needs root (it makes network namespaces and tap devices)")]
    #[diagnostic(code(weir::lab::not_root), help("run it with sudo, or as root"))]
    NotRoot,

    /// A program the lab runs in a namespace failed.
    #[error("`{command}` failed: {stderr}")]
    #[diagnostic(code(weir::lab::command))]
    Command {
        /// The command line.
        command: String,
        /// What it wrote to its standard error.
        stderr: String,
    },

    /// The experiment asks for something that only the simulator can do.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Experiment(Box<ExperimentError>),

    /// A contender named in the experiment or on the command line does not exist.
    #[error("no contender is called `{name}`")]
    #[diagnostic(code(weir::lab::contender), help("the contenders are: {known}"))]
    UnknownContender {
        /// The name that was asked for.
        name: String,
        /// The names that exist.
        known: String,
    },

    /// A contender could not be attached, for a reason that is not a lack of the kernel.
    #[error("the contender `{name}` cannot run: {reason}")]
    #[diagnostic(code(weir::lab::attach))]
    Contender {
        /// Which contender.
        name: String,
        /// Why, with the causes in one line.
        reason: String,
    },

    /// A traffic flow could not run.
    #[error("the flow {flow} failed")]
    #[diagnostic(code(weir::lab::flow))]
    Flow {
        /// Which flow ("tcp 0 (cubic)").
        flow: String,
        /// The errno of the socket.
        #[source]
        source: io::Error,
    },

    /// A flow's congestion control is not there.
    #[error("this kernel has no congestion control called `{name}`")]
    #[diagnostic(code(weir::lab::congestion), help("it has: {available}"))]
    Congestion {
        /// The name in the experiment.
        name: String,
        /// The names the kernel offers.
        available: String,
    },

    /// Frames were still under way long after the senders had stopped.
    #[error("the link did not fall idle within {seconds} s after the senders stopped")]
    #[diagnostic(code(weir::lab::drain))]
    NotDrained {
        /// How long the lab waited.
        seconds: u64,
    },

    /// Ctrl-C or SIGTERM arrived.
    #[error("interrupted; everything the lab made has been removed")]
    #[diagnostic(code(weir::lab::interrupted))]
    Interrupted,

    /// No lab topology is up, or its state file cannot be used.
    #[error("no lab is up ({path}: {reason})")]
    #[diagnostic(code(weir::lab::state), help("`weir lab up FILE` starts one"))]
    NotUp {
        /// The state file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A lab topology is up already.
    #[error("a lab is up already, held by process {pid}")]
    #[diagnostic(code(weir::lab::state), help("`weir lab down` removes it"))]
    AlreadyUp {
        /// The process that holds it.
        pid: u32,
    },

    /// The process that should hold the topology gave up.
    #[error("the process that holds the lab could not start: {reason}")]
    #[diagnostic(code(weir::lab::state))]
    Hold {
        /// What it said.
        reason: String,
    },
}

impl Error {
    /// A contender's failure, with its causes. Of a verifier's log the end is kept, where the reason stands.
    pub fn contender(name: &str, error: &dyn std::error::Error) -> Self {
        Self::Contender { name: name.to_owned(), reason: shortened(&with_causes(error)) }
    }

    /// The error of an I/O operation, as a closure for `map_err`.
    pub fn os(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Os { action, source }
    }

    /// The error of a system call made through `nix`, as a closure for `map_err`.
    pub fn errno(action: impl Into<String>) -> impl FnOnce(nix::Error) -> Self {
        let action = action.into();
        move |errno| Self::Os { action, source: io::Error::from(errno) }
    }

    /// The error of a netlink request, as a closure for `map_err`.
    pub fn netlink(action: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let action = action.into();
        move |source| Self::Netlink { action, source: Box::new(source) }
    }
}

/// An error and what caused it, in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

/// The first line of `text` and its last dozen.
fn shortened(text: &str) -> String {
    const KEPT: usize = 12;
    let lines: Vec<&str> = text.lines().collect();
    match (lines.first(), lines.get(lines.len().saturating_sub(KEPT)..)) {
        (Some(first), Some(last)) if lines.len() > KEPT + 2 => {
            format!("{first}\n[{} lines]\n{}", lines.len() - KEPT - 1, last.join("\n"))
        }
        _ => text.to_owned(),
    }
}
