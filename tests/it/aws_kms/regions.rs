//! Multi-Region keys, against a KMS that knows its Regions: Moto cannot decrypt with such a key.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use grantex_vault::envelope::{
    aws_kms::AwsKms,
    data_key::DataKey,
    kms::{Kms, KmsFault},
    master_keys::MasterKeys,
};
use serde_json::{Value, json};

use super::{TIMEOUT, context, unwrap};
use crate::harness::Moto;

const EU: &str = "eu-west-1";
const US: &str = "us-west-2";

fn arn(region: &str, id: &str) -> String {
    format!("arn:aws:kms:{region}:111122223333:key/{id}")
}

/// Every Region of a KMS. An alias is `alias/<id of its key>`, in each of them.
#[derive(Clone, Default)]
struct Regions(Arc<Mutex<HashMap<String, Wrapped>>>);

/// What a ciphertext hides, and who made it.
#[derive(Clone)]
struct Wrapped {
    plaintext: Value,
    context: Value,
    region: String,
    key: String,
}

impl Regions {
    async fn start() -> String {
        let answer = Router::new()
            .fallback(
                async |State(kms): State<Self>, headers: HeaderMap, body: String| {
                    let request: Value = serde_json::from_str(&body).unwrap();
                    kms.answer(&region_of(&headers), &operation_of(&headers), &request)
                },
            )
            .with_state(Self::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        // Ends with the test's runtime.
        tokio::spawn(async move { axum::serve(listener, answer).await });
        url
    }

    fn answer(&self, region: &str, operation: &str, request: &Value) -> (StatusCode, String) {
        let answer = match operation {
            "DescribeKey" => key(region, &request["KeyId"])
                .map(|id| json!({"KeyMetadata": {"KeyId": id, "Arn": arn(region, &id)}})),
            "Encrypt" => self.encrypt(
                region,
                &request["KeyId"],
                &request["Plaintext"],
                &request["EncryptionContext"],
            ),
            "Decrypt" => self
                .open(region, request, "KeyId", "EncryptionContext")
                .map(|(id, plaintext)| json!({"KeyId": arn(region, &id), "Plaintext": plaintext})),
            "ReEncrypt" => self
                .open(region, request, "SourceKeyId", "SourceEncryptionContext")
                .and_then(|(_, plaintext)| {
                    let (to, context) = ("DestinationKeyId", "DestinationEncryptionContext");
                    self.encrypt(region, &request[to], &plaintext, &request[context])
                }),
            other => panic!("{other} is not expected"),
        };
        match answer {
            Ok(answer) => (StatusCode::OK, answer.to_string()),
            Err(code) => (StatusCode::BAD_REQUEST, json!({"__type": code}).to_string()),
        }
    }

    fn encrypt(
        &self,
        region: &str,
        name: &Value,
        plaintext: &Value,
        context: &Value,
    ) -> Result<Value, &'static str> {
        let key = key(region, name)?;
        let mut ciphertexts = self.0.lock().unwrap();
        let blob = format!("ciphertext{:02}", ciphertexts.len());
        let wrapped = Wrapped {
            plaintext: plaintext.clone(),
            context: context.clone(),
            region: region.to_owned(),
            key: key.clone(),
        };
        ciphertexts.insert(blob.clone(), wrapped);
        // Twelve characters of the base64 alphabet are nine bytes.
        Ok(json!({"KeyId": arn(region, &key), "CiphertextBlob": blob}))
    }

    fn open(
        &self,
        region: &str,
        request: &Value,
        name: &str,
        context: &str,
    ) -> Result<(String, Value), &'static str> {
        let key = key(region, &request[name])?;
        let ciphertexts = self.0.lock().unwrap();
        let wrapped = &ciphertexts[request["CiphertextBlob"].as_str().unwrap()];
        let related = wrapped.region == region || key.starts_with("mrk-");
        if !related || wrapped.key != key || wrapped.context != request[context] {
            return Err("IncorrectKeyException");
        }
        Ok((key, wrapped.plaintext.clone()))
    }
}

/// The id of a key, named in its own Region.
fn key(region: &str, name: &Value) -> Result<String, &'static str> {
    let name = name.as_str().unwrap();
    let id = name.strip_prefix("alias/").or_else(|| {
        let (before, id) = name.split_once(":key/")?;
        before.contains(region).then_some(id)
    });
    id.map(str::to_owned).ok_or("NotFoundException")
}

/// `… Credential=test/20261201/eu-west-1/kms/aws4_request, …`
fn region_of(headers: &HeaderMap) -> String {
    let signed = headers["authorization"].to_str().unwrap();
    signed.split('/').nth(2).unwrap().to_owned()
}

/// `TrentService.Decrypt`
fn operation_of(headers: &HeaderMap) -> String {
    let target = headers["x-amz-target"].to_str().unwrap();
    target.split_once('.').unwrap().1.to_owned()
}

fn holder(url: &str, region: &'static str, name: &str) -> AwsKms {
    AwsKms::new(name, &Moto::config_in(url, region), TIMEOUT)
}

#[tokio::test]
async fn what_a_multi_region_key_wrapped_opens_by_its_replica_in_the_configured_region() {
    let url = Regions::start().await;
    let there = holder(&url, EU, &arn(EU, "mrk-1"));
    let data_key = DataKey::make();
    let wrapped = there.wrap(&data_key, &context("acme", "user")).await;
    let wrapped = wrapped.unwrap();
    assert_eq!(wrapped.master_key.as_str(), arn(EU, "mrk-1"));

    for name in [&*arn(US, "mrk-1"), "alias/mrk-1"] {
        let here = holder(&url, US, name);
        let opened = unwrap(&here, &wrapped).await.unwrap();
        assert_eq!(opened.expose(), data_key.expose(), "{name}");
        let rewrapped = here.rewrap(&wrapped, &context("acme", "user")).await;
        let rewrapped = rewrapped.unwrap();
        assert_eq!(rewrapped.master_key.as_str(), arn(US, "mrk-1"), "{name}");
        let opened = unwrap(&here, &rewrapped).await.unwrap();
        assert_eq!(opened.expose(), data_key.expose(), "{name}");
        assert!(here.holds(&wrapped.master_key).await.unwrap(), "{name}");
    }
    // Beside a holder that cannot be asked, the order of the settings does not matter.
    let other = Arc::new(holder("http://127.0.0.1:1", EU, &arn(EU, "other")));
    let all = MasterKeys::new(other, vec![Arc::new(holder(&url, US, &arn(US, "mrk-1")))]);
    let opened = unwrap(&all, &wrapped).await.unwrap();
    assert_eq!(opened.expose(), data_key.expose());
}

#[tokio::test]
async fn a_key_of_another_region_that_is_no_replica_stays_unconfigured() {
    let url = Regions::start().await;
    for (recorded, configured) in [
        (arn(EU, "1"), arn(US, "1")),
        (arn(EU, "mrk-1"), arn(US, "mrk-2")),
        (arn(EU, "mrk-1"), "alias/mrk-2".to_owned()),
        (
            arn(EU, "mrk-1"),
            arn(US, "mrk-1").replace("111122223333", "444455556666"),
        ),
    ] {
        let there = holder(&url, EU, &recorded);
        let wrapped = there.wrap(&DataKey::make(), &context("acme", "user")).await;
        let wrapped = wrapped.unwrap();
        let here = holder(&url, US, &configured);
        let opened = unwrap(&here, &wrapped).await;
        let refused = matches!(opened, Err(KmsFault::NotConfigured(_)));
        assert!(refused, "{recorded} by {configured}: {opened:?}");
        let rewrapped = here.rewrap(&wrapped, &context("acme", "user")).await;
        assert!(matches!(rewrapped, Err(KmsFault::NotConfigured(_))));
    }
}
