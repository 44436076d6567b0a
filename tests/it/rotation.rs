//! Moving to another master key while everything is served.

mod aws;
mod command_line;
mod keyring;
mod online;
mod retired;
mod rewrap;
mod sealed_rows;
mod verify;
