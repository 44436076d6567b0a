//! Why a token is refused: told to the operator, never to the caller.

use std::time::Duration;

use grantex_vault::model::grant_check::GrantCheck;

use super::{Gate, replaced};
use crate::harness::{Log, Setup, SigningKey, Via};

const MESSAGE: &str = "a grant token was refused";
/// The log has so many lines of each of these windows at most.
const WINDOW: Duration = Duration::from_secs(10);

/// What a log line says of each way to be refused.
struct Case {
    token: String,
    reason: &'static str,
    says: Vec<String>,
}

fn case(token: String, reason: &'static str, says: &[&str]) -> Case {
    let says = says.iter().map(|text| (*text).to_owned()).collect();
    Case {
        token,
        reason,
        says,
    }
}

fn cases(gate: &Gate) -> Vec<Case> {
    let now = gate.server.clock.seconds();
    let header = |member, raw| gate.token_under(replaced(&gate.key().header(), member, Some(raw)));
    let claim = |name, raw: &str| gate.token_with(name, Some(raw));
    let standard =
        |name, raw| gate.access_token_of(replaced(&gate.standard_claims(), name, Some(raw)));
    let forged = SigningKey::number(1).called("key-0").sign(&gate.claims());
    let late = (now + 31).to_string();
    vec![
        case("nonsense".into(), "form", &["base64url"]),
        case(header("crit", "[]"), "header", &["crit"]),
        case(
            header("typ", r#""dpop+jwt""#),
            "type",
            &["typ", "at+jwt", "dpop+jwt"],
        ),
        case(
            header("alg", r#""PS256""#),
            "algorithm",
            &["alg", "RS256 or ES256", "PS256"],
        ),
        case(
            header("alg", r#""ES256""#),
            "algorithm",
            &["RS256, which the key is for", "key-0"],
        ),
        case(header("kid", r#""key-9""#), "key", &["kid", "key-9"]),
        case(forged, "signature", &["RS256", "key-0"]),
        case(claim("dev", "7"), "claims", &["dev"]),
        case(standard("agt", r#""did:other""#), "aliases", &["agt"]),
        case(claim("purpose", "null"), "purpose", &["purpose"]),
        case(claim("cnf", "{}"), "key_binding", &["cnf"]),
        case(
            claim("iss", r#""https://evil.test""#),
            "issuer",
            &["https://issuer.test", "https://evil.test"],
        ),
        case(
            claim("aud", r#"["other","another"]"#),
            "audience",
            &["vault", "other, another"],
        ),
        case(
            claim("exp", &(now - 30).to_string()),
            "expiry",
            &["exp", &(now - 30).to_string()],
        ),
        case(
            claim("nbf", &late),
            "not_before",
            &["nbf", &(now + 30).to_string(), &late],
        ),
        case(claim("iat", &late), "issued_at", &["iat", &late]),
        case(
            claim("exp", &(now + 7200).to_string()),
            "lifetime",
            &["3600 s", "7200 s"],
        ),
        case(
            claim("delegationDepth", "2"),
            "delegation",
            &["1 delegations"],
        ),
    ]
}

async fn gate() -> Gate {
    let setup = Setup::new()
        .with("GRANTEX_VAULT_AUDIENCE", "vault")
        .with("GRANTEX_VAULT_MAX_TOKEN_LIFETIME", "1h");
    Gate::open_with(setup).await
}

#[tokio::test]
async fn the_log_names_the_check_and_what_was_compared_but_never_the_token_or_its_subject() {
    let log = Log::keep();
    let gate = gate().await;
    for number in 0..cases(&gate).len() {
        // Every window has lines of its own.
        gate.server.clock.advance(WINDOW);
        let Case {
            token,
            reason,
            says,
        } = cases(&gate).swap_remove(number);
        log.take();
        gate.refuses(reason, &token).await;
        let text = log.take();
        let mut lines = text.lines().filter(|line| line.contains(MESSAGE));
        let line = lines.next().unwrap_or_else(|| panic!("{reason}: {text}"));
        assert_eq!(lines.count(), 1, "one over each transport");
        assert!(line.contains(" INFO "), "{line}");
        assert!(line.contains(&format!("reason=\"{reason}\"")), "{line}");
        for said in says {
            assert!(line.contains(&said), "{said} in {line}");
        }
        for part in token.split('.').filter(|part| part.len() > 20) {
            assert!(!text.contains(part), "{text}");
        }
        for claim in ["\"user\"", "did:grantex:agent", "did:other", "token-"] {
            assert!(!text.contains(claim), "{text}");
        }
    }
}

#[tokio::test]
async fn when_many_are_refused_the_log_has_a_sample_and_says_how_many_it_leaves_out() {
    let log = Log::keep();
    let gate = gate().await;
    let refuse = async |times: usize| {
        for _ in 0..times {
            let refused = gate.exchange(Via::Rest, "nonsense").await;
            assert_eq!(refused.unwrap_err().status, 401);
        }
        let text = log.take();
        let lines = text.lines().filter(|line| line.contains(MESSAGE));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(refuse(50).await.len(), 20);
    assert_eq!(refuse(5).await.len(), 0);
    gate.server.clock.advance(WINDOW);
    let lines = refuse(2).await;
    assert!(lines[0].contains("left_out=35"), "{lines:?}");
    assert!(lines[1].contains("left_out=0"), "{lines:?}");
}

#[tokio::test]
async fn every_check_is_a_label_of_the_metric_and_counts() {
    let gate = gate().await;
    let count = async |check: &str| {
        let name = format!("grantex_vault_grant_tokens_rejected_total{{check=\"{check}\"}}");
        gate.server
            .metric(&name)
            .await
            .expect("shown from the start")
    };
    let mut reasons = Vec::new();
    for Case { token, reason, .. } in cases(&gate) {
        let before = count(reason).await;
        gate.refuses(reason, &token).await;
        assert!((count(reason).await - before - 2.0).abs() < 0.1, "{reason}");
        reasons.push(reason);
    }
    reasons.dedup();
    assert_eq!(reasons, GrantCheck::ALL.map(GrantCheck::as_str));
}
