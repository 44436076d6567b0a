//! The call that reads the audit record.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    convert,
    pb::{ListAuditEventsRequest, ListAuditEventsResponse, audit_service_server::AuditService},
    service::answer,
};
use crate::vault::{KnownDeveloper, Vault};

pub(super) struct AuditGrpc {
    vault: Arc<Vault>,
}

impl AuditGrpc {
    pub(super) fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }
}

#[tonic::async_trait]
impl AuditService for AuditGrpc {
    async fn list_audit_events(
        &self,
        request: Request<ListAuditEventsRequest>,
    ) -> Result<Response<ListAuditEventsResponse>, Status> {
        answer(request, async |caller: KnownDeveloper, message| {
            let (filter, paging) = convert::audit_query(message)?;
            self.vault
                .audit_events(&caller, &filter, &paging)
                .await
                .map(convert::events)
        })
        .await
    }
}
