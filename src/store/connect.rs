//! How connections of the pools are made, set and driven: what the server warns of is heard.
//!
//! A commit that waits for a synchronous standby can be told to wait no longer (`pg_cancel_backend`, a
//! deadline of somebody else). It is committed here then and perhaps not there, and the server answers
//! that it succeeded, with a warning before the answer. So the outcome is as unknown as when the
//! connection had broken.

use std::{
    future::{pending, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use deadpool_postgres::{
    Connect, Hook, HookError, Manager, ManagerConfig, Pool, QueueMode, RecyclingMethod, Runtime,
};
use futures_util::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
    time::timeout,
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, Error, Socket,
    error::{DbError, Severity},
    tls::MakeTlsConnect,
};

use super::{
    CONNECT_TIMEOUT, WAIT_TIMEOUT,
    database_url::DatabaseUrl,
    schema::{self, Durability},
    session,
    tls::{self, Tls},
};
use crate::model::cause::chain;

/// What single statements are, whatever the database's default is: a store relies on it, and makes sure.
const READ_COMMITTED: &str = "set default_transaction_isolation = 'read committed'";
/// Behind a transaction pooler it is of some connections, and they are no worse.
const GENERIC_PLANS: &str = "set plan_cache_mode = force_generic_plan";

/// When statements of a connection are planned.
#[derive(Debug, Clone, Copy)]
pub(super) enum Plans {
    /// When Postgres thinks that it is worth it.
    AsPostgresDoes,
    /// When they are prepared, for whatever is asked. A statement that asks for ten things at once, as
    /// Postgres assumes when it does not see them, seems to be worth a new plan whenever it asks for
    /// one: that was a quarter of Postgres' time for exchanges that come alone.
    Once,
}

/// How many commits of a store did not wait for what they should have waited for.
#[derive(Debug, Clone, Default)]
pub(super) struct CutShort(Arc<AtomicU64>);

/// Which sessions of a store may go on: those that began since [`Sessions::end`].
#[derive(Debug, Clone, Default)]
pub(super) struct Sessions(Arc<Mutex<Option<Instant>>>);

/// Makes connections whose warnings are counted.
struct Heard {
    url: DatabaseUrl,
    cut_short: CutShort,
}

/// A connection that was made, and what drives it.
pub(super) type Made = (
    Client,
    Connection<Socket, <Tls as MakeTlsConnect<Socket>>::Stream>,
);

impl CutShort {
    /// How many there were so far. When it has changed while a statement was under way, whether that is
    /// replicated is unknown: a warning comes before the answer that it is about.
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn hear(&self, notice: &DbError) {
        // Class 01 are warnings. What is not one has another severity, and the end of a session breaks the
        // connection.
        let warns = notice.parsed_severity() == Some(Severity::Warning);
        if warns && notice.code().code().starts_with("01") {
            self.0.fetch_add(1, Ordering::SeqCst);
            let (code, said) = (notice.code().code(), notice.message());
            tracing::warn!(code, said, "the database warned: the outcome is unknown");
        }
    }
}

impl Sessions {
    /// Ends all that there are, each when it is asked for next.
    pub(super) fn end(&self) {
        *self.ended() = Some(Instant::now());
    }

    fn may_go_on(&self, began: Instant) -> bool {
        self.ended().is_none_or(|ended| began > ended)
    }

    fn ended(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pool of connections that were checked and are set as each statement needs them; none is made yet.
///
/// # Errors
///
/// When the root certificates of the URL cannot be read.
pub(super) fn pool(
    url: &DatabaseUrl,
    size: usize,
    durability: Durability,
    plans: Plans,
    cut_short: &CutShort,
    sessions: &Sessions,
) -> Result<Pool, tls::TlsFault> {
    let config = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    tls::check(url)?;
    let heard = Heard {
        url: url.clone(),
        cut_short: cut_short.clone(),
    };
    let create_timeout = url.patience();
    let sessions = sessions.clone();
    // Which host it is of, it says itself.
    let manager = Manager::from_connect(Config::new(), heard, config);
    let pool = Pool::builder(manager)
        .max_size(size)
        // The one that was used last: its server process has all that it needs at hand.
        .queue_mode(QueueMode::Lifo)
        .wait_timeout(Some(WAIT_TIMEOUT))
        .create_timeout(Some(create_timeout))
        .recycle_timeout(Some(CONNECT_TIMEOUT))
        .runtime(Runtime::Tokio1)
        .pre_recycle(Hook::sync_fn(move |_, metrics| {
            if sessions.may_go_on(metrics.created) {
                return Ok(());
            }
            Err(HookError::message("the session has ended"))
        }))
        .post_create(Hook::async_fn(move |client, _| {
            Box::pin(async move {
                let set = match plans {
                    Plans::AsPostgresDoes => format!("{}; {READ_COMMITTED}", session::BEGIN),
                    Plans::Once => {
                        format!("{}; {READ_COMMITTED}; {GENERIC_PLANS}", session::BEGIN)
                    }
                };
                let set = client.batch_execute(&set).await;
                set.map_err(HookError::Backend)?;
                let refused = |fault: schema::SchemaFault| HookError::message(chain(&fault));
                schema::check(client, durability).await.map_err(refused)?;
                schema::ensure_era(client).await.map_err(refused)
            })
        }))
        .build();
    Ok(pool.expect("a runtime is given"))
}

/// Connects to the first host that answers, each within its share of the time. `None` when none answered
/// in time.
pub(super) async fn connect(url: &DatabaseUrl) -> Option<Result<Made, Error>> {
    let target = url.target();
    let mut refused = None;
    for place in url.order(&target) {
        let config = target.host(place);
        let attempt = config.connect(Tls(url.clone()));
        match timeout(target.share(), attempt).await {
            Ok(Ok(made)) => {
                url.answered(place);
                return Some(Ok(made));
            }
            // What a host says tells more than that another says nothing.
            Ok(Err(error)) => refused = Some(Err(error)),
            Err(_) => {}
        }
    }
    refused
}

impl Connect for Heard {
    fn connect(
        &self,
        _: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + '_>> {
        Box::pin(async move {
            let Some(made) = connect(&self.url).await else {
                // The pool gives up by itself.
                return pending().await;
            };
            let (client, mut connection) = made?;
            // What is warned of while connecting, of collations say, is about no statement.
            while let Some(message) = next(&mut connection).now_or_never() {
                if message.is_none_or(|message| message.is_err()) {
                    return Ok((client, tokio::spawn(async {})));
                }
            }
            Ok((
                client,
                tokio::spawn(drive(connection, self.cut_short.clone())),
            ))
        })
    }
}

/// Until the connection ends.
async fn drive<S, T>(mut connection: Connection<S, T>, cut_short: CutShort)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = next(&mut connection).await {
        match message {
            Ok(AsyncMessage::Notice(notice)) => cut_short.hear(&notice),
            Ok(_) => {}
            // Who waits for an answer is told.
            Err(_) => return,
        }
    }
}

async fn next<S, T>(connection: &mut Connection<S, T>) -> Option<Result<AsyncMessage, Error>>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|context| connection.poll_message(context)).await
}
