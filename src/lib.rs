//! QoS and AQM at the egress hook of XDP, for Linux routers that forward with `XDP_REDIRECT`.
//!
//! The daemon's library: configuration, datapath control, telemetry, experiments and the lab. The decisions themselves live in
//! `weir-aqm`, `weir-ingress` and `weir-egress`; the bytes shared with the kernel in `weir-shared-maps`.

pub mod cli;
pub mod config;
pub mod datapath;
pub mod experiment;
pub mod lab;
pub mod report;
pub mod simulate;
pub mod telemetry;
