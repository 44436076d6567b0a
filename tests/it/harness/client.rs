//! One client for both transports: it asks in REST's words and answers in REST's shapes.

use serde_json::Value;

use super::{Server, grpc, rest};

/// Through which door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Rest,
    Grpc,
}

impl Via {
    pub(crate) const BOTH: [Self; 2] = [Self::Rest, Self::Grpc];
}

/// What a verb answers, as REST's JSON; `null` where there is no body.
pub(crate) type Answer = Result<Value, Problem>;

/// An error, from either transport. What every error must carry was checked when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: String,
    pub(crate) message: String,
    /// The HTTP status; for gRPC the one that stands in the contract beside its code.
    pub(crate) status: u16,
    pub(crate) request_id: String,
    /// Seconds.
    pub(crate) retry_after: Option<u64>,
    /// The field of the violation; gRPC only.
    pub(crate) field: Option<String>,
}

impl Problem {
    /// Status, code and message: what both transports have alike.
    pub(crate) fn says(&self) -> (u16, &str, &str) {
        (self.status, &self.code, &self.message)
    }
}

/// Somebody who calls the vault.
#[derive(Clone)]
pub(crate) struct Client<'a> {
    pub(crate) server: &'a Server,
    pub(crate) via: Via,
    pub(crate) authorization: Option<String>,
}

impl Client<'_> {
    /// Stores: the fields as REST names them.
    pub(crate) async fn store(&self, fields: Value) -> Answer {
        match self.via {
            Via::Rest => rest::store(self, fields).await,
            Via::Grpc => grpc::store(self, fields).await,
        }
    }

    /// Stores what can be stored, `accessToken` being `token`.
    pub(crate) async fn store_token(&self, principal: &str, service: &str, token: &str) -> Value {
        let fields = serde_json::json!({
            "principalId": principal, "service": service, "accessToken": token,
        });
        self.store(fields).await.expect("it can be stored")
    }

    /// Lists everything, page by page over gRPC.
    pub(crate) async fn list(&self) -> Answer {
        self.list_where(serde_json::json!({})).await
    }

    /// Lists with a query: `principalId`, `service`, `pageSize`, `pageToken`.
    pub(crate) async fn list_where(&self, query: Value) -> Answer {
        match self.via {
            Via::Rest => rest::list(self, query).await,
            Via::Grpc => grpc::list(self, query).await,
        }
    }

    pub(crate) async fn get(&self, id: &str) -> Answer {
        match self.via {
            Via::Rest => rest::get(self, id).await,
            Via::Grpc => grpc::get(self, id).await,
        }
    }

    pub(crate) async fn delete(&self, id: &str) -> Answer {
        match self.via {
            Via::Rest => rest::delete(self, id).await,
            Via::Grpc => grpc::delete(self, id).await,
        }
    }

    /// Lists audit events with a query: the parameters as REST names them.
    pub(crate) async fn audit_events(&self, query: Value) -> Answer {
        match self.via {
            Via::Rest => rest::audit_events(self, query).await,
            Via::Grpc => grpc::audit_events(self, query).await,
        }
    }

    pub(crate) async fn exchange(&self, service: &str) -> Answer {
        match self.via {
            Via::Rest => rest::exchange(self, service).await,
            Via::Grpc => grpc::exchange(self, service).await,
        }
    }
}
