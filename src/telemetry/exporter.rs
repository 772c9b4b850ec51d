//! The Prometheus exporter: an HTTP listener that renders what [`super::publish()`] set.

use std::net::SocketAddr;

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder};
use thiserror::Error;

/// The exporter could not be started.
#[derive(Debug, Error)]
#[error("metrics cannot be served on {listen}")]
pub struct ExporterError {
    /// The configured address.
    pub listen: SocketAddr,
    /// Why: the address is taken or not this machine's, or a recorder is installed already.
    pub source: BuildError,
}

/// Installs the process's recorder and serves it. Call within a tokio runtime, once.
///
/// # Errors
///
/// The address cannot be bound, or the process has a recorder already.
pub fn serve(listen: SocketAddr) -> Result<(), ExporterError> {
    PrometheusBuilder::new()
        .with_http_listener(listen)
        .install()
        .map_err(|source| ExporterError { listen, source })?;
    super::publish::describe();
    Ok(())
}
