//! A credential vault for AI agents. `ARCHITECTURE.md` says what is where and why.

pub mod audit;
pub mod auth;
pub mod clock;
pub mod envelope;
pub mod model;
pub mod store;
