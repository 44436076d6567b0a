//! Moving to another master key while everything is served.

mod aws;
mod command_line;
mod keyring;
mod online;
mod retired;
mod rewrap;
mod sealed_rows;
mod verify;

use grantex_vault::{
    app,
    model::sealed::MasterKeyId,
    operator::{KnownOperator, OperatorError},
    store::{Store, authority::Authority},
};

/// Retires a master key as an operator does at a command line.
async fn retire(
    store: &Store,
    primary: &MasterKeyId,
    id: &MasterKeyId,
) -> Result<(), OperatorError> {
    let operations = app::operations(store.clone(), Authority::Standalone, None);
    let by = KnownOperator::at_the_command_line(0);
    operations.retire_master_key(&by, primary, id).await
}
