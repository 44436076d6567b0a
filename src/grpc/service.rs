//! The calls of the vault.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    convert,
    pb::{
        DeleteCredentialRequest, DeleteCredentialResponse, ExchangeCredentialRequest,
        ExchangeCredentialResponse, GetCredentialRequest, GetCredentialResponse,
        ListCredentialsRequest, ListCredentialsResponse, StoreCredentialRequest,
        StoreCredentialResponse, vault_service_server::VaultService,
    },
    status,
};
use crate::vault::{KnownAgent, KnownDeveloper, Vault, VaultError};

pub(super) struct VaultGrpc {
    vault: Arc<Vault>,
}

impl VaultGrpc {
    pub(super) fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }
}

#[tonic::async_trait]
impl VaultService for VaultGrpc {
    async fn store_credential(
        &self,
        request: Request<StoreCredentialRequest>,
    ) -> Result<Response<StoreCredentialResponse>, Status> {
        answer(request, async |caller: KnownDeveloper, message| {
            let draft = convert::draft(message)?;
            self.vault
                .store(&caller, draft)
                .await
                .map(|stored| convert::stored(&stored))
        })
        .await
    }

    async fn list_credentials(
        &self,
        request: Request<ListCredentialsRequest>,
    ) -> Result<Response<ListCredentialsResponse>, Status> {
        answer(request, async |caller: KnownDeveloper, message| {
            let (filter, paging) = convert::list_query(message)?;
            self.vault
                .list(&caller, &filter, &paging)
                .await
                .map(|listing| convert::listing(&listing))
        })
        .await
    }

    async fn get_credential(
        &self,
        request: Request<GetCredentialRequest>,
    ) -> Result<Response<GetCredentialResponse>, Status> {
        answer(request, async |caller: KnownDeveloper, message| {
            let credential = self.vault.get(&caller, &message.id).await?;
            Ok(GetCredentialResponse {
                credential: Some(convert::credential(&credential)),
            })
        })
        .await
    }

    async fn delete_credential(
        &self,
        request: Request<DeleteCredentialRequest>,
    ) -> Result<Response<DeleteCredentialResponse>, Status> {
        answer(request, async |caller: KnownDeveloper, message| {
            self.vault.delete(&caller, &message.id).await?;
            Ok(DeleteCredentialResponse {})
        })
        .await
    }

    async fn exchange_credential(
        &self,
        request: Request<ExchangeCredentialRequest>,
    ) -> Result<Response<ExchangeCredentialResponse>, Status> {
        answer(request, async |agent: KnownAgent, message| {
            self.vault
                .exchange(&agent, &message.service)
                .await
                .map(convert::exchanged)
        })
        .await
    }
}

/// Runs a call for its caller and turns its failure into a status; the one place where the failure of
/// a call is logged.
pub(super) async fn answer<Caller, In, Out>(
    request: Request<In>,
    call: impl AsyncFnOnce(Caller, In) -> Result<Out, VaultError>,
) -> Result<Response<Out>, Status>
where
    Caller: Send + Sync + Clone + 'static,
{
    let (_, mut extensions, message) = request.into_parts();
    let context = *extensions
        .get()
        .expect("the listener gives every request its context");
    let caller = extensions.remove();
    let caller = caller.expect("no call of the vault is made by an unknown caller");
    call(caller, message)
        .await
        .map(Response::new)
        .map_err(|error| {
            error.log(context);
            status::from_vault(&error, context)
        })
}
