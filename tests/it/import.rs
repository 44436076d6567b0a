//! Moving in from the TypeScript vault.

mod again;
mod command_line;
mod developers;
mod ids;
mod outcomes;
mod source;

pub(crate) use source::{KEY, Source};
