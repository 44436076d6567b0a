//! Reflection, in both of its versions: older clients know `v1alpha` only.

use tonic::{codec::CompressionEncoding, service::Routes};
use tonic_reflection::{
    pb::{v1, v1alpha},
    server::Builder,
};

use super::open::MAX_BYTES;

/// Adds `grpc.reflection.v1` and `grpc.reflection.v1alpha` of what these sets describe, and of both.
pub(super) fn add(routes: Routes, sets: &[&[u8]]) -> Routes {
    let builder = || {
        let both = [v1::FILE_DESCRIPTOR_SET, v1alpha::FILE_DESCRIPTOR_SET];
        // With these a client shows the details of an error as what they are.
        let errors = [tonic_types::pb::FILE_DESCRIPTOR_SET];
        let sets = sets.iter().copied().chain(errors).chain(both);
        sets.fold(
            Builder::configure(),
            Builder::register_encoded_file_descriptor_set,
        )
        .include_reflection_service(false)
    };
    let described = "the descriptors are those that the code was generated from";
    let current = builder().build_v1().expect(described);
    let former = builder().build_v1alpha().expect(described);
    routes
        .add_service(
            current
                .max_decoding_message_size(MAX_BYTES)
                .accept_compressed(CompressionEncoding::Gzip),
        )
        .add_service(
            former
                .max_decoding_message_size(MAX_BYTES)
                .accept_compressed(CompressionEncoding::Gzip),
        )
}
