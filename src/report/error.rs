//! Why a report could not be drawn.

/// The drawing library failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("cannot draw the picture \"{picture}\": {reason}")]
#[diagnostic(code(weir::report::draw))]
pub struct Error {
    /// Which picture.
    pub picture: &'static str,
    /// What the drawing library said.
    pub reason: String,
}
