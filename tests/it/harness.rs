//! What every scenario stands on: a server with a clock, a KMS and an issuer that the test controls.
//!
//! Everything is started by the tests themselves and ends with their process.

mod authority;
mod certificates;
mod client;
mod clock;
mod collector;
mod grpc;
mod issuer;
mod kms;
mod log;
mod moto;
mod postgres;
mod process;
mod proxy;
mod raw_grpc;
mod raw_http;
mod rest;
mod server;

use std::time::Duration;

pub(crate) use authority::{Granted, Grantex, Realm};
pub(crate) use certificates::{Authority, Certificates, Issued, Trust};
pub(crate) use client::{Answer, Client, Problem, Via};
pub(crate) use clock::ManualClock;
pub(crate) use collector::{Collector, attributes, hex};
pub(crate) use grpc::{problem, store_request};
pub(crate) use issuer::{FakeIssuer, SigningKey};
pub(crate) use kms::{FakeKms, KeyState, Trouble};
pub(crate) use log::Log;
pub(crate) use moto::Moto;
pub(crate) use postgres::{Cluster, binaries, connect};
pub(crate) use process::{
    Dev, FREE_PORTS, Process, instance_directory, node, print, python, python_program, run,
    run_between, run_with, unread,
};
pub(crate) use proxy::RecordingProxy;
pub(crate) use raw_grpc::{RawCall, RawGrpcAnswer, framed, gzipped};
pub(crate) use raw_http::{connect_from, raw};
pub(crate) use rest::answer;
pub(crate) use server::{ISSUER, Server, Setup, Tenant};

/// How long anything that a test waits for may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let holds = async {
        while !condition().await {
            ticks.tick().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, holds).await;
    assert!(waited.is_ok(), "waited in vain until {what}");
}
