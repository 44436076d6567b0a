//! All floods at once, and callers beside them: each is served in time, and the memory stays small.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::{interval, timeout},
};
use tonic::Request;

use grantex_vault::{
    clock::{Clock, SystemClock},
    grpc::pb::{ExchangeCredentialRequest, vault_service_client::VaultServiceClient},
};

use super::{
    Victim,
    frames::{self, DATA, END_HEADERS, HEADERS, frame, stream},
};
use crate::harness::{Trust, connect_from, print};

/// How long the floods go on, and how often a connection of one comes again in that time.
const LASTS: Duration = Duration::from_secs(6);
const AGAIN: usize = 20;
const TURN: Duration = Duration::from_millis(500);
/// How often they are tried.
const ROUNDS: usize = 4;
/// What no caller outside of the floods waits longer for, on a machine that does nothing else.
const SLOWEST: Duration = Duration::from_secs(2);
/// In MiB.
const MEMORY: u64 = 300;

/// Keeps connections open that each begin like this, and opens another one whenever one is closed.
fn flood(from: &'static str, connections: usize, address: &str, opening: &[u8]) -> JoinSet<()> {
    let mut flood = JoinSet::new();
    for _ in 0..connections {
        let (address, opening) = (address.to_owned(), opening.to_vec());
        flood.spawn(async move {
            let mut turns = interval(TURN);
            for _ in 0..AGAIN {
                turns.tick().await;
                let mut connection = connect_from(from, &address).await;
                // It may be closed by now.
                let _ = connection.write_all(&opening).await;
                let mut answer = [0; 4096];
                while connection
                    .read(&mut answer)
                    .await
                    .is_ok_and(|read| read > 0)
                {}
            }
        });
    }
    flood
}

/// A request over HTTP/1 of which a body of this length is announced and one byte is sent.
fn half(path: &str, headers: &str, length: usize) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: v\r\ncontent-type: application/json\r\n{headers}\
         content-length: {length}\r\n\r\n{{"
    )
    .into_bytes()
}

/// Bytes as HPACK writes them: their number in a prefix of 7 bits, and themselves.
fn text(bytes: &str) -> Vec<u8> {
    let mut more = bytes.len();
    let mut written = Vec::new();
    if more < 127 {
        written.push(u8::try_from(more).unwrap());
    } else {
        written.push(127);
        more -= 127;
        while more > 127 {
            written.push(u8::try_from(more % 128).unwrap() | 128);
            more /= 128;
        }
        written.push(u8::try_from(more).unwrap());
    }
    [&written, bytes.as_bytes()].concat()
}

/// A connection with many unfinished calls of this path, under a token or nobody's.
fn half_calls(path: &str, token: Option<&str>, calls: u32) -> Vec<u8> {
    // Literals: the path, the host `v`, the type, and `authorization`.
    let bearer = token.map(|token| text(&format!("Bearer {token}")));
    let head = [
        &b"\x83\x86\x04"[..],
        &text(path),
        b"\x41\x01v\x0f\x10\x10application/grpc",
        &bearer.map_or(Vec::new(), |bearer| [&b"\x0f\x08"[..], &bearer].concat()),
    ]
    .concat();
    // A message of a mebibyte, and a kibibyte of it.
    let message = [&b"\0\0\x10\0\0"[..], &[0; 1000]].concat();
    let calls = (0..calls).flat_map(|number| {
        let open = frame(HEADERS, END_HEADERS, stream(number), &head);
        [open, frame(DATA, 0, stream(number), &message)].concat()
    });
    [frames::preface(), calls.collect()].concat()
}

/// A grant token of another developer's agent than the one who is served.
fn greedy_token(victim: &Victim) -> String {
    let data = ["--data-dir", victim.directory.path().to_str().unwrap()];
    let developer = print(&[&["developer", "create", "--name", "Greedy"][..], &data].concat());
    let scope = ["--scope", "vault:github:exchange", "--principal", "greedy"];
    let of = ["--developer", &developer];
    print(&[&["grant", "mint"][..], &of, &data, &scope].concat())
}

/// One exchange over each transport, on connections of their own; how long each took.
async fn exchanges(victim: &Victim, token: &str) -> [Duration; 2] {
    let url = format!("{}/v1/vault/credentials/exchange", victim.dev.get("http"));
    let by_http = async {
        let begun = Instant::now();
        let request = victim.http.post(&url).bearer_auth(token);
        let request = request.header("connection", "close");
        let request = request.json(&json!({"service": "github"})).send();
        let answer = timeout(Duration::from_secs(10), request).await;
        let answer = answer.expect("it is answered").unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        begun.elapsed()
    };
    let by_grpc = async {
        let mut client = VaultServiceClient::new(victim.trust.channel(&victim.grpc_url));
        let begun = Instant::now();
        let mut request = Request::new(ExchangeCredentialRequest {
            service: "github".to_owned(),
        });
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        client.exchange_credential(request).await.expect("served");
        begun.elapsed()
    };
    tokio::join!(by_http, by_grpc).into()
}

/// The floods of strangers, and of an agent whose token is good.
fn floods(victim: &Victim, greedy: &str) -> Vec<JoinSet<()>> {
    let [http, grpc] = victim.addresses();
    let now = SystemClock.now().as_second();
    let mac = "0".repeat(64);
    let signed = format!("x-grantex-timestamp: {now}\r\nx-grantex-signature-v2: sha256={mac}\r\n");
    let webhook = half("/v1/webhooks/grantex/acme", &signed, 60_000);
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let reflection = half_calls(reflection, None, 64);
    let store = half_calls("/grantex.vault.v1.VaultService/StoreCredential", None, 100);
    let bearer = format!("authorization: Bearer {greedy}\r\n");
    let slow_body = half("/v1/vault/credentials/exchange", &bearer, 1_000_000);
    let slow_message = "/grantex.vault.v1.VaultService/ExchangeCredential";
    let slow_message = half_calls(slow_message, Some(greedy), 100);
    vec![
        flood("127.0.0.2", 600, http, &webhook),
        flood("127.0.0.3", 10, grpc, &reflection),
        flood("127.0.0.4", 10, grpc, &store),
        flood("127.0.0.5", 150, http, &slow_body),
        flood("127.0.0.5", 11, grpc, &slow_message),
    ]
}

/// How long exchanges took beside all floods, the shortest first.
async fn beside_floods(victim: &Victim, greedy: &str) -> Vec<Duration> {
    let mut floods = floods(victim, greedy);
    let token = victim.dev.get("grantToken").to_owned();
    let begun = Instant::now();
    let mut took = Vec::new();
    while begun.elapsed() < LASTS {
        took.extend(exchanges(victim, &token).await);
    }
    let going_on = floods.iter().all(|flood| !flood.is_empty());
    assert!(going_on, "the floods went on");
    join_all(floods.iter_mut().map(JoinSet::shutdown)).await;
    took.sort_unstable();
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_caller_beside_all_floods_is_refused_or_slow_and_the_memory_stays_small() {
    // One agent asks again and again.
    let no_limits = [
        ("GRANTEX_VAULT_LIMIT_EXCHANGE_PER_GRANT", "0"),
        ("GRANTEX_VAULT_LIMIT_REQUESTS_PER_DEVELOPER", "0"),
    ];
    let mut victim = Victim::start_with(&no_limits, Trust::default()).await;
    let url = format!("{}/v1/vault/credentials", victim.dev.get("http"));
    let credential = json!({"principalId": victim.dev.get("principalId"), "service": "github",
                            "accessToken": "secret"});
    let store = victim.http.post(&url).bearer_auth(victim.dev.get("apiKey"));
    let stored = store.json(&credential).send().await.unwrap();
    assert_eq!(stored.status(), 201);
    let greedy = greedy_token(&victim);

    // Other tests run beside this one, on the same processors. So what is slow depends on what is usual,
    // and floods that starve callers do so in every round.
    let mut usual = Vec::new();
    for _ in 0..8 {
        usual.extend(exchanges(&victim, victim.dev.get("grantToken")).await);
    }
    usual.sort_unstable();
    let usual = usual[usual.len() / 2];
    let allowed = SLOWEST.max(usual * 20);
    let mut slowest = Duration::MAX;
    for _ in 0..ROUNDS {
        let took = beside_floods(&victim, &greedy).await;
        let memory = victim.dev.process.memory("VmHWM:") / 1024;
        slowest = took[took.len() - 1];
        println!(
            "{} exchanges beside the floods: median {:?}, slowest {slowest:?}; {memory} MiB",
            took.len(),
            took[took.len() / 2],
        );
        assert!(memory < MEMORY, "{memory} MiB");
        if slowest < allowed {
            break;
        }
    }
    assert!(slowest < allowed, "{slowest:?}, usually {usual:?}");
    victim.unharmed("all floods", MEMORY).await;
    victim.stops().await;
}
