//! A list without pages is under way until it is read.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::harness::{Server, Setup, Tenant, Via, until};

/// A developer with a list that fits into no buffer: 20,000 credentials, 8 MB.
async fn with_long_list(server: &Server) -> Tenant {
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("first", "github", "secret").await;
    let copy = "
        insert into vault.credentials
        select developer_id, 'vc_' || lpad(n::text, 26, '0'), 'user ' || n, service, service_key,
            credential_type, access_token, refresh_token, wrapped_key, master_key,
            token_expires_at, json_build_object('note', repeat('x', 200)), created_at,
            updated_at
        from vault.credentials, generate_series(1, 20000) n";
    server.execute(copy).await;
    tenant
}

/// Begins to read a list, and reads no further.
async fn begin_list(server: &Server, tenant: &Tenant) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    // What the system keeps of it is not much, then.
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let address = server.http_address().parse().unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = format!(
        "GET /v1/vault/credentials HTTP/1.1\r\nhost: v\r\nconnection: close\r\n\
         authorization: Bearer {}\r\n\r\n",
        tenant.key
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut beginning = [0; 64];
    stream.read_exact(&mut beginning).await.unwrap();
    assert!(beginning.starts_with(b"HTTP/1.1 200 "));
    stream
}

#[tokio::test]
async fn a_list_without_pages_holds_its_permit_until_it_is_read() {
    let setup = Setup::new().with("GRANTEX_VAULT_MAX_IN_FLIGHT", "2");
    let server = setup.start().await;
    let tenant = with_long_list(&server).await;
    let client = server.client(Via::Rest, &tenant.key);
    let held = [
        begin_list(&server, &tenant).await,
        begin_list(&server, &tenant).await,
    ];
    assert_eq!(client.get("vc_no").await.unwrap_err().status, 503);
    for mut list in held {
        let mut rest = Vec::new();
        list.read_to_end(&mut rest).await.unwrap();
        assert!(rest.ends_with(b"]}\r\n0\r\n\r\n"), "all of it came");
    }
    until("the permits are free", async || {
        client.get("vc_no").await.unwrap_err().status == 404
    })
    .await;
}

#[tokio::test]
async fn lists_that_nobody_reads_give_way_to_other_developers() {
    let setup = Setup::new()
        .with("GRANTEX_VAULT_MAX_IN_FLIGHT", "4")
        .with("GRANTEX_VAULT_MAX_IN_FLIGHT_PER_DEVELOPER", "2");
    let server = setup.start().await;
    let tenant = with_long_list(&server).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(begin_list(&server, &tenant).await);
    }
    let other = server.tenant("other").await;
    for via in Via::BOTH {
        let developer = server.client(via, &other.key);
        developer.store_token("user", "github", "secret").await;
    }
    // Two of them ended, in a way that parses nowhere.
    let mut whole = 0;
    for mut list in held {
        let mut rest = Vec::new();
        let read = timeout(Duration::from_secs(30), list.read_to_end(&mut rest)).await;
        let _ = read.expect("it ends");
        whole += usize::from(rest.ends_with(b"]}\r\n0\r\n\r\n"));
    }
    assert!((1..=3).contains(&whole), "{whole}");
}
