//! Audit: proof of what was asked and of what left.

pub mod canonical;
pub mod event;
pub mod export;
pub mod finding;
mod group_commit;
pub mod journal;
pub mod merkle;
pub mod prune;
pub mod seal;
pub mod sealer;
pub mod verify;
mod window;
