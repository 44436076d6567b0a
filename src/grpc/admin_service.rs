//! The calls of operators, each after its login.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{Request as HttpRequest, State},
    middleware::Next,
    response::Response as HttpResponse,
};
use http::{HeaderValue, header::AUTHORIZATION};
use tokio::time::timeout;
use tonic::{Request, Response, Status, metadata::MetadataValue};

use super::{
    admin_convert as convert,
    pb::admin::{
        CreateApiKeyRequest, CreateApiKeyResponse, CreateDeveloperRequest, CreateDeveloperResponse,
        DeleteDeveloperRequest, DeleteDeveloperResponse, ListApiKeysRequest, ListApiKeysResponse,
        ListDevelopersRequest, ListDevelopersResponse, ListMasterKeysRequest,
        ListMasterKeysResponse, ListRevocationsRequest, ListRevocationsResponse,
        PurgeDataKeysRequest, PurgeDataKeysResponse, ResumeDeveloperRequest,
        ResumeDeveloperResponse, RevokeApiKeyRequest, RevokeApiKeyResponse, RevokeGrantRequest,
        RevokeGrantResponse, RevokeTokenRequest, RevokeTokenResponse, SuspendDeveloperRequest,
        SuspendDeveloperResponse, admin_service_server::AdminService,
    },
    status,
};
use crate::{
    clock::Clock,
    model::{
        bearer::bearer,
        cause::chain,
        certificate::ClientCertificate,
        request::{KnownCaller, Operation, RequestContext},
    },
    operator::{Keys, KnownOperator, Operations, OperatorError, OperatorLogin},
};

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(45);

/// What operators are served with.
pub struct AdminGrpc {
    /// What they can do.
    pub operations: Operations,
    /// The keys of this replica.
    pub keys: Keys,
    /// What they are known by.
    pub login: Arc<OperatorLogin>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl AdminGrpc {
    /// Runs an operation for an operator that is known, and writes its line in the log.
    async fn answer<In, Out>(
        &self,
        operation: Operation,
        request: Request<In>,
        call: impl AsyncFnOnce(&KnownOperator, In) -> Result<Out, OperatorError>,
    ) -> Result<Response<Out>, Status> {
        let started = Instant::now();
        let (_, mut extensions, message) = request.into_parts();
        let known: KnownOperator = extensions
            .remove()
            .expect("no call gets here before its login");
        let context = known.request();
        let answered = timeout(TIMEOUT, call(&known, message)).await;
        let answered = match answered {
            Ok(Ok(answer)) => Ok(Response::new(answer)),
            Ok(Err(error)) => Err(refusal(&error, context)),
            Err(_) => Err(status::too_slow(context)),
        };
        log(operation, context, Some(&known), &answered, started);
        with_request_id(answered, context)
    }
}

/// Knows the operator of a request before anything of its body is read; who is not known gets no
/// further, not even to reflection.
pub(super) async fn log_in(
    State(login): State<Arc<OperatorLogin>>,
    mut request: HttpRequest,
    next: Next,
) -> HttpResponse {
    let started = Instant::now();
    let context: RequestContext = *request
        .extensions()
        .get()
        .expect("the listener gives every request its context");
    let certificate = request.extensions().get::<ClientCertificate>();
    let values = request.headers().get_all(AUTHORIZATION).iter();
    let presented = bearer(values.map(HeaderValue::as_bytes)).ok();
    match login.log_in(context, certificate, presented).await {
        Ok(known) => {
            request.extensions_mut().insert(known);
            let mut answer = next.run(request).await;
            answer.extensions_mut().insert(KnownCaller);
            answer
        }
        Err(error) => {
            let refused: Result<Response<()>, _> = Err(refusal(&error, context));
            log(Operation::LogIn, context, None, &refused, started);
            let refused = with_request_id(refused, context);
            let status = refused.expect_err("it is the refusal");
            status.into_http()
        }
    }
}

/// What an error answers; its cause is for the log.
fn refusal(error: &OperatorError, context: RequestContext) -> Status {
    if let Some(cause) = error.cause() {
        let cause = chain(cause);
        tracing::warn!(request_id = %context.id, cause, "unavailable");
    }
    status::from_operator(error, context)
}

fn log<Out>(
    operation: Operation,
    context: RequestContext,
    operator: Option<&KnownOperator>,
    answered: &Result<Response<Out>, Status>,
    started: Instant,
) {
    let code = answered
        .as_ref()
        .err()
        .map_or(0, |status| status.code() as i32);
    tracing::info!(
        target: "grantex_vault::operator",
        request_id = %context.id,
        operation = operation.as_str(),
        operator = operator.map(|known| known.name().as_str()),
        status = code,
        duration_ms = started.elapsed().as_secs_f64() * 1e3,
        "operator"
    );
}

fn with_request_id<Out>(
    answered: Result<Response<Out>, Status>,
    context: RequestContext,
) -> Result<Response<Out>, Status> {
    let id = MetadataValue::try_from(context.id.to_string()).expect("a UUID is visible characters");
    match answered {
        Ok(mut response) => {
            response.metadata_mut().insert("x-request-id", id);
            Ok(response)
        }
        Err(mut status) => {
            status.metadata_mut().insert("x-request-id", id);
            Err(status)
        }
    }
}

#[tonic::async_trait]
impl AdminService for AdminGrpc {
    async fn create_developer(
        &self,
        request: Request<CreateDeveloperRequest>,
    ) -> Result<Response<CreateDeveloperResponse>, Status> {
        self.answer(Operation::CreateDeveloper, request, async |by, message| {
            let developer = self.operations.create_developer(by, &message.name).await?;
            Ok(CreateDeveloperResponse {
                developer: Some(convert::developer(developer)),
            })
        })
        .await
    }

    async fn list_developers(
        &self,
        request: Request<ListDevelopersRequest>,
    ) -> Result<Response<ListDevelopersResponse>, Status> {
        self.answer(Operation::ListDevelopers, request, async |by, message| {
            let size = convert::page_size(message.page_size)?;
            let listed = self.operations.developers(by, size, &message.page_token);
            Ok(convert::developers(listed.await?))
        })
        .await
    }

    async fn suspend_developer(
        &self,
        request: Request<SuspendDeveloperRequest>,
    ) -> Result<Response<SuspendDeveloperResponse>, Status> {
        self.answer(Operation::SuspendDeveloper, request, async |by, message| {
            let developer = convert::developer_id(&message.developer_id)?;
            let changed = self.operations.suspend_developer(by, &developer).await?;
            Ok(SuspendDeveloperResponse { changed })
        })
        .await
    }

    async fn resume_developer(
        &self,
        request: Request<ResumeDeveloperRequest>,
    ) -> Result<Response<ResumeDeveloperResponse>, Status> {
        self.answer(Operation::ResumeDeveloper, request, async |by, message| {
            let developer = convert::developer_id(&message.developer_id)?;
            let changed = self.operations.resume_developer(by, &developer).await?;
            Ok(ResumeDeveloperResponse { changed })
        })
        .await
    }

    async fn delete_developer(
        &self,
        request: Request<DeleteDeveloperRequest>,
    ) -> Result<Response<DeleteDeveloperResponse>, Status> {
        self.answer(Operation::DeleteDeveloper, request, async |by, message| {
            let developer = convert::developer_id(&message.developer_id)?;
            let deleted = self.operations.delete_developer(by, &developer).await?;
            Ok(DeleteDeveloperResponse {
                deleted_credentials: i64::try_from(deleted).unwrap_or(i64::MAX),
            })
        })
        .await
    }

    async fn create_api_key(
        &self,
        request: Request<CreateApiKeyRequest>,
    ) -> Result<Response<CreateApiKeyResponse>, Status> {
        self.answer(Operation::CreateApiKey, request, async |by, message| {
            let developer = convert::developer_id(&message.developer_id)?;
            let new = convert::new_api_key(&developer, &message)?;
            let (key, row) = self.operations.create_api_key(by, &new).await?;
            Ok(CreateApiKeyResponse {
                key: key.expose().to_owned(),
                api_key: Some(convert::api_key(row, self.clock.now())),
            })
        })
        .await
    }

    async fn list_api_keys(
        &self,
        request: Request<ListApiKeysRequest>,
    ) -> Result<Response<ListApiKeysResponse>, Status> {
        self.answer(Operation::ListApiKeys, request, async |by, message| {
            let developer = convert::developer_id(&message.developer_id)?;
            let rows = self.operations.api_keys(by, &developer).await?;
            let now = self.clock.now();
            let api_keys = rows.into_iter().map(|row| convert::api_key(row, now));
            Ok(ListApiKeysResponse {
                api_keys: api_keys.collect(),
            })
        })
        .await
    }

    async fn revoke_api_key(
        &self,
        request: Request<RevokeApiKeyRequest>,
    ) -> Result<Response<RevokeApiKeyResponse>, Status> {
        self.answer(Operation::RevokeApiKey, request, async |by, message| {
            let id = convert::api_key_id(&message.id)?;
            let changed = self.operations.revoke_api_key(by, id).await?;
            Ok(RevokeApiKeyResponse { changed })
        })
        .await
    }

    async fn revoke_grant(
        &self,
        request: Request<RevokeGrantRequest>,
    ) -> Result<Response<RevokeGrantResponse>, Status> {
        self.answer(Operation::RevokeGrant, request, async |by, message| {
            let developer = convert::developer_id(&message.developer_id)?;
            let grant = convert::grant_id(&message.grant_id)?;
            let revoked = self.operations.revoke_grant(by, &developer, grant);
            let changed = revoked.await?;
            Ok(RevokeGrantResponse { changed })
        })
        .await
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        self.answer(Operation::RevokeToken, request, async |by, message| {
            let developer = convert::developer_id(&message.developer_id)?;
            let token = convert::token_id(&message.token_id)?;
            let expires_at = convert::moment("expiresAt", message.expires_at)?;
            let revoked = self
                .operations
                .revoke_token(by, &developer, token, expires_at);
            let changed = revoked.await?;
            Ok(RevokeTokenResponse { changed })
        })
        .await
    }

    async fn list_revocations(
        &self,
        request: Request<ListRevocationsRequest>,
    ) -> Result<Response<ListRevocationsResponse>, Status> {
        self.answer(Operation::ListRevocations, request, async |by, message| {
            let developer = convert::developer_id(&message.developer_id)?;
            let size = convert::page_size(message.page_size)?;
            let token = &message.page_token;
            let listed = self.operations.revocations(by, &developer, size, token);
            Ok(convert::revocations(listed.await?, &developer))
        })
        .await
    }

    async fn purge_data_keys(
        &self,
        request: Request<PurgeDataKeysRequest>,
    ) -> Result<Response<PurgeDataKeysResponse>, Status> {
        self.answer(Operation::PurgeDataKeys, request, async |by, _| {
            self.operations.purge_data_keys(by, &self.keys).await?;
            Ok(PurgeDataKeysResponse {})
        })
        .await
    }

    async fn list_master_keys(
        &self,
        request: Request<ListMasterKeysRequest>,
    ) -> Result<Response<ListMasterKeysResponse>, Status> {
        self.answer(Operation::ShowMasterKeys, request, async |by, _| {
            let keys = self.operations.master_keys(by, &self.keys).await?;
            Ok(ListMasterKeysResponse {
                master_keys: keys.iter().map(convert::master_key).collect(),
            })
        })
        .await
    }
}
