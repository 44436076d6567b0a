//! A page is found by an index, in the partitions of its time only, however often it is asked for.

use std::collections::BTreeMap;

use serde_json::json;

use crate::harness::{Server, Setup, Via, until};

/// More often than Postgres plans a prepared statement anew before it keeps a plan.
const CALLS: i64 = 12;

/// Four months of events, a few of them of each of many principals. The first month is from before
/// there was a partition for each.
async fn fill(server: &Server) {
    server
        .execute(
            r#"
            insert into vault.audit_events (developer_id, id, principal_id, outcome, canonical)
            select 'acme', id, principal, 'read', convert_to(format(
                '{"version":1,"developerId":"acme","id":"%s","occurredAt":"%s","verb":"get",'
                '"outcome":"read","reason":null,"principalId":"%s","service":null,'
                '"credentialId":null,"caller":{"apiKeyId":"ak"},"requestId":"r","traceId":null,'
                '"peer":"p","transport":"rest"}',
                id, to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), principal), 'UTF8')
            from (
                select vault.ulid_of(at at time zone 'UTC') || lpad(n::text, 16, '0') as id, at,
                    'user' || n % 100 as principal
                from generate_series(-1, 2) month, generate_series(1, 5000) n,
                    lateral (select date_trunc('month', now() at time zone 'UTC')
                        + month * interval '1 month' + n * interval '1 minute' as at) as moments
            ) as events;
            analyze vault.audit_events"#,
        )
        .await;
}

#[tokio::test]
async fn a_page_ends_when_10_000_events_were_looked_at_and_the_next_goes_on_from_there() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    fill(&server).await;
    let oldest = "update vault.audit_events set canonical = convert_to(replace(
            convert_from(canonical, 'UTF8'), '\"read\"', '\"deleted\"'), 'UTF8'), outcome = 'deleted'
        where id = (select min(id) from vault.audit_events)";
    server.execute(oldest).await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        let mut query = json!({"outcome": "deleted"});
        let mut found = Vec::new();
        while query["pageToken"] != json!("") {
            let page = developer.audit_events(query.clone()).await.unwrap();
            found.push(page["events"].as_array().unwrap().len());
            let next = page.get("nextPageToken").cloned();
            query["pageToken"] = next.unwrap_or(json!(""));
        }
        assert_eq!(found, [0, 0, 1], "of 20,000 and a few events");
        let narrow = json!({"outcome": "deleted", "principalId": "user1"});
        let page = developer.audit_events(narrow).await.unwrap();
        assert_eq!(page["events"].as_array().unwrap().len(), 1);
        assert!(page.get("nextPageToken").is_none());
    }
}

/// How often each partition was read by the index of principals, by its primary key, by others, and
/// from its beginning to its end.
async fn scans(server: &Server) -> BTreeMap<String, [i64; 4]> {
    const SQL: &str = "
        select t.relname::text,
            coalesce(sum(i.idx_scan) filter (where parent = 'audit_events_of_principal'), 0)::bigint,
            coalesce(sum(i.idx_scan) filter (where parent = 'audit_events_pkey'), 0)::bigint,
            coalesce(sum(i.idx_scan) filter (
                where parent not in ('audit_events_of_principal', 'audit_events_pkey')), 0)::bigint,
            coalesce(max(t.seq_scan), 0)::bigint
        from pg_stat_user_tables t
        join pg_stat_user_indexes i using (relid)
        join pg_inherits on inhrelid = i.indexrelid
        join lateral (select relname as parent from pg_class where oid = inhparent) p on true
        where t.schemaname = 'vault' and t.relname like 'audit_events_%'
        group by t.relname order by t.relname";
    let rows = server.sql().await.query(SQL, &[]).await.unwrap();
    let counts = |row: &tokio_postgres::Row| [1, 2, 3, 4].map(|column| row.get(column));
    rows.iter().map(|row| (row.get(0), counts(row))).collect()
}

/// The first moments of the months of [`fill`].
async fn months(server: &Server) -> Vec<String> {
    const SQL: &str = r#"
        select to_char(date_trunc('month', now() at time zone 'UTC')
            + n * interval '1 month', 'YYYY-MM-DD"T00:00:00Z"')
        from generate_series(0, 3) n order by n"#;
    let rows = server.sql().await.query(SQL, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_page_is_found_by_an_index_in_the_partitions_of_its_time() {
    let server = Setup::new()
        .with("GRANTEX_VAULT_DB_POOL_SIZE", "1")
        .start()
        .await;
    let tenant = server.tenant("acme").await;
    fill(&server).await;
    let months = months(&server).await;
    let partition =
        |month: usize| format!("audit_events_{}", months[month][..10].replace('-', "_"));
    let developer = server.client(Via::Rest, &tenant.key);
    let in_second = json!({"from": months[1], "to": months[2]});
    let everywhere = json!({});
    // By which index, and in which time.
    for (filter, by, read) in [
        (
            json!({"principalId": "user7", "pageSize": 20}),
            0,
            &in_second,
        ),
        (
            json!({"principalId": "user7", "pageSize": 20}),
            0,
            &everywhere,
        ),
        (json!({"pageSize": 20}), 1, &in_second),
        (json!({"pageSize": 20}), 1, &everywhere),
    ] {
        let mut query = filter.clone();
        query
            .as_object_mut()
            .unwrap()
            .extend(read.as_object().unwrap().clone());
        let before = scans(&server).await;
        for _ in 0..CALLS {
            let page = developer.audit_events(query.clone()).await.unwrap();
            assert_eq!(page["events"].as_array().unwrap().len(), 20, "{query}");
        }
        let since = async || {
            let mut after = scans(&server).await;
            for (partition, counts) in &mut after {
                for (count, old) in counts.iter_mut().zip(before[partition]) {
                    *count -= old;
                }
            }
            after
        };
        // A connection tells what it did when it does something a second later.
        let second = partition(1);
        until("the scans are told", async || {
            since().await[&second].iter().sum::<i64>() >= CALLS
        })
        .await;
        let since = since().await;
        for (name, counts) in &since {
            let mut expected = [0; 4];
            if *name == second || read == &everywhere {
                expected[by] = CALLS;
            }
            if *name == partition(0) {
                // Recording looks there whether the id is new.
                expected[1] = counts[1];
            }
            assert_eq!(counts, &expected, "{name} for {query}");
        }
        assert!(since.len() >= 4, "{since:?}");
    }
}
