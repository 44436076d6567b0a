//! The official Python SDK, unmodified.

use crate::harness::{Dev, instance_directory, python};

#[tokio::test]
async fn the_python_sdk_works_with_only_its_base_url_changed() {
    let directory = instance_directory();
    let dev = Dev::start(directory.path(), &[]).await;
    python("sdk/check.py", dev.instance.to_string()).await;
}
