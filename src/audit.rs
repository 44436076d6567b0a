//! Proof: every verb on a credential leaves an event, durable before anything secret leaves.

pub mod event;
pub mod journal;
