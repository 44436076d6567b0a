//! Who calls is known before a message is read: what stands before the calls of the vault.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header::AUTHORIZATION};
use http_body_util::Full;
use tonic::{body::Body, service::Routes};
use tower::{Layer, Service};

use super::{
    MAX_REQUEST_BYTES,
    compression::{self, Encoding, GRPC_ENCODING, PREFIX_BYTES},
    details,
    open::{OpenCalls, OpenCallsLayer},
    protocol, status, verb_of,
};
use crate::{
    model::{
        bearer::{NoBearer, bearer},
        request::{Interruption, RejectedMessage, RequestContext, Verb},
        text::DeveloperId,
    },
    vault::{BodyError, BodyLimits, ReadBody, Vault, VaultError},
};

/// A message may take this long to arrive.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// What is read of one: the largest message and its prefix.
const MAX_BYTES: usize = MAX_REQUEST_BYTES + PREFIX_BYTES;

/// The calls of the vault, and others beside them. Each of the vault's finds its caller among the
/// extensions of its request.
#[derive(Clone)]
pub struct VaultRoutes {
    vault: Arc<Vault>,
    routes: Routes,
    open: OpenCalls<Routes>,
}

impl VaultRoutes {
    pub(super) fn new(vault: Arc<Vault>, routes: Routes) -> Self {
        let open = OpenCallsLayer::default().layer(routes.clone());
        Self {
            vault,
            routes,
            open,
        }
    }
}

impl<B> Service<Request<B>> for VaultRoutes
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let context = *request
            .extensions()
            .get()
            .expect("the listener gives every request its context");
        if let Some(refused) = protocol::refusal(&request, context) {
            return Box::pin(async { Ok(refused) });
        }
        let Some(verb) = verb_of(request.uri().path()) else {
            let answering = self.open.call(request);
            return Box::pin(async move { Ok(details::completed(answering.await?, context)) });
        };
        let (vault, mut routes) = (Arc::clone(&self.vault), self.routes.clone());
        Box::pin(async move {
            match known(&vault, verb, context, request).await {
                // What is large holds its permit as long as the call.
                Ok((request, _permit)) => {
                    Ok(details::completed(routes.call(request).await?, context))
                }
                Err(not_read) => Ok(not_read.answer(context)),
            }
        })
    }
}

/// Why a message was not read.
enum NotRead {
    Vault(VaultError),
    /// As it was sent, or once it is decompressed.
    TooLarge,
    /// It is compressed by anything but gzip.
    UnsupportedEncoding,
    /// It is said to be gzip, and is not.
    NotGzip,
    /// There is more than one.
    NotOne,
}

/// A request whose caller is known, with its message.
async fn known<B>(
    vault: &Vault,
    verb: Verb,
    context: RequestContext,
    request: Request<B>,
) -> Result<(Request<Full<Bytes>>, ReadBody), NotRead>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let (mut head, body) = request.into_parts();
    let presented = authorization(&head.headers);
    let read = match verb {
        Verb::Exchange => {
            let agent = vault.known_agent(context, presented).await?;
            let read = message(vault, &agent, &mut head.headers, body).await;
            head.extensions.insert(agent);
            read
        }
        Verb::Store | Verb::List | Verb::Get | Verb::Delete | Verb::Audit | Verb::Webhook => {
            let developer = vault.known_developer(context, presented).await?;
            let read = message(vault, &developer, &mut head.headers, body).await;
            head.extensions.insert(developer);
            read
        }
    };
    let read = read?;
    let message = Full::new(read.bytes.clone());
    Ok((Request::from_parts(head, message), read))
}

/// Reads the message of a caller that is known, and decompresses it.
async fn message<B>(
    vault: &Vault,
    caller: &impl AsRef<DeveloperId>,
    headers: &mut HeaderMap,
    body: B,
) -> Result<ReadBody, NotRead>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let encoding = Encoding::of(headers).ok_or(NotRead::UnsupportedEncoding)?;
    let limits = BodyLimits {
        max_bytes: MAX_BYTES,
        time: MESSAGE_TIMEOUT,
    };
    let read = vault.read_body(caller, body, limits).await?;
    if compression::is_more_than_one(&read.bytes) {
        return Err(NotRead::NotOne);
    }
    match encoding {
        Encoding::Identity => Ok(read),
        Encoding::Gzip => {
            // So that tonic has nothing to decompress.
            headers.remove(GRPC_ENCODING);
            let decompress = |framed: &Bytes, max_bytes| {
                let clear = compression::decompressed(framed, max_bytes);
                clear.map_err(|_| NotRead::NotGzip)
            };
            vault.expand_body(caller, read, MAX_BYTES, decompress).await
        }
    }
}

/// Reads the one `authorization` of a call.
pub(super) fn authorization(headers: &HeaderMap) -> Result<&str, NoBearer> {
    let values = headers.get_all(AUTHORIZATION).iter();
    bearer(values.map(HeaderValue::as_bytes))
}

// === impl NotRead ===

impl NotRead {
    fn answer(self, context: RequestContext) -> Response<Body> {
        let status = match self {
            Self::Vault(error) => {
                error.log(context);
                return status::from_vault(&error, context).into_http();
            }
            Self::TooLarge => status::too_large(context),
            Self::UnsupportedEncoding => status::unsupported_encoding(context),
            Self::NotGzip => status::unreadable(context),
            Self::NotOne => status::not_one_message(context),
        };
        let mut answer = status.into_http();
        answer.extensions_mut().insert(RejectedMessage);
        answer
    }
}

impl From<VaultError> for NotRead {
    fn from(error: VaultError) -> Self {
        Self::Vault(error)
    }
}

impl From<BodyError> for NotRead {
    fn from(error: BodyError) -> Self {
        let why = match error {
            BodyError::TooLarge => return Self::TooLarge,
            // Nobody is there to be answered when it is broken off.
            BodyError::TimedOut | BodyError::Broken => Interruption::TimedOut,
            BodyError::Interrupted(why) => why,
        };
        Self::Vault(VaultError::Interrupted(why))
    }
}
