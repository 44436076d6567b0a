//! The routes in the protobuf annotations are the routes that are served, no more and no fewer.

use std::{borrow::Cow, collections::BTreeSet};

use grantex_vault::{gateway::ROUTES, grpc::DESCRIPTOR_SET};
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};
use reqwest::Method;

use crate::harness::{Server, Via};

const SERVICES: [&str; 2] = [
    "grantex.vault.v1.VaultService",
    "grantex.vault.v1.AuditService",
];

/// The methods of all services.
fn methods(pool: &DescriptorPool) -> Vec<MethodDescriptor> {
    let services = SERVICES.iter().map(|name| pool.get_service_by_name(name));
    let services = services.map(|service| service.expect("it is described"));
    services
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .collect()
}

/// The method's `google.api.http` rule.
fn rule(pool: &DescriptorPool, method: &MethodDescriptor) -> DynamicMessage {
    let extension = pool.get_extension_by_name("google.api.http").unwrap();
    let options = method.options();
    assert!(
        options.has_extension(&extension),
        "{} has a route",
        method.name()
    );
    options
        .get_extension(&extension)
        .as_message()
        .unwrap()
        .clone()
}

/// The rule's method and path.
fn route(rule: &DynamicMessage) -> (String, String) {
    let patterns = ["get", "put", "post", "delete", "patch"];
    let mut found = patterns.iter().filter(|name| rule.has_field_by_name(name));
    let name = found.next().expect("a rule has a pattern");
    assert!(found.next().is_none() && !rule.has_field_by_name("custom"));
    let path = rule.get_field_by_name(name).unwrap();
    (name.to_uppercase(), path.as_str().unwrap().to_owned())
}

/// Each method of the services by name, with the route that its annotation states.
pub(crate) fn stated_routes() -> Vec<(String, (String, String))> {
    let pool = DescriptorPool::decode(DESCRIPTOR_SET).unwrap();
    let named = |method: MethodDescriptor| (method.name().to_owned(), route(&rule(&pool, &method)));
    methods(&pool).into_iter().map(named).collect()
}

#[test]
fn the_annotations_state_the_routes_that_the_gateway_serves() {
    let pool = DescriptorPool::decode(DESCRIPTOR_SET).unwrap();
    let mut stated = Vec::new();
    for method in methods(&pool) {
        let rule = rule(&pool, &method);
        stated.push(route(&rule));
        let bindings = rule.get_field_by_name("additional_bindings").unwrap();
        assert!(bindings.as_list().unwrap().is_empty(), "no second routes");
        let (verb, _) = route(&rule);
        let body = rule.get_field_by_name("body").map(Cow::into_owned);
        let all = Some(Value::String(
            if verb == "POST" { "*" } else { "" }.to_owned(),
        ));
        assert_eq!(
            body,
            all,
            "{} takes the body as a whole, or none",
            method.name()
        );
    }
    assert_eq!(stated.len(), ROUTES.len());
    let stated: BTreeSet<_> = stated.into_iter().collect();
    let served = ROUTES.map(|(method, path)| (method.to_owned(), path.to_owned()));
    assert_eq!(stated, served.into());
}

#[test]
fn the_path_parameters_are_fields_of_their_messages() {
    let pool = DescriptorPool::decode(DESCRIPTOR_SET).unwrap();
    for method in methods(&pool) {
        let (_, path) = route(&rule(&pool, &method));
        for segment in path.split('/').filter(|segment| segment.starts_with('{')) {
            let name = segment.trim_matches(['{', '}']);
            assert!(method.input().get_field_by_name(name).is_some(), "{path}");
        }
    }
}

#[tokio::test]
async fn every_route_is_served() {
    let server = Server::start().await;
    let nobody = server.client_with(Via::Rest, None);
    for (method, path) in ROUTES {
        let method: Method = method.parse().unwrap();
        let request = nobody.http(method.clone(), &path.replace("{id}", "vc_1"));
        let status = request.send().await.unwrap().status();
        assert_eq!(status, 401, "{method} {path} is there and asks who calls");
    }
}
