//! Audit: proof of what was asked and of what left.

pub mod canonical;
pub mod event;
pub mod journal;
