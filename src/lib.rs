//! A credential vault for AI agents. `ARCHITECTURE.md` says what is where and why.

pub mod admin;
pub mod app;
pub mod audit;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dev;
pub mod doctor;
pub mod envelope;
pub mod gateway;
pub mod grpc;
pub mod health;
pub mod import;
pub mod limits;
pub mod listener;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod pace;
pub mod rotation;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod underway;
pub mod vault;
