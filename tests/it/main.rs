//! The integration tests: the real server on real listeners over a real Postgres, every scenario
//! through both transports.

#![allow(
    clippy::unwrap_used,
    reason = "a test that finds something else than it expects ends there"
)]

mod harness;

mod abuse;
mod admin;
mod annotations;
mod audit;
mod audit_reading;
mod authority;
mod aws_kms;
mod callers;
mod canary;
mod connections;
mod dashboard;
mod data_keys;
mod database;
mod dev;
mod docs_page;
mod doctor;
mod exchanged_before;
mod grpc_compression;
mod grpc_contract;
mod grpc_errors;
mod grpc_input;
mod grpc_services;
mod import;
mod issuer_keys;
mod kms_outage;
mod limits;
mod logging;
mod long_list;
mod memory;
mod metadata;
mod openapi;
mod operators;
mod otlp;
mod outages;
mod outgoing;
mod output;
mod python_sdk;
mod readme;
mod replicas;
mod rest_body;
mod rest_http;
mod rest_input;
mod rest_lists;
mod rest_shapes;
mod restrictions;
mod revocations;
mod rotation;
mod sealing;
mod settings;
mod statements;
mod stop;
mod tamper;
mod tenancy;
mod tidy;
mod tls;
mod together;
mod tokens;
mod traces;
mod under_load;
mod vectors;
mod verbs;
mod webhook;
