//! How a key set is served: by HTTP, in every way that issuers do it.

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use grantex_vault::{
    auth::{jwks::VerificationKeys, key_set::SignatureAlgorithm, key_source::HttpKeySource},
    clock::Clock,
    proxies::Proxies,
};
use serde_json::json;
use tokio::net::TcpListener;

use crate::harness::{ManualClock, SigningKey};

/// What the issuer answers.
#[derive(Clone)]
struct Answer {
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

#[derive(Default)]
struct Issuer {
    answer: Mutex<Option<Answer>>,
    whole: AtomicUsize,
    unchanged: AtomicUsize,
}

async fn jwks(State(issuer): State<Arc<Issuer>>, asked: HeaderMap) -> Response {
    let answer = issuer.answer.lock().unwrap().clone().unwrap();
    let etag = answer.headers.iter().find(|(name, _)| *name == "etag");
    let known = asked
        .get("if-none-match")
        .and_then(|known| known.to_str().ok());
    let headers = |mut response: Response| {
        for (name, value) in &answer.headers {
            response.headers_mut().append(*name, value.parse().unwrap());
        }
        response
    };
    if known.is_some() && known == etag.map(|(_, etag)| etag.as_str()) {
        issuer.unchanged.fetch_add(1, Ordering::SeqCst);
        return headers(StatusCode::NOT_MODIFIED.into_response());
    }
    issuer.whole.fetch_add(1, Ordering::SeqCst);
    headers(answer.body.clone().into_response())
}

/// An issuer on this machine, and who fetches its keys.
struct Fetching {
    issuer: Arc<Issuer>,
    keys: VerificationKeys,
    clock: Arc<ManualClock>,
}

impl Fetching {
    async fn start() -> Self {
        let issuer = Arc::new(Issuer::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let routes = Router::new()
            .route("/jwks", get(jwks))
            .with_state(Arc::clone(&issuer));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let source =
            HttpKeySource::new(url.parse().unwrap(), &Proxies::default()).expect("loopback");
        let clock = Arc::new(ManualClock::start());
        let day = Duration::from_hours(24);
        let keys =
            VerificationKeys::new(Arc::new(source), Arc::clone(&clock) as Arc<dyn Clock>, day);
        Self {
            issuer,
            keys,
            clock,
        }
    }

    fn answer(&self, headers: &[(&'static str, &str)], body: impl Into<Vec<u8>>) {
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        *self.issuer.answer.lock().unwrap() = Some(Answer {
            headers: headers.collect(),
            body: body.into(),
        });
    }

    async fn has(&self, kid: &str) -> bool {
        self.keys.find(kid, SignatureAlgorithm::Es256).await.is_ok()
    }
}

fn set(kids: &[&str]) -> String {
    let keys: Vec<_> = kids.iter().map(|kid| SigningKey::p256(kid).jwk()).collect();
    json!({"keys": keys}).to_string()
}

fn gzipped(text: &str) -> Vec<u8> {
    let mut gzip = Command::new("gzip")
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    gzip.stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    gzip.wait_with_output().unwrap().stdout
}

#[tokio::test]
async fn a_set_is_read_whatever_its_type_its_encoding_and_the_mark_before_it() {
    let fetching = Fetching::start().await;
    for (number, (headers, body)) in [
        (
            &[("content-type", "application/jwk-set+json")][..],
            set(&["0"]).into_bytes(),
        ),
        (
            &[("content-type", "text/plain; charset=utf-8")],
            set(&["1"]).into_bytes(),
        ),
        (&[], format!("\u{feff}{}", set(&["2"])).into_bytes()),
        (&[("content-encoding", "gzip")], gzipped(&set(&["3"]))),
    ]
    .into_iter()
    .enumerate()
    {
        fetching.answer(headers, body);
        fetching.keys.refresh().await.unwrap();
        assert!(fetching.has(&number.to_string()).await, "{headers:?}");
    }
}

#[tokio::test]
async fn a_set_that_grows_when_it_is_decompressed_is_bounded_too() {
    let fetching = Fetching::start().await;
    fetching.answer(&[], set(&["old"]));
    fetching.keys.refresh().await.unwrap();
    let huge = gzipped(&format!("{{\"keys\":[{}]}}", " ".repeat(10 << 20)));
    assert!(huge.len() < 64 * 1024);
    fetching.answer(&[("content-encoding", "gzip")], huge);
    let fault = fetching.keys.refresh().await.unwrap_err();
    assert_eq!(
        fault.to_string(),
        "the issuer's key set is larger than 256 KiB"
    );
    assert!(fetching.has("old").await);
}

#[tokio::test]
async fn an_unchanged_set_is_not_sent_again_and_stays_fresh() {
    let fetching = Fetching::start().await;
    fetching.answer(&[("etag", "\"one\"")], set(&["one"]));
    for _ in 0..3 {
        fetching.keys.refresh().await.unwrap();
        fetching.clock.advance(Duration::from_hours(20));
    }
    let counts = || {
        let issuer = &fetching.issuer;
        [&issuer.whole, &issuer.unchanged].map(|count| count.load(Ordering::SeqCst))
    };
    assert_eq!(counts(), [1, 2]);
    assert!(fetching.has("one").await, "fetched 20 hours ago");
    fetching.answer(&[("etag", "\"two\"")], set(&["two"]));
    fetching.keys.refresh().await.unwrap();
    assert_eq!(counts(), [2, 2]);
    assert!(fetching.has("two").await);
}

#[tokio::test]
async fn a_set_that_could_not_be_read_is_not_taken_for_the_one_that_is_known() {
    let fetching = Fetching::start().await;
    fetching.answer(&[("etag", "\"one\"")], "<html>");
    fetching.keys.refresh().await.unwrap_err();
    fetching.answer(&[("etag", "\"one\"")], set(&["one"]));
    fetching.keys.refresh().await.unwrap();
    assert!(fetching.has("one").await);
}

#[tokio::test]
async fn the_issuer_says_how_long_its_set_stays_within_our_bounds() {
    let fetching = Fetching::start().await;
    assert_eq!(fetching.keys.refresh_after(), Duration::from_mins(5));
    for (cache_control, seconds) in [
        ("max-age=600", 600),
        ("public, max-age=1", 60),
        ("no-store", 60),
        ("max-age=31536000, immutable", 900),
        ("private", 300),
    ] {
        fetching.answer(&[("cache-control", cache_control)], set(&["key"]));
        fetching.keys.refresh().await.unwrap();
        let after = fetching.keys.refresh_after();
        assert_eq!(after, Duration::from_secs(seconds), "{cache_control}");
    }
    fetching.answer(
        &[("cache-control", "max-age=900"), ("etag", "\"x\"")],
        set(&["key"]),
    );
    fetching.keys.refresh().await.unwrap();
    fetching.answer(&[("cache-control", "max-age=840"), ("etag", "\"x\"")], "");
    fetching.keys.refresh().await.unwrap();
    assert_eq!(fetching.keys.refresh_after(), Duration::from_mins(14));
}
