//! A list of 200,000 credentials: streamed, in bounded memory, to a client that reads slowly.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::harness::{Dev, connect, instance_directory};

const CREDENTIALS: usize = 200_000;
/// What the whole list would take is a multiple of this.
const MAX_GROWTH_KIB: u64 = 32 * 1024;

/// Copies one stored credential, whose ciphertext no list opens.
async fn fill(dev: &Dev) {
    let body = json!({
        "principalId": "first", "service": "github", "accessToken": "t",
        "metadata": {"note": "x".repeat(200)},
    });
    let store = reqwest::Client::new().post(format!("{}/v1/vault/credentials", dev.get("http")));
    let store = store
        .bearer_auth(dev.get("apiKey"))
        .header("content-type", "application/json");
    assert_eq!(
        store.body(body.to_string()).send().await.unwrap().status(),
        201
    );
    let copy = format!(
        "insert into vault.credentials
         select developer_id, 'vc_' || lpad(n::text, 26, '0'), 'user ' || n, service, service_key,
             credential_type, access_token, refresh_token, wrapped_key, master_key,
             token_expires_at, metadata, created_at - n * interval '1 ms', updated_at
         from vault.credentials, generate_series(1, {}) n",
        CREDENTIALS - 1
    );
    connect(dev.get("databaseUrl"))
        .await
        .batch_execute(&copy)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_slow_reader_of_200_000_credentials_costs_little_memory_and_nobody_else_any_time() {
    let directory = instance_directory();
    let dev = Dev::start(directory.path(), &[("GRANTEX_VAULT_DB_POOL_SIZE", "2")]).await;
    fill(&dev).await;
    let before = dev.process.memory("VmRSS");

    let address = dev.get("http").strip_prefix("http://").unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /v1/vault/credentials HTTP/1.1\r\nhost: vault\r\nconnection: close\r\nauthorization: Bearer {}\r\n\r\n",
        dev.get("apiKey")
    );
    slow.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    slow.read_exact(&mut answer).await.unwrap();

    // It reads no further for now; more lists like it than there are connections change nothing.
    let mut idle = Vec::new();
    for _ in 0..4 {
        let mut one = TcpStream::connect(address).await.unwrap();
        one.write_all(request.as_bytes()).await.unwrap();
        one.read_exact(&mut [0; 64]).await.unwrap();
        idle.push(one);
    }
    let one_page = format!("{}/v1/vault/credentials?pageSize=1", dev.get("http"));
    for _ in 0..20 {
        let served = reqwest::Client::new()
            .get(&one_page)
            .bearer_auth(dev.get("apiKey"))
            .send();
        let served = timeout(Duration::from_secs(5), served)
            .await
            .expect("others are served");
        assert_eq!(served.unwrap().status(), 200);
    }
    drop(idle);

    slow.read_to_end(&mut answer).await.unwrap();
    let growth = dev.process.memory("VmHWM").saturating_sub(before);
    assert!(growth < MAX_GROWTH_KIB, "it took {growth} KiB");
    let body = unchunked(&answer);
    assert!(
        body.len() > 80 * 1024 * 1024,
        "{} bytes are a list to speak of",
        body.len()
    );
    let list: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(list["credentials"].as_array().unwrap().len(), CREDENTIALS);
    assert_eq!(
        list["credentials"][1]["principalId"], "user 1",
        "newest first"
    );
}

/// The body of a chunked answer (RFC 9112, section 7.1).
fn unchunked(answer: &[u8]) -> Vec<u8> {
    let end_of_line = |from: &[u8]| from.windows(2).position(|pair| pair == b"\r\n").unwrap();
    let head = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let mut rest = &answer[head + 4..];
    let mut body = Vec::with_capacity(rest.len());
    loop {
        let end = end_of_line(rest);
        let size = std::str::from_utf8(&rest[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
}
