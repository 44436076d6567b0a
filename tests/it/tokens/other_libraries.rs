//! Tokens that other libraries sign: what issuers use, not only our own helper.

use serde_json::{Value, json};

use super::Gate;
use crate::harness::{node, python};

#[tokio::test]
async fn tokens_of_the_libraries_that_issuers_use_are_taken() {
    let gate = Gate::open().await;
    let forms = [(gate.claims(), "JWT"), (gate.standard_claims(), "at+jwt")];
    for (claims, token_type) in forms {
        let asked = json!({"claims": claims, "type": token_type}).to_string();
        let outputs = [
            python("tokens/sign.py", asked.clone()).await,
            node("tokens/sign.mjs", asked).await,
        ];
        let lists = outputs
            .iter()
            .map(|output| serde_json::from_str(output).unwrap());
        let signed: Vec<Value> = lists.flat_map(|list: Vec<Value>| list).collect();
        assert_eq!(signed.len(), 6);
        let keys: Vec<Value> = signed.iter().map(|one| one["jwk"].clone()).collect();
        gate.publish_all(&keys);
        for one in &signed {
            let library = one["library"].as_str().unwrap();
            gate.admits(library, one["token"].as_str().unwrap()).await;
        }
    }
}
