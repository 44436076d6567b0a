//! Moving to another master key while everything is served.

mod retired;
